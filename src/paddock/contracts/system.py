"""The server itself: root, health, version, disk, its own API document."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, In, Json, Reply, endpoint
from paddock.errors import NotFound

Status = Literal["healthy", "degraded", "unhealthy"]


class RootHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that asks for HTML gets the status page."""

    accept: Annotated[str, In("Accept")] = ""


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The documented greeting."""

    message: str


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """Version and data folder."""

    version: str
    data_directory: str


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the server; latency in milliseconds."""

    name: str
    status: Status
    message: str
    latency_ms: float | None
    details: dict[str, Json] | None = None


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What models run on."""

    type: str
    name: str
    cores: int
    memory_bytes: int


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """LlamaFarm's and the Universal Runtime's health in one; overall is the worst part; time in seconds since 1970."""

    status: Status
    services: dict[str, Status]
    summary: str
    components: list[Component]
    timestamp: int
    device: Device
    loaded_models: list[str]
    pid: int


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["alive"]


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The newest release; offline it is the installed one, and `from_cache` is true."""

    current_version: str
    latest_version: str
    name: str
    release_notes: str
    release_url: str
    published_at: str | None
    from_cache: bool
    install: dict[str, str]


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A file system, in bytes and percent."""

    total_bytes: int
    used_bytes: int
    free_bytes: int
    path: str
    percent_free: float


class DiskReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where models are cached, and the system's root."""

    cache: Disk
    system: Disk


class PluginReport(msgspec.Struct, frozen=True, kw_only=True):
    """One plugin: what it provides by capability, the health of each provider, or why it did not load."""

    name: str
    version: str
    provides: dict[str, list[str]]
    endpoints: list[str]
    error: str | None
    health: dict[str, Component]


class PluginList(msgspec.Struct, frozen=True, kw_only=True):
    """All plugins, the core first."""

    total: int
    plugins: list[PluginReport]


@endpoint("GET", "/", access="open", kind="reply", reply=Hello)
def root_get(ctx: Context, params: RootHeaders) -> Awaitable[Reply]:
    """Greet; a browser gets a page with status and links."""


@endpoint("GET", "/info", access="read")
def info_get(ctx: Context) -> Awaitable[Info]:
    """Return the version and the data folder."""


@endpoint("GET", "/health", access="read")
def health_get(ctx: Context) -> Awaitable[HealthReport]:
    """Return the health of the server and of every provider that a project uses; each look takes at most two seconds."""


@endpoint("GET", "/health/liveness", access="open")
def liveness_get(ctx: Context) -> Awaitable[Alive]:
    """Tell that the process answers."""


@endpoint("GET", "/openapi.json", access="read", kind="reply")
def openapi_get(ctx: Context) -> Awaitable[Reply]:
    """Return the OpenAPI document of everything that is served."""


@endpoint("GET", "/docs", access="read", kind="reply")
def docs_get(ctx: Context) -> Awaitable[Reply]:
    """Show the OpenAPI document as a page that loads nothing from elsewhere."""


@endpoint("GET", "/swagger", access="read", kind="reply", raises=(NotFound,))
def swagger_get(ctx: Context) -> Awaitable[Reply]:
    """Show the same page with a form for every operation, if the setting ``server.swagger`` is on; else 404."""


@endpoint("GET", "/v1/system/version-check", access="read")
def version_check_get(ctx: Context) -> Awaitable[Release]:
    """Compare with the newest release, if the setting ``system.version_check`` allows to ask PyPI."""


@endpoint("GET", "/v1/system/disk", access="read")
def disk_get(ctx: Context) -> Awaitable[DiskReport]:
    """Return the free space where models are cached and on the system's root."""


@endpoint("GET", "/v1/system/plugins", access="read")
def plugins_list(ctx: Context) -> Awaitable[PluginList]:
    """List the plugins with what they provide and how they are."""
