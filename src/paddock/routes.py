"""Contract to route: one Litestar handler for each endpoint, one exception handler, nobody writes a route by hand.

The handler reads path, query, headers and body itself and converts them with msgspec, because that keeps three promises
that injected parameters do not: the caller is admitted before a byte of the body is read, JSON is checked strictly, and
every error has the shape of its API with field and reason.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import WebSocket
from litestar.connection import Request
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler, WebsocketRouteHandler
from litestar.types import ASGIApp, ControllerRouterHandler

from paddock import replies
from paddock.access import Gatekeeper
from paddock.contracts.base import Caller, Context, Endpoint, Reply, parameter_plan, path_shape
from paddock.errors import (
    FieldError,
    MethodNotAllowed,
    NotFound,
    PaddockError,
    UpstreamError,
    ValidationFailed,
    field_error,
)
from paddock.logs import Log
from paddock.meter import Meter
from paddock.patience import Patience
from paddock.plugins import Plugins
from paddock.proxying import ProxiedRequest, WebSocketSession
from paddock.settings import Settings
from paddock.sockets import late_caller
from paddock.streams import (
    ClientGone,
    Hold,
    MultipartUpload,
    Streaming,
    Whole,
    file_reply,
    read_body,
    start_stream,
    while_client_stays,
)

JSON = "application/json"
Answer = Any  # one of our ASGI applications; Litestar's own type admits only its scopes
PROXY_METHODS: list[str] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Dispatcher:
    """What all routes share."""

    def __init__(self, plugins: Plugins, settings: Settings, gatekeeper: Gatekeeper, log: Log, meter: Meter) -> None:
        self.plugins = plugins
        self.settings = settings
        self.gatekeeper = gatekeeper
        self.log = log
        self.streaming = Streaming(meter, settings.server.write_timeout)
        self._table: dict[str, dict[str, Callable[..., Awaitable[Answer]]]] = {}

    def handlers(self) -> list[ControllerRouterHandler]:
        """The contracts as Litestar's handlers: one for all paths that take the same methods, because Litestar reads the
        signature of each anew, and a server has hundreds of paths; one for each websocket."""
        found: list[ControllerRouterHandler] = []
        methods_of: dict[str, dict[str, list[Endpoint]]] = {}
        for endpoint in self.plugins.endpoints:
            path = litestar_path(endpoint.path)
            if endpoint.kind == "websocket":
                found.append(WebsocketRouteHandler(path, opt={"endpoint": endpoint})(self._socket(endpoint)))
            else:
                methods_of.setdefault(path, {}).setdefault(endpoint.method, []).append(endpoint)
        alike: dict[tuple[str, ...], list[str]] = {}
        for path, groups in methods_of.items():
            answers = self._table.setdefault(path_shape(path), {})
            taken = [(method, group) for one, group in groups.items() for method in methods_for(one)]
            answers.update({method: self._answers(group) for method, group in taken})
            alike.setdefault(tuple(method for method, _ in taken), []).append(path)
        found += [self._for_paths(paths, methods) for methods, paths in alike.items()]
        return found

    def _for_paths(self, paths: Sequence[str], methods: Sequence[str]) -> HTTPRouteHandler:
        async def handle(request: Request[Any, Any, Any]) -> ASGIApp:
            scope: Any = request.scope
            answer: ASGIApp = await self._table[path_shape(scope["path_template"])][scope["method"]](request)
            return answer

        handle.__annotations__ = {"request": Request, "return": ASGIApp}
        # The replies carry their own status; Litestar would refuse one without a body (204) for a handler that returns.
        wanted: Any = methods
        return HTTPRouteHandler(paths, http_method=wanted, status_code=200)(handle)

    def _answers(self, group: Sequence[Endpoint]) -> Callable[..., Awaitable[Answer]]:
        """Contracts of one path and method: several when they differ only in what stands behind a ``:path`` parameter."""
        return self._forked(group) if any(path_suffix(one.path) for one in group) else self._http(group[0])

    def _http(self, endpoint: Endpoint) -> Callable[..., Awaitable[Answer]]:
        reader = Reader(endpoint, self.settings.server.max_body_bytes, self.settings.server.body_timeout)
        # What only looks things up may be broken off when nobody waits for it any more; what changes something may not.
        leavable = endpoint.kind in ("reply", "proxy") or (
            endpoint.data is not None and endpoint.access in ("read", "infer")
        )

        async def handle(request: Request[Any, Any, Any]) -> Answer:
            scope: Any = request.scope
            receive: Any = request.receive
            scope["paddock.endpoint"] = endpoint
            ctx = self.context(endpoint, scope)
            hold = Hold(self.streaming, self.gatekeeper, ctx.caller)
            try:
                given = await reader.read(scope, ctx, hold.receiver(receive))
                work = self._reply(endpoint, ctx, given, hold)
                if leavable:
                    return await while_client_stays(work, receive, hold, given.get("data"))
                answer = await work
            except ClientGone:
                return Whole(499, b"", JSON, {})  # nobody reads it; nginx's number for the log
            if endpoint.method == "GET" and hold.over and isinstance(answer, Whole):
                raise hold.reason
            return answer

        return handle

    def _forked(self, group: Sequence[Endpoint]) -> Callable[..., Awaitable[Answer]]:
        """The router takes nothing behind a ``:path`` parameter: the longest suffix that fits decides, before admission."""
        longest_first = sorted(group, key=lambda endpoint: -len(path_suffix(endpoint.path)))
        branches = [(path_suffix(one.path), self._http(one)) for one in longest_first]

        async def handle(request: Request[Any, Any, Any]) -> Answer:
            scope: Any = request.scope
            name, value = list(scope["path_params"].items())[-1]
            rest = path_value(value)
            for suffix, answer in branches:
                if rest.endswith(suffix) and len(rest) > len(suffix):
                    scope["path_params"] = {**scope["path_params"], name: rest.removesuffix(suffix)}
                    return await answer(request)
            raise unserved(scope["path"])

        return handle

    def context(self, endpoint: Endpoint, scope: Any, caller: Caller | None = None) -> Context:
        """Admit the caller, unless that is done, and describe the request. Raises Unauthenticated, Forbidden, and
        ProjectNotFound where a project does not exist for this caller."""
        scope["paddock.operation"] = endpoint.name
        headers: dict[str, str] = scope["paddock.headers"]
        if caller is None:
            caller = self.gatekeeper.admit(endpoint, headers, scope["query_string"], scope["path_params"])
        scope["paddock.caller"] = caller.label
        base = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}"
        return Context(endpoint, scope["paddock.request_id"], base, headers, caller)

    async def _reply(self, endpoint: Endpoint, ctx: Context, given: dict[str, Any], hold: Hold) -> Answer:
        return await self._answer(endpoint, ctx, await self.plugins.call(endpoint.name, ctx, **given), hold)

    async def _answer(self, endpoint: Endpoint, ctx: Context, value: Any, hold: Hold) -> Answer:
        if endpoint.kind == "download":
            value = file_reply(value)
        if isinstance(value, Reply):
            value.headers = {**ctx.response_headers, **value.headers}
            if isinstance(value.body, bytes):
                return Whole(value.status, value.body, value.media_type, value.headers)
            return await start_stream(value, hold)
        if endpoint.status == 204:
            return Whole(204, b"", JSON, ctx.response_headers)
        if endpoint.kind == "text":
            return Whole(endpoint.status, value.encode(), "text/plain; charset=utf-8", ctx.response_headers)
        return Whole(endpoint.status, replies.encode(value), JSON, ctx.response_headers)

    def _socket(self, endpoint: Endpoint) -> Callable[..., Awaitable[None]]:
        reader = Reader(endpoint, 0, 0)

        async def handle(socket: WebSocket[Any, Any, Any]) -> None:
            session = WebSocketSession(socket)
            scope: Any = socket.scope
            try:
                caller, protocol = await late_caller(self.gatekeeper, endpoint, scope, session)
                ctx = self.context(endpoint, scope, caller)
                given = reader.parameters(scope, ctx)
            except PaddockError as error:
                await session.refuse(error.message)
                return
            if protocol is not None:
                await session.accept(protocol)
            hold = Hold(self.streaming, self.gatekeeper, ctx.caller)
            talk = asyncio.ensure_future(self.plugins.call(endpoint.name, ctx, **given, data=session))
            await self._converse(talk, session, hold)

        return handle

    async def _converse(self, talk: asyncio.Future[None], session: WebSocketSession, hold: Hold) -> None:
        """Wait for the end of a conversation, and close it with the reason when it does not end by itself."""
        try:
            with hold.holding(talk):
                await talk
            await session.close()
        except PaddockError as error:
            await session.close(1011, error.message)
        except asyncio.CancelledError:
            if not (hold.over or hold.stopping):
                raise
            await session.close(1008 if hold.over else 1001, hold.reason.message)
        except Exception:
            await session.close(1011, "internal error")
            raise

    def failed(self, request: Request[Any, Any, Any], error: Exception) -> Answer:
        """The one exception handler: any error in the shape of the API that the path belongs to."""
        scope: Any = request.scope
        handler = scope.get("route_handler")
        endpoint: Endpoint | None = handler.opt.get("endpoint") if handler is not None else None
        endpoint = scope.get("paddock.endpoint", endpoint)
        api = endpoint.api if endpoint else replies.api_of(scope["path"])
        known = translate(error, scope["path"])
        if known is None:
            self.log.crash(scope["paddock.request_id"], error)
            known = PaddockError(f"internal error; the log has the details under request {scope['paddock.request_id']}")
        status = replies.error_status(known, api)
        return Whole(status, replies.encode(replies.error_body(known, api)), JSON, known.headers)


def translate(error: Exception, path: str) -> PaddockError | None:
    """Litestar's own errors in our tree; None for what is our bug."""
    if isinstance(error, PaddockError):
        return error
    if isinstance(error, RecursionError):  # only data from outside is that deep
        return ValidationFailed("the request is nested too deeply: make it flatter")
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return unserved(path)
        if error.status_code == 405:
            return MethodNotAllowed("this path does not take this method", headers=error.headers)
        if error.status_code < 500:
            return UpstreamError(str(error.detail), error.status_code)
    return None


def unserved(path: str) -> NotFound:
    """The error for a path that is nobody's."""
    shown = path[:100].encode("ascii", "backslashreplace").decode()
    return NotFound(f"nothing is served at {shown}; GET /openapi.json lists every path")


def methods_for(method: str) -> list[str]:
    """The methods that a contract's own stands for."""
    return PROXY_METHODS if method == "*" else ["GET", "HEAD"] if method == "GET" else [method]


def litestar_path(path: str) -> str:
    """A contract's path as Litestar writes it, up to the end of a ``:path`` parameter."""
    return re.sub(r"{(\w+)}", r"{\1:str}", trunk(path))


def trunk(path: str) -> str:
    """A contract's path up to the end of its ``:path`` parameter: all that the router can tell apart."""
    return re.sub(r"(:path}).*", r"\1", path)


def path_suffix(path: str) -> str:
    """What a contract's path has behind its ``:path`` parameter, mostly nothing."""
    return path.removeprefix(trunk(path))


def path_value(value: Any) -> str:
    """A path parameter as text, decoded; a ``:path`` comes with the slash before it, others never hold one."""
    return str(value).lstrip("/")


class Reader:
    """Turns a request into the arguments of a contract. Built once per endpoint."""

    def __init__(self, endpoint: Endpoint, default_limit: int, patience: float) -> None:
        self._kind = endpoint.kind
        limit = default_limit if endpoint.body_limit is None else endpoint.body_limit
        self._limit = limit or None
        self._limit_setting = "server.max_body_bytes" if endpoint.body_limit is None else ""
        self._form_bytes = endpoint.form_bytes
        self._patience = patience
        self._params = endpoint.params
        self._plan = parameter_plan(endpoint)
        self._data = endpoint.data
        self._has_data = endpoint.data is not None
        self._decode: Callable[[bytes], Any] | None = None
        if self._has_data and self._kind not in ("upload", "proxy", "websocket"):
            # A body that keeps fields it does not know decodes itself.
            own: Callable[[bytes], Any] | None = getattr(endpoint.data, "decode", None)
            self._decode = own or msgspec.json.Decoder(endpoint.data, strict=True).decode

    async def read(self, scope: Any, ctx: Context, receive: Any) -> dict[str, Any]:
        """Parameters and body. Raises ValidationFailed, TooLarge, RequestTimeout, ClientGone."""
        given = self.parameters(scope, ctx)
        if not self._has_data:
            return given
        receive = Patience(receive, self._patience)
        if self._kind == "upload":
            given["data"] = MultipartUpload(receive, ctx.headers, self._limit, self._form_bytes)
        elif self._kind == "proxy":
            given["data"] = ProxiedRequest(scope, receive, ctx.headers, self._limit)
        else:
            given["data"] = self._body(await read_body(receive, ctx.headers, self._limit, self._limit_setting))
        return given

    def parameters(self, scope: Any, ctx: Context) -> dict[str, Any]:
        """The parameter struct from path, query and headers. Raises ValidationFailed."""
        if self._params is None:
            return {}
        query: dict[str, list[str]] = {}
        if scope["query_string"]:
            for key, value in parse_qsl(scope["query_string"].decode("utf-8", "replace"), keep_blank_values=True):
                query.setdefault(key, []).append(value)
        values: dict[str, Any] = {}
        for name, source, key, many in self._plan:
            if source == "path":
                values[name] = path_value(scope["path_params"][name])
            elif source == "header" and key in ctx.headers:
                values[name] = ctx.headers[key]
            elif source == "query" and key in query:
                values[name] = query[key] if many else query[key][-1]
        try:
            return {"params": msgspec.convert(values, self._params, strict=False)}
        except msgspec.ValidationError as error:
            raise ValidationFailed.of([field_error(error, "parameters", self._params)]) from error

    def _body(self, body: bytes) -> Any:
        assert self._decode is not None
        try:
            return self._decode(body or b"{}")
        except msgspec.ValidationError as error:
            raise ValidationFailed.of([field_error(error, "body", self._data)]) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ValidationFailed.of([FieldError("body", f"not JSON: {error}")]) from error
        except RecursionError as error:
            raise ValidationFailed.of([FieldError("body", "nested too deeply")]) from error
