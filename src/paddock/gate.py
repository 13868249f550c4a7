"""What every request passes before it is routed: an id, limits, Host and Origin, cross-origin rules, the log line."""

from __future__ import annotations

import ipaddress
import re
import secrets
import time
from typing import Any

from paddock import replies
from paddock.errors import BadRequest, Forbidden, PaddockError
from paddock.limits import RateLimits
from paddock.logs import Log
from paddock.meter import Meter
from paddock.settings import Server
from paddock.streams import BodyWatch, Message, Receive, Scope, Send, Whole

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  recognised, not bound
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, X-API-Key, X-Session-ID, X-No-Session, X-Request-ID"
_HEADER_NAMES = re.compile(r"[A-Za-z0-9_, -]{1,2000}")
_EXPOSED = b"X-Session-ID, X-Request-ID, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
_LARGE = 64 * 1024  # bytes of a body that may still be on the way when an early error is answered


class Gate:
    """An ASGI application in front of another. Every scope gets ``paddock.headers`` (lower-case names) and
    ``paddock.request_id``."""

    def __init__(self, app: Any, settings: Server, log: Log, meter: Meter, limits: RateLimits) -> None:
        self._app = app
        self._meter = meter
        self._limits = limits
        self._log = log
        self._limit = settings.max_header_bytes
        self._hosts = frozenset(
            {"localhost", settings.host.lower(), *(name.lower() for name in settings.allowed_hosts)}
        )
        self._wildcard = settings.host in _WILDCARDS
        self._origins = frozenset(origin.rstrip("/").lower() for origin in settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        scope["paddock.headers"] = headers
        scope["paddock.request_id"] = request_id = self._request_id(headers)
        origin = headers.get("origin", "").rstrip("/").lower()
        extra = self._extra_headers(request_id, origin)
        verdict = self._limits.judge(scope, headers)
        if verdict is not None:
            extra += verdict.headers
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            elif message["type"] == "websocket.accept":
                status = 101
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        body = BodyWatch(receive) if scope["type"] == "http" and _large(headers) else None
        try:
            refusal = verdict.refusal if verdict else None
            await self._pass(scope, body or receive, sending, origin, refusal)
            if body is not None and status >= 400:
                await body.drain()
        finally:
            self._line(scope, request_id, status, start)

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, origin: str, refusal: PaddockError | None
    ) -> None:
        headers: dict[str, str] = scope["paddock.headers"]
        try:
            self._check(scope, headers, origin)
            if refusal is not None:
                raise refusal
        except PaddockError as error:
            await self._refuse(scope, receive, send, error)
            return
        if origin and "access-control-request-method" in headers and scope.get("method") == "OPTIONS":
            await Whole(204, b"", "text/plain", self._preflight(headers, origin))(scope, receive, send)
            return
        await self._guarded(scope, receive, send, scope["paddock.request_id"])

    async def _guarded(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Whatever escapes after the reply began is written to the log; the connection is cut by raising on."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            self._log.crash(request_id, error)
            raise

    def _request_id(self, headers: dict[str, str]) -> str:
        given = headers.get("x-request-id", "")
        return given if _REQUEST_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"

    def _extra_headers(self, request_id: str, origin: str) -> list[tuple[bytes, bytes]]:
        extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
        if self._origins:
            extra.append((b"vary", b"Origin"))
        if origin in self._origins:
            extra.append((b"access-control-allow-origin", origin.encode("latin-1")))
            extra.append((b"access-control-expose-headers", _EXPOSED))
        return extra

    def _preflight(self, headers: dict[str, str], origin: str) -> dict[str, str]:
        """What a page of an allowed origin may send: any header, because clients of OpenAI add some of their own."""
        if origin not in self._origins:
            return {}
        wanted = headers.get("access-control-request-headers", "")
        return {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": wanted if _HEADER_NAMES.fullmatch(wanted) else _HEADERS,
            "Access-Control-Max-Age": "600",
        }

    def _check(self, scope: Scope, headers: dict[str, str], origin: str) -> None:
        if sum(len(key) + len(value) for key, value in scope["headers"]) > self._limit:
            raise BadRequest(f"the headers are larger than {self._limit} bytes, the setting server.max_header_bytes")
        if sum(key.lower() == b"host" for key, _ in scope["headers"]) > 1:
            raise BadRequest("a request names one Host")  # two of them could mean one thing to us, another to a proxy
        host = host_name(headers.get("host", ""))
        if not self._host_allowed(host):
            shown = host[:100].encode("ascii", "backslashreplace").decode()
            raise Forbidden(f"this server is not {shown!r}: add the name to server.allowed_hosts in the settings")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if changes and origin and origin not in self._origins and not same_origin(origin, headers.get("host", "")):
            raise Forbidden("a page of another origin may not change anything here: see server.allowed_origins")

    def _host_allowed(self, host: str) -> bool:
        if host in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        # A DNS rebinding attack needs a name: an address as Host is what the person typed.
        return address.is_loopback or self._wildcard

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, error: PaddockError) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:100]})
            return
        api = replies.api_of(scope["path"])
        body = replies.encode(replies.error_body(error, api))
        await Whole(replies.error_status(error, api), body, "application/json", error.headers)(scope, receive, send)

    def _line(self, scope: Scope, request_id: str, status: int, start: float) -> None:
        seconds = time.perf_counter() - start
        self._meter.request(scope.get("paddock.operation", "none"), status, seconds)
        self._log.request({
            "request_id": request_id, "method": scope.get("method", "WEBSOCKET"), "path": scope["path"], "status": status,
            "ms": round(seconds * 1000, 2), "caller": scope.get("paddock.caller", "-"),
        })  # fmt: skip


def _large(headers: dict[str, str]) -> bool:
    length = headers.get("content-length", "0")
    return "transfer-encoding" in headers or not length.isdigit() or int(length) > _LARGE


def host_name(value: str) -> str:
    """The name in a Host header, without port, brackets and trailing dot, in lower case."""
    value = value.strip().lower()
    if value.startswith("["):
        return value[1:].partition("]")[0]
    return value.partition(":")[0].rstrip(".")


def same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` (lower case) was served under this Host."""
    _, scheme_end, name = origin.partition("://")
    return bool(scheme_end) and name == host.strip().lower()
