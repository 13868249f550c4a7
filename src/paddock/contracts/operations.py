"""The host and the server's settings, as llamactl's older API shows them under ``/api``."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar

import msgspec

from paddock.contracts.base import Context, Json, endpoint
from paddock.contracts.providers import InstanceCounts
from paddock.errors import BadRequest


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """CPU and disk in percent, memory in bytes."""

    cpu_usage: float
    memory_usage: int
    memory_total: int
    disk_usage: float


class SystemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`uptime` of the server in whole seconds."""

    version: str
    uptime: int
    instances: InstanceCounts
    resources: Resources


class SystemInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The host; `os` and `arch` in Go's words (``linux``, ``amd64``), memory in bytes, time as RFC 3339."""

    hostname: str
    os: str
    arch: str
    cpu_count: int
    memory_total: int
    version: str
    build_time: str


class ConfigChange(msgspec.Struct, frozen=True):
    """Sections of the settings with the keys to change; null takes a change back."""

    described: ClassVar[Any] = dict[str, dict[str, Any]]

    given: dict[str, dict[str, Json]]

    @classmethod
    def decode(cls, body: bytes) -> ConfigChange:
        """Read the object. Raises msgspec.ValidationError for anything else."""
        given = msgspec.json.decode(body, type=dict[str, Json])
        for section, keys in given.items():
            if not isinstance(keys, dict):
                raise msgspec.ValidationError(f"Expected `object`, got `{type(keys).__name__}` - at `$.{section}`")
        return cls(given)


class ConfigChanged(msgspec.Struct, frozen=True, kw_only=True):
    """What the settings will be after a restart, secrets masked."""

    message: str
    requires_restart: bool
    config: dict[str, Json]


@endpoint("GET", "/api/system/status", access="manage", api="llamactl-old")
def system_status_get(ctx: Context) -> Awaitable[SystemStatus]:
    """Return what the host and its instances are doing."""


@endpoint("GET", "/api/system/info", access="manage", api="llamactl-old")
def system_info_get(ctx: Context) -> Awaitable[SystemInfo]:
    """Return what the host is."""


@endpoint("GET", "/api/config", access="manage", api="llamactl-old")
def config_get(ctx: Context) -> Awaitable[dict[str, Json]]:
    """Return the settings in effect, section by section, secrets masked."""


@endpoint("PUT", "/api/config", access="manage", api="llamactl-old", raises=(BadRequest,))
def config_update(ctx: Context, data: ConfigChange) -> Awaitable[ConfigChanged]:
    """Write settings into ``{data}/settings.toml``, whole or not at all; they count from the next start on. Keys, commands,
    paths, addresses, lists and tables can't be set here."""
