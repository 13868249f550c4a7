"""How long the server waits for a body: a client that stops sending, or sends a byte now and then, is cut."""

from __future__ import annotations

import asyncio
import time

from paddock.errors import RequestTimeout
from paddock.streams import Message, Receive

LEAST_RATE = 1024  # bytes a second that a body must reach on average, once the first wait is used up


class Patience:
    """A `receive` that raises RequestTimeout when waiting for the body took longer than `seconds` and a second more for
    every `LEAST_RATE` bytes that arrived. Only waiting counts: a server that is slow to store is nobody else's fault."""

    __slots__ = ("_left", "_receive", "_seconds")

    def __init__(self, receive: Receive, seconds: float) -> None:
        self._receive = receive
        self._seconds = self._left = seconds

    async def __call__(self) -> Message:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestTimeout(
                "the body did not arrive in time: send it faster, or raise server.body_timeout in the settings "
                f"({self._seconds:g} seconds, and one more for every {LEAST_RATE} bytes)"
            ) from error
        self._left += len(message.get("body", b"")) / LEAST_RATE - (time.monotonic() - begun)
        return message
