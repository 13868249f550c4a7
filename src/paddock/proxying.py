"""The raw kinds: a request passed on as it came, and a websocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect, WebSocketException

from paddock.streams import Message, Receive, body_pieces


class ProxiedRequest:
    """Implements the `RawRequest` contract: nothing is parsed, the path is the one that was sent. `ended` is set when the body
    was read to its end; from then on somebody else may watch whether the client stays."""

    def __init__(self, scope: Any, receive: Receive, headers: Mapping[str, str], limit: int | None) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.ended = asyncio.Event()
        self._receive = receive
        self._pieces = body_pieces(self._next, headers, limit)

    async def _next(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self.ended.set()
        return message

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


class WebSocketSession:
    """Implements the `Socket` contract."""

    def __init__(self, socket: WebSocket[Any, Any, Any]) -> None:
        scope: Any = socket.scope
        self._socket = socket
        self._accepted = False
        self._closed = False
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.protocols: tuple[str, ...] = tuple(scope.get("subprotocols") or ())
        self.close_code: int | None = None

    async def accept(self, protocol: str | None = None) -> None:
        """See `Socket.accept`."""
        if not self._accepted and not self._closed:
            self._accepted = True
            await self._socket.accept(subprotocols=protocol)

    async def refuse(self, reason: str) -> None:
        """Refuse the handshake, or close what was accepted to hear who it is."""
        if self._accepted:
            await self.close(1008, reason)
        elif not self._closed:
            self._closed = True
            await self._socket.close(code=1008, reason=_clipped(reason))

    async def receive(self) -> str | bytes | None:
        """The next message, or None when the client has left."""
        if self._closed:
            return None
        await self.accept()
        message: dict[str, Any] = dict(await self._socket.receive())
        if message["type"] == "websocket.disconnect":
            self._closed = True
            self.close_code = message.get("code")
            return None
        text: str | None = message.get("text")
        return text if text is not None else bytes(message.get("bytes") or b"")

    async def send(self, message: str | bytes) -> None:
        """Send one message; after the client left it goes nowhere."""
        if self._closed:
            return
        await self.accept()
        if isinstance(message, str):
            await self._socket.send_text(message)
        else:
            await self._socket.send_bytes(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; idempotent."""
        if self._closed:
            return
        try:
            await self.accept()  # a handshake that is refused could not tell the reason
            self._closed = True
            await self._socket.close(code=code, reason=_clipped(reason))
        except (WebSocketDisconnect, WebSocketException, RuntimeError):
            return  # the client was faster


def _clipped(reason: str) -> str | None:
    """At most the 123 bytes that a closing frame takes."""
    return reason.encode()[:123].decode(errors="ignore") or None
