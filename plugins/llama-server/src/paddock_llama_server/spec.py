"""What an instance is told to be (`Spec`), what it is (`Instance`), and what the APIs may ask of those who run it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec

from paddock.contracts.base import Json

Status = Literal["stopped", "starting", "running", "stopping", "restarting", "failed"]
LogLevel = Literal["debug", "info", "warn", "error"]


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's configuration, in the one form that is stored.

    `options` are llama-server's by their canonical names (underscores, ``model`` among them); what is absent is
    llama-server's own default, 0 and false are said. `extra_args` come last, in their order. None means the setting's
    default; `idle_timeout` is in minutes (0: never), `restart_delay` in seconds. `pinned` is never evicted or unloaded.
    `managed` instances were made by paddock itself for a model that a project or request named.
    """

    options: Mapping[str, Json] = {}
    extra_args: tuple[str, ...] = ()
    port: int | None = None
    environment: Mapping[str, str] = {}
    auto_restart: bool | None = None
    max_restarts: int | None = None
    restart_delay: float | None = None
    on_demand_start: bool | None = None
    idle_timeout: float | None = None
    pinned: bool = False
    group: str | None = None
    max_memory_bytes: int | None = None
    on_client_disconnect: Literal["cancel", "drain"] = "cancel"
    command_override: str | None = None
    managed: bool = False


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot. Times in seconds since 1970, None for what is not so; memory in bytes of the whole process group, CPU in
    percent of one core since the last look. `wanted` is what the last order said, `status` what is."""

    name: str
    spec: Spec
    status: Status
    wanted: Literal["running", "stopped"]
    created: float
    updated: float
    port: int | None = None
    pid: int | None = None
    started: float | None = None
    last_used: float | None = None
    in_flight: int = 0
    waiting: int = 0
    restarts: int = 0
    last_error: str | None = None
    error_code: str | None = None
    memory_bytes: int | None = None
    cpu_percent: float | None = None


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running instance listens, and the random key that only paddock and the child know."""

    base_url: str
    api_key: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: an instance's new status, or an alert (``crash_loop``, ``out_of_memory``, ``low_disk``)."""

    kind: Literal["status", "deleted", "alert"]
    time: float
    name: str
    status: Status | None = None
    before: Status | None = None
    code: str | None = None
    message: str = ""


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a child's log: when it came, the level that it states (``info`` if none), the text without its end."""

    time: float
    level: LogLevel
    text: str


class Instances(Protocol):
    """The one owner of all instances. Every method may be called at any moment; orders to one instance follow one another.

    Raises InstanceNotFound for an unknown name in all of them.
    """

    def all(self) -> list[Instance]:
        """Every instance, by name."""

    def get(self, name: str) -> Instance:
        """One."""

    async def create(self, name: str, spec: Spec, *, start: bool) -> Instance:
        """Store it, then begin to start it. Raises BadName, BadRequest (reserved name, port, file: nothing is created),
        Conflict (the name, the port, `max_instances`, `max_running_instances`)."""

    async def update(self, name: str, spec: Spec) -> Instance:
        """Store the new spec; a running instance restarts with it. Raises BadRequest, Conflict."""

    async def delete(self, name: str) -> None:
        """Refuse new requests, stop, remove row, port and log. Returns when the process is gone. Idempotent while it lasts."""

    async def start(self, name: str) -> Instance:
        """Begin to start; idempotent. Raises Conflict at once when as many run as may, BadRequest for a missing file."""

    async def stop(self, name: str, *, force: bool = False, timeout: float | None = None) -> Instance:
        """Begin to stop: drain for at most `timeout` seconds (None: the setting), signal the group, kill; `force` kills at
        once. Cancels a start and a back-off. Idempotent."""

    async def restart(self, name: str) -> Instance:
        """Begin to stop and start again. Raises as `start`."""

    async def settled(self, name: str) -> Instance:
        """Wait until it is neither starting, stopping nor restarting."""

    def lease(self, name: str, *, on_demand: bool) -> AbstractAsyncContextManager[Address]:
        """Hold a running instance for one request: it is neither evicted nor unloaded meanwhile. With `on_demand` a stopped
        or failed one is started, and room is made for it. Raises ProviderUnavailable (not running), Conflict with
        Retry-After (no room in time)."""

    def address(self, name: str) -> Address | None:
        """Where a running instance listens, for a look that is no use of it: no lease, so that looking keeps nothing awake.
        None when it does not run. Raises InstanceNotFound."""

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """What happens from now on; a slow reader loses the oldest."""

    async def log_tail(self, name: str, lines: int | None) -> list[LogEntry]:
        """The last lines (None: all that is kept), oldest first, read from the end."""

    def log_follow(self, name: str, lines: int) -> AsyncIterator[LogEntry]:
        """The last `lines`, then every new one as it comes; ends when the instance is deleted."""
