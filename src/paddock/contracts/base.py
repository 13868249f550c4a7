"""What an endpoint contract is: `@endpoint`, its facts, the request's context and the kinds of replies.

A contract is an ordinary function without a body. `@endpoint` makes it a pluggy hookspec (``firstresult=True``) and
notes method, path, status, access and errors; ``paddock.routes`` turns each into a route. The function's name is hook
name, operation id and log event at once. Its parameters are exactly one of ``(ctx)``, ``(ctx, params)``, ``(ctx, data)``
and ``(ctx, params, data)``; defaults live in the structs.

An implementation that is ``async def`` always claims the call. A plain ``def`` returns an awaitable to claim it, or None
to leave it to the next plugin. The plugin registered last is asked first.
"""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
import pluggy

from paddock.errors import PaddockError

PROJECT = "paddock"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Kind = Literal["json", "text", "reply", "upload", "download", "proxy", "websocket"]
Access = Literal["open", "read", "write", "infer", "manage"]
Api = Literal["llamafarm", "chat", "openai", "anthropic", "llamactl", "llamactl-old"]

F = TypeVar("F", bound=Callable[..., Any])
FORM_BYTES = 1024 * 1024  # of all plain fields of a multipart body
Json = Any  # what msgspec.json.decode returns: None, bool, int, float, str, list, dict

Name = Annotated[
    str, msgspec.Meta(max_length=10_000, description="1 to 64 of letters, digits, dot, underscore, hyphen")
]


class In(msgspec.Struct, frozen=True):
    """Where a field of a parameter struct comes from when it is neither in the path nor in the query."""

    header: str


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What a key is limited to. `projects` (``namespace/project``, ``namespace/*``) and `models` (names, or beginnings with
    ``*`` behind them) are None when they are not limited; with only one of the two given, the key can't use the other kind.
    """

    verbs: frozenset[Access] = frozenset({"infer"})
    projects: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the kind of the credential, a short printable label for logs, the stored key's or the token's id (None for
    keys of the settings), its limits, and when it ends in seconds since 1970.

    `scope` is None for a caller without limits (nobody needs a key, a management key, a user of the older API).
    """

    kind: Literal["anonymous", "management", "inference", "user"] = "anonymous"
    label: str = "anonymous"
    key_id: str | None = None
    scope: Scope | None = None
    expires: float | None = None

    def may_enter(self, namespace: str, project: str) -> bool:
        """Whether the project exists for the caller. Paths that name a project are checked before the implementation runs;
        it asks where a project is named elsewhere."""
        scope = self.scope
        if scope is None or (scope.models is None and scope.projects is None):
            return True
        return any(one in (f"{namespace}/{project}", f"{namespace}/*") for one in scope.projects or ())

    def may_use(self, model: str) -> bool:
        """Whether the gateway may serve this model to the caller."""
        scope = self.scope
        if scope is None or (scope.models is None and scope.projects is None):
            return True
        return any(model == one or (one.endswith("*") and model.startswith(one[:-1])) for one in scope.models or ())


class Context:
    """What an implementation may know of the request besides its parameters.

    `headers` have lower-case names; `response_headers` are added to the reply. Work of kind ``reply`` is cancelled when
    its client leaves, streams and websockets also when the server shuts down: clean up in ``finally``.
    """

    __slots__ = ("base_url", "caller", "endpoint", "headers", "request_id", "response_headers")

    def __init__(
        self,
        endpoint: Endpoint,
        request_id: str,
        base_url: str,
        headers: Mapping[str, str],
        caller: Caller = Caller(),  # noqa: B008  frozen
    ) -> None:
        self.endpoint = endpoint
        self.request_id = request_id
        self.base_url = base_url
        self.headers = headers
        self.caller = caller
        self.response_headers: dict[str, str] = {}


class Service:
    """Implementations of endpoint contracts that belong to one application: the hook ``paddock_services`` hands them over.

    Two applications may live in one process, so state belongs here and not into the plugin object.
    """

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Entered when the state is open and the core's services run, left before they stop. Raises PaddockError when the
        server can't start like this."""
        yield


class Reply(msgspec.Struct, kw_only=True):
    """A reply that the implementation has encoded itself: bytes, or a stream of them.

    A stream's first chunk is fetched before the response starts, so an error raised before it still becomes a proper
    status; a later `PaddockError` becomes an SSE error event when the media type is ``text/event-stream``.
    """

    body: bytes | AsyncIterator[bytes]
    media_type: str = "application/json"
    status: int = 200
    headers: dict[str, str] = {}


class Download(msgspec.Struct, kw_only=True):
    """A file to send; always with ``nosniff`` and as an attachment, because its bytes came from outside."""

    path: Path
    filename: str
    media_type: str = "application/octet-stream"


class UploadedFile(Protocol):
    """One file part of a multipart body that is still arriving."""

    @property
    def field(self) -> str:
        """Form field name."""

    @property
    def filename(self) -> str:
        """The client's file name: hostile; never a path."""

    @property
    def content_type(self) -> str:
        """The part's content type, or application/octet-stream."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, in pieces of at most 1 MiB."""


class Upload(Protocol):
    """A multipart body read as it arrives; nothing is held in memory.

    ``async for part in upload`` gives the file parts in order; consume each before the next. Plain fields met so far
    are in `fields`.
    """

    fields: dict[str, str]

    def __aiter__(self) -> AsyncIterator[UploadedFile]:
        """The file parts."""


class RawRequest(Protocol):
    """The request of a `proxy` endpoint: nothing parsed, the path as it was sent."""

    method: str
    raw_path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The body, as it arrives."""


class Socket(Protocol):
    """A websocket; the path as it was sent. `protocols` are those that the client offers, `close_code` the one it left with."""

    raw_path: bytes
    query: bytes
    protocols: tuple[str, ...]
    close_code: int | None

    async def accept(self, protocol: str | None = None) -> None:
        """Complete the handshake, with one of the offered protocols. The first message in either direction does it too, with
        none of them; idempotent."""

    async def receive(self) -> str | bytes | None:
        """The next message, or None when the client has left."""

    async def send(self, message: str | bytes) -> None:
        """Send one message."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; idempotent."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one contract, as `routes.py`, the OpenAPI document and the tests read them."""

    name: str
    group: str
    method: str
    path: str
    api: Api
    kind: Kind
    status: int
    access: Access
    tags: tuple[str, ...]
    raises: tuple[type[PaddockError], ...]
    params: type | None
    data: Any
    returns: Any
    body_limit: int | None
    reply: Any
    form: tuple[str, ...]
    form_bytes: int
    late_credential: bool
    doc: str


_SHAPES = {("ctx",), ("ctx", "params"), ("ctx", "data"), ("ctx", "params", "data")}


def endpoint(
    method: str,
    path: str,
    *,
    access: Access,
    api: Api = "llamafarm",
    kind: Kind = "json",
    status: int = 200,
    tags: tuple[str, ...] = (),
    raises: tuple[type[PaddockError], ...] = (),
    body_limit: int | None = None,
    reply: Any = None,
    form: tuple[str, ...] = ("file",),
    form_bytes: int = FORM_BYTES,
    late_credential: bool = False,
) -> Callable[[F], F]:
    """Declare a contract.

    `body_limit` in bytes replaces the setting ``server.max_body_bytes`` for this path (0: no limit but the
    implementation's own). `reply` is the type of the JSON body of kind ``reply``, for the OpenAPI document; `form` names
    the file fields of kind ``upload``, `form_bytes` bounds its plain fields together. `late_credential` lets a websocket
    present its credential as a subprotocol (``bearer.TOKEN``) or in its first message (``{"type": "auth", "token": …}``),
    because browsers can't set its headers; never in the query.
    """

    def declare(function: F) -> F:
        given = tuple(inspect.signature(function).parameters)
        if given not in _SHAPES:
            raise TypeError(f"{function.__qualname__}{given}: a contract takes (ctx[, params][, data])")
        if not function.__doc__:
            raise TypeError(f"{function.__qualname__} has no docstring: the contract is its documentation")
        function.__paddock_endpoint__ = {  # type: ignore[attr-defined]  # read back by endpoint_of
            "name": function.__name__,
            "group": function.__module__.rpartition(".")[2],
            "method": method,
            "path": path,
            "api": api,
            "kind": kind,
            "status": status,
            "access": access,
            "tags": tags,
            "raises": raises,
            "body_limit": body_limit,
            "reply": reply,
            "form": form,
            "form_bytes": form_bytes,
            "late_credential": late_credential,
            "doc": function.__doc__,
        }
        return hookspec(firstresult=True)(function)

    return declare


def endpoint_of(function: Callable[..., Any]) -> Endpoint | None:
    """The facts of a contract function, or None for any other object. Types are resolved here, not at import."""
    return None if getattr(function, "__paddock_endpoint__", None) is None else _declared(function)


@functools.cache  # resolving the types takes half a millisecond, and every application asks for every contract
def _declared(function: Callable[..., Any]) -> Endpoint:
    facts: dict[str, Any] = function.__paddock_endpoint__  # type: ignore[attr-defined]  # written by `endpoint`
    hints = typing.get_type_hints(function, include_extras=True)
    returns = typing.get_args(hints["return"])
    if typing.get_origin(hints["return"]) is not Awaitable or not returns:
        raise TypeError(f"{facts['name']} must return Awaitable[…]")
    return Endpoint(**facts, params=hints.get("params"), data=hints.get("data"), returns=returns[0])


def endpoints_of(module: object) -> list[Endpoint]:
    """All contracts of a module, in the order they are written."""
    found = (endpoint_of(value) for value in vars(module).values() if callable(value))
    return [item for item in found if item is not None]


@functools.cache
def path_shape(path: str) -> str:
    """A path without the names of its parameters: what a router tells apart."""
    return re.sub(r"{[^}]*}", "{}", path)


def path_names(path: str) -> frozenset[str]:
    """The parameter names in a path: ``/v1/{a}/{b:path}`` gives a and b."""
    return frozenset(re.findall(r"{(\w+)", path))


def parameter_plan(endpoint: Endpoint) -> Sequence[tuple[str, str, str, bool]]:
    """For each field of the parameter struct: name, source (path, query, header), key in the source, whether a list."""
    if endpoint.params is None:
        return ()
    in_path = path_names(endpoint.path)
    hints = typing.get_type_hints(endpoint.params, include_extras=True)
    plan = []
    for field in msgspec.structs.fields(endpoint.params):
        hint = hints[field.name]
        header = header_of(hint)
        source = "path" if field.name in in_path else "header" if header else "query"
        many = source == "query" and any(typing.get_origin(part) in (list, tuple) for part in _union_parts(hint))
        plan.append((field.name, source, header.lower() if header else field.encode_name, many))
    return plan


def header_of(hint: Any) -> str | None:
    """The header that an ``Annotated[…, In("X-Name")]`` field comes from."""
    if typing.get_origin(hint) is Annotated:
        return next((extra.header for extra in typing.get_args(hint)[1:] if isinstance(extra, In)), None)
    return None


def _union_parts(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    return (hint, *typing.get_args(hint)) if typing.get_origin(hint) not in (list, tuple) else (hint,)
