"""Replies as ASGI applications: whole, or piece by piece."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping

from paddock.contracts.base import Reply
from paddock.errors import PaddockError
from paddock.replies import error_event
from paddock.streams.asgi import Receive, Scope, Send
from paddock.streams.holding import Hold
from paddock.streams.leaving import settle, wait_gone


def header_list(media_type: str, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """ASGI's header list; a value that can't stand in a header (line breaks) is refused by encoding it away."""
    items = [(b"content-type", media_type.encode("latin-1", "replace"))]
    items += [(key.lower().encode("latin-1", "replace"), _clean(value)) for key, value in headers.items()]
    return items


def _clean(value: str) -> bytes:
    return re.sub(r"[\r\n\x00]+", " ", value).encode("latin-1", "replace")


class Whole:
    """A reply whose body is at hand: an ASGI application."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = header_list(media_type, headers)
        self.headers.append((b"content-length", str(len(body)).encode()))

    def to_asgi_response(self, **_: object) -> Whole:
        """What Litestar asks of the reply of an exception handler."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


class Streamed:
    """A reply that arrives piece by piece: an ASGI application. `first` was fetched before, so errors kept their status."""

    def __init__(self, reply: Reply, first: bytes | None, rest: AsyncIterator[bytes], hold: Hold) -> None:
        self._reply = reply
        self._first = first
        self._rest = rest
        self._hold = hold
        self._events = reply.media_type.startswith("text/event-stream")
        self._sending = 0.0  # since when a piece waits to be read by the client; 0 while the upstream is waited for
        self.gone: asyncio.Future[None] | None = None  # ends when the client leaves, where somebody watches already

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = header_list(self._reply.media_type, self._reply.headers)
            await send({"type": "http.response.start", "status": self._reply.status, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await self._body(receive, send)
        finally:
            if self.gone is not None:
                await settle(self.gone)
            await _close(self._rest)

    async def _body(self, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(send))
        gone = self.gone or asyncio.ensure_future(wait_gone(receive))
        try:
            with self._hold.holding(pump):
                await self._watched(pump, gone)
            if pump.done():
                await self._end(pump, send)
        finally:
            await settle(pump, gone)

    async def _watched(self, pump: asyncio.Future[None], gone: asyncio.Future[None]) -> None:
        """Until the stream has ended, or its client has left or reads nothing any more. Looking now and then costs nothing
        for each piece, and a client gets at most a quarter more time than it should."""
        patience = self._hold.patience
        look = patience / 4 or None
        while True:
            done, _ = await asyncio.wait((pump, gone), timeout=look, return_when=asyncio.FIRST_COMPLETED)
            if done or (self._sending and time.monotonic() - self._sending > patience):
                return

    async def _pump(self, send: Send) -> None:
        if self._first is not None:
            clock = time.monotonic
            self._sending = clock()
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            self._sending = 0.0
            async for piece in self._rest:
                self._sending = clock()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._sending = 0.0

    async def _end(self, pump: asyncio.Future[None], send: Send) -> None:
        last = b""
        if pump.cancelled():
            last = error_event(self._hold.reason) if self._events else b""
        elif (error := pump.exception()) is not None:
            if not isinstance(error, PaddockError) or not self._events:
                raise error
            last = error_event(error)
        await send({"type": "http.response.body", "body": last, "more_body": False})


async def _close(pieces: AsyncIterator[bytes]) -> None:
    close = getattr(pieces, "aclose", None)  # generators have it, other iterators need not
    if close is not None:
        await close()


async def start_stream(reply: Reply, hold: Hold) -> Streamed:
    """Fetch the first piece, so that what fails before it is an ordinary error reply."""
    assert not isinstance(reply.body, bytes)
    rest = aiter(reply.body)
    try:
        first: bytes | None = await anext(rest)
    except StopAsyncIteration:
        first = None
    except BaseException:
        await _close(rest)
        raise
    return Streamed(reply, first, rest, hold)
