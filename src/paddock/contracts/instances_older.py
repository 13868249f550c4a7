"""llama-server instances as llamactl's older API has them, under ``/api``: another view of the same instances.

Times are RFC 3339. Errors are ``{error, code, details}``.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Json, Reply, Socket, endpoint
from paddock.errors import BadRequest, Conflict, InstanceNotFound

LogLevel = Literal["debug", "info", "warn", "error"]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class OlderInstancePath(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's name."""

    name: str


class OlderLogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The last `lines` of at least this `level`; `follow` streams objects as server-sent events."""

    name: str
    lines: int = 100
    follow: bool = False
    level: LogLevel | None = None


class OlderCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An instance to create. `options` by the older names (``threads, context_size, gpu_layers``) or by llama-server's."""

    name: str
    model_path: str
    port: Port | None = None
    options: dict[str, Json] = {}


class OlderUpdate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change; options are merged, null removes one."""

    model_path: str | msgspec.UnsetType = msgspec.UNSET
    port: Port | msgspec.UnsetType | None = msgspec.UNSET
    options: dict[str, Json] = {}


class OlderStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to stop: `force` kills at once, `timeout` bounds the grace in seconds. No body, ``{}`` and null mean the defaults."""

    force: bool = False
    timeout: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30

    @classmethod
    def decode(cls, body: bytes) -> OlderStop:
        """Read the body, null included."""
        return _decode_stop(body) or cls()


_decode_stop = msgspec.json.Decoder(OlderStop | None).decode


class OlderInstance(msgspec.Struct, frozen=True, kw_only=True):
    """An instance in the list."""

    name: str
    status: str
    model_path: str
    port: int | None
    created_at: str
    updated_at: str


class OlderCreated(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as its creation answers it."""

    name: str
    status: str
    model_path: str
    port: int | None
    created_at: str


class InstanceStats(msgspec.Struct, frozen=True, kw_only=True):
    """Of the whole process group: memory in bytes, CPU in percent of one core, uptime in whole seconds."""

    memory_usage: int
    cpu_usage: float
    uptime: int


class OlderInstanceDetail(msgspec.Struct, frozen=True, kw_only=True):
    """An instance in full; `stats` is null while it does not run."""

    name: str
    status: str
    model_path: str
    port: int | None
    pid: int | None
    options: dict[str, Json]
    stats: InstanceStats | None
    created_at: str
    updated_at: str
    last_error: str | None


class OlderInstances(msgspec.Struct, frozen=True, kw_only=True):
    """All instances."""

    instances: list[OlderInstance]


class OlderCreateReply(msgspec.Struct, frozen=True, kw_only=True):
    """The new instance."""

    message: str
    instance: OlderCreated


class OlderUpdateReply(msgspec.Struct, frozen=True, kw_only=True):
    """The changed instance."""

    message: str
    instance: OlderInstanceDetail


class OlderMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    message: str


class OlderAction(msgspec.Struct, frozen=True, kw_only=True):
    """What was begun, and the status from now on."""

    message: str
    status: str


class NameAndStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a batch."""

    name: str
    status: str


class OlderBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What was begun for which instances; `errors` by name."""

    message: str
    instances: list[NameAndStatus]
    errors: dict[str, str]


class HealthChecks(msgspec.Struct, frozen=True, kw_only=True):
    """``process`` running or stopped, ``port`` open or closed, ``response`` ok, loading or failed."""

    process: str
    port: str
    response: str


class OlderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """``healthy``, ``starting`` or ``unhealthy``, with what was looked at."""

    status: str
    checks: HealthChecks
    last_check: str


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a log."""

    timestamp: str
    level: LogLevel
    message: str


class OlderLogs(msgspec.Struct, frozen=True, kw_only=True):
    """The last lines."""

    logs: list[LogLine]


@endpoint("GET", "/api/instances", access="manage", api="llamactl-old")
def older_instance_list(ctx: Context) -> Awaitable[OlderInstances]:
    """List the instances."""


@endpoint("POST", "/api/instances", access="manage", api="llamactl-old", status=201, raises=(BadRequest, Conflict))
def older_instance_create(ctx: Context, data: OlderCreate) -> Awaitable[OlderCreateReply]:
    """Create an instance, stopped."""


@endpoint("POST", "/api/instances/start-all", access="manage", api="llamactl-old")
def older_instances_start_all(ctx: Context) -> Awaitable[OlderBatch]:
    """Begin to start every stopped instance, as many as may run."""


@endpoint("POST", "/api/instances/stop-all", access="manage", api="llamactl-old")
def older_instances_stop_all(ctx: Context) -> Awaitable[OlderBatch]:
    """Begin to stop every running instance."""


@endpoint("GET", "/api/instances/{name}", access="manage", api="llamactl-old", raises=(InstanceNotFound,))
def older_instance_get(ctx: Context, params: OlderInstancePath) -> Awaitable[OlderInstanceDetail]:
    """Return one instance with its figures."""


@endpoint("PUT", "/api/instances/{name}", access="manage", api="llamactl-old", raises=(BadRequest, InstanceNotFound))
def older_instance_update(ctx: Context, params: OlderInstancePath, data: OlderUpdate) -> Awaitable[OlderUpdateReply]:
    """Merge options into an instance; a running one restarts with them."""


@endpoint("DELETE", "/api/instances/{name}", access="manage", api="llamactl-old", raises=(InstanceNotFound, Conflict))
def older_instance_delete(ctx: Context, params: OlderInstancePath) -> Awaitable[OlderMessage]:
    """Delete a stopped instance; 409 with the code INSTANCE_RUNNING for any other."""


@endpoint(
    "POST", "/api/instances/{name}/start", access="manage", api="llamactl-old", raises=(InstanceNotFound, Conflict)
)
def older_instance_start(ctx: Context, params: OlderInstancePath) -> Awaitable[OlderAction]:
    """Begin to start."""


@endpoint("POST", "/api/instances/{name}/stop", access="manage", api="llamactl-old", raises=(InstanceNotFound,))
def older_instance_stop(ctx: Context, params: OlderInstancePath, data: OlderStop) -> Awaitable[OlderAction]:
    """Begin to stop."""


@endpoint(
    "POST", "/api/instances/{name}/restart", access="manage", api="llamactl-old", raises=(InstanceNotFound, Conflict)
)
def older_instance_restart(ctx: Context, params: OlderInstancePath) -> Awaitable[OlderAction]:
    """Begin to stop and start again."""


@endpoint("GET", "/api/instances/{name}/health", access="manage", api="llamactl-old", raises=(InstanceNotFound,))
def older_instance_health_get(ctx: Context, params: OlderInstancePath) -> Awaitable[OlderHealth]:
    """Look at an instance's process, port and answer."""


@endpoint(
    "GET",
    "/api/instances/{name}/logs",
    access="manage",
    api="llamactl-old",
    kind="reply",
    reply=OlderLogs,
    raises=(InstanceNotFound,),
)
def older_instance_logs_get(ctx: Context, params: OlderLogQuery) -> Awaitable[Reply]:
    """The last lines as objects, or a stream of them."""


@endpoint("GET", "/api/ws", access="manage", api="llamactl-old", kind="websocket", late_credential=True)
def older_events_socket(ctx: Context, data: Socket) -> Awaitable[None]:
    """Send ``{type, timestamp, data}`` for every change of a status (``instance_status_changed``), the figures of running
    instances (``instance_stats_updated``) and ``system_alert``. A client that reads too slowly loses the oldest messages
    and is told how many."""
