"""The raw proxy: a request goes to the instance as it came, and its reply back; websockets too."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import unquote

from paddock.contracts.base import RawRequest, Reply, Service, Socket, hookimpl
from paddock.contracts.instances import InstancePath, ProxyPath
from paddock.contracts.providers import HttpClient, HttpReply, HttpSocket
from paddock.errors import BadRequest, NotFound, ProviderUnavailable
from paddock_llama_server.drain import Followed, Spawn, finished, opened
from paddock_llama_server.spec import Address, Instances
from paddock_llama_server.waiting import first_of

BUFFERED = (
    1024 * 1024
)  # a body up to this size is read first: it can be sent again when a pooled connection had just closed
PATIENCE = 86_400.0  # seconds: the caller decides how long to wait
_HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
_NOT_FORWARDED = _HOP_BY_HOP | {
    "host", "content-length", "expect", "authorization", "x-api-key", "api-key", "cookie", "origin", "referer",
}  # fmt: skip
_NOT_RETURNED = _HOP_BY_HOP | {"content-type", "set-cookie", "server", "date", "x-request-id", "x-content-type-options"}
_PREFIX = re.compile(rb"/+api/+v1/+instances/+([^/]+)/+([^/]+)", re.IGNORECASE)
_KEY = re.compile(rb"(?:^|&)api_key=[^&]*")
_SENDABLE = re.compile(r"[!-~]*")
_NOT_SENT = frozenset({1004, 1005, 1006, 1015})  # codes that no closing frame may carry


def target(raw_path: bytes, query: bytes, name: str) -> str:
    """What the instance is asked: the raw path behind ``/proxy``, and the query without paddock's key.

    Raises NotFound when the raw path names the instance otherwise than the route understood it, BadRequest for bytes that no
    URL may hold.
    """
    found = _PREFIX.match(raw_path)
    if found is None or unquote(found[1].decode("latin-1")) != name or unquote(found[2].decode("latin-1")) != "proxy":
        raise NotFound(
            "write the path as /api/v1/instances/NAME/proxy/…, without %2F in it before the instance's own part"
        )
    text = (raw_path[found.end() :] or b"/").decode("latin-1")
    kept = _KEY.sub(b"", query).lstrip(b"&").decode("latin-1")
    if not _SENDABLE.fullmatch(text + kept) or "#" in text + kept:
        raise BadRequest("the path and query must be percent-encoded ASCII")
    return f"{text}?{kept}" if kept else text


def request_headers(headers: list[tuple[bytes, bytes]], key: str) -> dict[str, str]:
    """The caller's headers as the instance gets them: none that belongs to one connection, no credential but its own."""
    pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
    named = {part.strip().lower() for name, value in pairs if name == "connection" for part in value.split(",")}
    kept: dict[str, str] = {}
    for name, value in pairs:
        if name not in _NOT_FORWARDED and name not in named and not name.startswith("sec-websocket-"):
            kept[name] = f"{kept[name]}, {value}" if name in kept else value
    return {**kept, "authorization": f"Bearer {key}"}


def reply_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The instance's headers as the caller gets them; which pages may read them is paddock's decision."""
    named = {part.strip().lower() for part in headers.get("Connection", "").split(",")}
    kept = {name: value for name, value in headers.items() if name.lower() not in _NOT_RETURNED | named}
    kept = {name: value for name, value in kept.items() if not name.lower().startswith("access-control-")}
    if headers.get("Content-Type", "").startswith("text/event-stream"):
        kept["X-Accel-Buffering"] = "no"
    return kept


class Body:
    """A body on its way: what is small is held, the rest comes piece by piece. Remembers why the caller's side failed."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._held: list[bytes] = []
        self.error: Exception | None = None
        self.whole: bytes | None = None

    async def begin(self) -> None:
        """Read what may be held; `whole` is set when that was all. Raises what reading the caller's body raises."""
        size = 0
        async for piece in self._pieces:
            self._held.append(piece)
            size += len(piece)
            if size > BUFFERED:
                return
        self.whole = b"".join(self._held)

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        while self._held:
            yield self._held.pop(0)
        try:
            async for piece in self._pieces:
                yield piece
        except Exception as error:
            self.error = error
            raise


class InstanceProxy(Service):
    """Implements the proxy's contracts of `paddock.contracts.instances`."""

    def __init__(self, instances: Instances, http: HttpClient) -> None:
        self._instances = instances
        self._http = http
        self._draining: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See `Service.running`. What is still read to its end is broken off: its instance goes as well."""
        yield
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    @hookimpl
    async def instance_proxy(self, params: ProxyPath, data: RawRequest) -> Reply:
        """Everything below ``/proxy/``."""
        return await self._pass(params.name, data)

    @hookimpl
    async def instance_proxy_root(self, params: InstancePath, data: RawRequest) -> Reply:
        """``/proxy`` itself: the instance's ``/``."""
        return await self._pass(params.name, data)

    @hookimpl
    async def instance_proxy_socket(self, params: ProxyPath, data: Socket) -> None:
        """Websockets below ``/proxy/``."""
        await self._converse(params.name, data)

    @hookimpl
    async def instance_proxy_root_socket(self, params: InstancePath, data: Socket) -> None:
        """Websockets of the instance's ``/``."""
        await self._converse(params.name, data)

    async def _pass(self, name: str, request: RawRequest) -> Reply:
        path = target(request.raw_path, request.query, name)
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(self._instances.lease(name, on_demand=False))
            body = Body(aiter(request))
            await body.begin()
            sending = self._send(request, address, path, body)
            drain = body.whole is not None and self._instances.get(name).spec.on_client_disconnect == "drain"
            try:
                reply: HttpReply = (
                    await opened(stack, sending, self._spawn) if drain else await stack.enter_async_context(sending)
                )
            except ProviderUnavailable as error:
                if body.error is not None:
                    raise body.error from error
                raise
            return Reply(
                body=relayed(reply, stack.pop_all(), self._spawn),
                media_type=reply.headers.get("Content-Type", "application/octet-stream"),
                status=reply.status,
                headers=reply_headers(reply.headers),
            )

    def _send(
        self, request: RawRequest, address: Address, path: str, body: Body
    ) -> AbstractAsyncContextManager[HttpReply]:
        headers = request_headers(request.headers, address.api_key)
        length = next((value for name, value in request.headers if name.lower() == b"content-length"), None)
        if body.whole is None and length is not None:
            headers["content-length"] = length.decode("latin-1")
        return self._http.send(
            request.method,
            address.base_url + path,
            headers=headers,
            body=aiter(body) if body.whole is None else (body.whole or None),
            timeout=PATIENCE,
            first_byte_timeout=PATIENCE,
            trusted=True,
        )

    async def _converse(self, name: str, socket: Socket) -> None:
        path = target(socket.raw_path, socket.query, name)
        async with self._instances.lease(name, on_demand=False) as address:
            headers = {"authorization": f"Bearer {address.api_key}"}
            offered = [one for one in socket.protocols if not one.startswith("bearer.")]
            url = address.base_url + path
            async with self._http.websocket(url, headers=headers, protocols=offered, trusted=True) as child:
                await socket.accept(child.protocol)
                await first_of(_upward(socket, child), _downward(child, socket))


async def relayed(reply: HttpReply, stack: AsyncExitStack, spawn: Spawn) -> AsyncGenerator[bytes, None]:
    """The reply's bytes; begins with nothing, so that the head goes out before the first of them. Ends the exchange, or
    leaves one that must not be cut off to `spawn`."""
    try:
        yield b""
        async for piece in reply.chunks():
            yield piece
    finally:
        if isinstance(reply, Followed) and not reply.ended:
            spawn(finished(reply, stack))
        else:
            await stack.aclose()


async def _upward(socket: Socket, child: HttpSocket) -> None:
    while (message := await socket.receive()) is not None:
        await child.send(message)
    await child.close(_sendable(socket.close_code))


async def _downward(child: HttpSocket, socket: Socket) -> None:
    while (message := await child.receive()) is not None:
        await socket.send(message)
    await socket.close(_sendable(child.close_code), child.close_reason)


def _sendable(code: int | None) -> int:
    """The code to close the other side with."""
    return 1000 if code is None or code in _NOT_SENT else code
