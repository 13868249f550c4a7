"""Websockets to upstreams: `OutgoingClient.websocket` on aiohttp. Imported with the first one, because aiohttp is heavy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType

import aiohttp
from yarl import URL

from paddock.errors import ProviderUnavailable, UpstreamError
from paddock.outgoing.http import Pool, translated
from paddock.outgoing.rule import Origin

MAX_MESSAGE = 16 * 1024 * 1024  # bytes; an upstream that sends more is closed with 1009
CLOSE_PATIENCE = 2.0  # seconds that an upstream has to answer a close


class UpstreamSocket:
    """An `HttpSocket` on aiohttp."""

    __slots__ = ("_left", "_origin", "_socket", "close_code", "close_reason", "protocol")

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, origin: Origin) -> None:
        self._socket = socket
        self._origin = origin
        self.protocol: str | None = socket.protocol
        self.close_code: int | None = None
        self.close_reason = ""
        self._left = False

    async def receive(self) -> str | bytes | None:
        """See `HttpSocket.receive`."""
        message = await self._socket.receive()
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            data: str | bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.CLOSE:
            self.close_code, self.close_reason = message.data, message.extra or ""
        elif not self._left and self.close_code is None:
            raise ProviderUnavailable(f"the websocket of {self._origin.key} broke off")
        return None

    async def send(self, message: str | bytes) -> None:
        """See `HttpSocket.send`."""
        if self._socket.closed:
            return
        try:
            await (self._socket.send_str(message) if isinstance(message, str) else self._socket.send_bytes(message))
        except (aiohttp.ClientError, ConnectionError):
            return  # its end is what `receive` tells

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `HttpSocket.close`."""
        self._left = True
        await self._socket.close(code=code, message=reason.encode()[:123])


class Conversation:
    """The handshake on entering, the close on leaving."""

    def __init__(
        self,
        pool: Pool,
        url: str,
        origin: Origin,
        *,
        headers: Mapping[str, str] | None,
        protocols: tuple[str, ...],
        patience: float,
    ) -> None:
        self._pool = pool
        self._url = URL(url, encoded=True)
        self._origin = origin
        self._headers = headers
        self._protocols = protocols
        self._patience = patience
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> UpstreamSocket:
        try:
            async with asyncio.timeout(self._patience):
                self._socket = await self._pool.session.ws_connect(
                    self._url,
                    headers=self._headers,
                    protocols=self._protocols,
                    max_msg_size=MAX_MESSAGE,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_PATIENCE),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise UpstreamError(f"{self._origin.key} refused the websocket", error.status) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise translated(error, self._origin, self._patience) from error
        return UpstreamSocket(self._socket, self._origin)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            await self._socket.close()
