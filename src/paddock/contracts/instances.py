"""llama-server instances as llamactl's newer API has them, under ``/api/v1``.

Times are whole seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar, Literal

import msgspec

from paddock.contracts.base import Context, Json, RawRequest, Reply, Socket, endpoint
from paddock.errors import BadRequest, Conflict, InstanceNotFound, PaddockError, ProviderUnavailable

InstanceStatus = Literal["stopped", "starting", "running", "stopping", "restarting", "failed"]


class InstancePath(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's name: 1 to 64 of letters, digits, dot, underscore, hyphen."""

    name: str


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the log: the last `lines` (absent, 0 or -1: all); `follow` streams what comes."""

    name: str
    lines: int = -1
    follow: bool = False


class ProxyPath(msgspec.Struct, frozen=True, kw_only=True):
    """An instance's name and the path inside it; what is forwarded is the raw path, not this one."""

    name: str
    path: str = ""


class InstanceOptions(msgspec.Struct, frozen=True):
    """The body of a create or update, flat (``{"model": …}``) or nested (``backend_type``, ``backend_options``).

    `given` is the object as it came: the implementation knows the options of its llama-server, tells absent from 0 and
    false, and takes null in an update as the wish to remove.
    """

    described: ClassVar[Any] = dict[str, Any]

    given: dict[str, Json]

    @classmethod
    def decode(cls, body: bytes) -> InstanceOptions:
        """Read the object. Raises msgspec.ValidationError for anything but an object."""
        return cls(msgspec.json.decode(body, type=dict[str, Json]))


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """An instance. `options` in the nested form, secrets masked; `port` and `pid` null when there are none; `last_error`
    says why it failed, with the last lines of its log."""

    name: str
    status: InstanceStatus
    created: int
    options: dict[str, Json]
    port: int | None
    pid: int | None
    last_error: str | None
    warnings: list[str] = []


_CHANGES = (BadRequest, InstanceNotFound, Conflict)


@endpoint("GET", "/api/v1/version", access="manage", api="llamactl", kind="text")
def llamactl_version_get(ctx: Context) -> Awaitable[str]:
    """Version, commit and build time, one a line."""


@endpoint("GET", "/api/v1/server/help", access="manage", api="llamactl", kind="text", raises=(PaddockError,))
def llama_server_help_get(ctx: Context) -> Awaitable[str]:
    """What ``llama-server --help`` prints."""


@endpoint("GET", "/api/v1/server/version", access="manage", api="llamactl", kind="text", raises=(PaddockError,))
def llama_server_version_get(ctx: Context) -> Awaitable[str]:
    """What ``llama-server --version`` prints."""


@endpoint("GET", "/api/v1/server/devices", access="manage", api="llamactl", kind="text", raises=(PaddockError,))
def llama_server_devices_get(ctx: Context) -> Awaitable[str]:
    """What ``llama-server --list-devices`` prints."""


@endpoint("GET", "/api/v1/instances", access="manage", api="llamactl")
def instance_list(ctx: Context) -> Awaitable[list[InstanceView]]:
    """List the instances."""


@endpoint("GET", "/api/v1/instances/{name}", access="manage", api="llamactl", raises=(InstanceNotFound,))
def instance_get(ctx: Context, params: InstancePath) -> Awaitable[InstanceView]:
    """Return one instance."""


@endpoint(
    "POST", "/api/v1/instances/{name}", access="manage", api="llamactl", status=201, raises=(BadRequest, Conflict)
)
def instance_create(ctx: Context, params: InstancePath, data: InstanceOptions) -> Awaitable[InstanceView]:
    """Create an instance and begin to start it. What is wrong with a name, an option, a port or a file is a 400, and then
    nothing is created; an existing name or a reached limit is a 409."""


@endpoint("PUT", "/api/v1/instances/{name}", access="manage", api="llamactl", raises=_CHANGES)
def instance_update(ctx: Context, params: InstancePath, data: InstanceOptions) -> Awaitable[InstanceView]:
    """Merge options into an instance (null removes one); a running one restarts with them."""


@endpoint("DELETE", "/api/v1/instances/{name}", access="manage", api="llamactl", status=204, raises=(InstanceNotFound,))
def instance_delete(ctx: Context, params: InstancePath) -> Awaitable[None]:
    """Stop an instance and remove it; returns when its process is gone."""


@endpoint("POST", "/api/v1/instances/{name}/start", access="manage", api="llamactl", raises=(*_CHANGES, PaddockError))
def instance_start(ctx: Context, params: InstancePath) -> Awaitable[InstanceView]:
    """Begin to start; idempotent. 409 when as many run as may."""


@endpoint("POST", "/api/v1/instances/{name}/stop", access="manage", api="llamactl", raises=(InstanceNotFound,))
def instance_stop(ctx: Context, params: InstancePath) -> Awaitable[InstanceView]:
    """Begin to stop; requests in flight end within the grace; idempotent."""


@endpoint("POST", "/api/v1/instances/{name}/restart", access="manage", api="llamactl", raises=(*_CHANGES, PaddockError))
def instance_restart(ctx: Context, params: InstancePath) -> Awaitable[InstanceView]:
    """Begin to stop and start again."""


@endpoint(
    "GET",
    "/api/v1/instances/{name}/logs",
    access="manage",
    api="llamactl",
    kind="reply",
    raises=(BadRequest, InstanceNotFound),
)
def instance_logs_get(ctx: Context, params: LogQuery) -> Awaitable[Reply]:
    """The log as plain text, or followed as it grows."""


_PASSED_ON = (InstanceNotFound, BadRequest, ProviderUnavailable)


@endpoint(
    "*", "/api/v1/instances/{name}/proxy", access="manage", api="llamactl", kind="proxy", body_limit=0, raises=_PASSED_ON
)  # fmt: skip
def instance_proxy_root(ctx: Context, params: InstancePath, data: RawRequest) -> Awaitable[Reply]:
    """Pass a request to the instance's ``/``, as below ``/proxy/``."""


@endpoint("GET", "/api/v1/instances/{name}/proxy", access="manage", api="llamactl", kind="websocket")
def instance_proxy_root_socket(ctx: Context, params: InstancePath, data: Socket) -> Awaitable[None]:
    """Pass a websocket to the instance's ``/``."""


@endpoint(
    "*", "/api/v1/instances/{name}/proxy/{path:path}", access="manage", api="llamactl", kind="proxy", body_limit=0,
    raises=_PASSED_ON,
)  # fmt: skip
def instance_proxy(ctx: Context, params: ProxyPath, data: RawRequest) -> Awaitable[Reply]:
    """Pass a request to the instance as it came, any method, and its reply back. 503 when it does not run."""


@endpoint("GET", "/api/v1/instances/{name}/proxy/{path:path}", access="manage", api="llamactl", kind="websocket")
def instance_proxy_socket(ctx: Context, params: ProxyPath, data: Socket) -> Awaitable[None]:
    """Pass a websocket to the instance."""
