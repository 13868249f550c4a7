"""An exchange with a child that goes on to its end when the client leaves, for servers that break when they are cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from paddock.contracts.providers import HttpReply
from paddock.errors import PaddockError

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Followed:
    """A reply that knows whether it was read to its end."""

    def __init__(self, reply: HttpReply) -> None:
        self._reply = reply
        self.status = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self.ended = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`."""
        async for piece in self._reply.chunks():
            yield piece
        self.ended = True

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """See `HttpReply.read`."""
        body = await self._reply.read(limit)
        self.ended = True
        return body


async def opened(stack: AsyncExitStack, sending: AbstractAsyncContextManager[HttpReply], spawn: Spawn) -> Followed:
    """Open the exchange. A client that leaves meanwhile leaves it to `spawn`, which reads it to its end and closes `stack`."""
    task = asyncio.ensure_future(sending.__aenter__())
    try:
        reply = await asyncio.shield(task)
    except asyncio.CancelledError:
        spawn(_finish_opening(task, sending, stack.pop_all()))
        raise
    stack.push_async_exit(sending)
    return Followed(reply)


async def _finish_opening(
    task: asyncio.Future[HttpReply], sending: AbstractAsyncContextManager[HttpReply], stack: AsyncExitStack
) -> None:
    async with stack:
        with contextlib.suppress(PaddockError):
            reply = await task
            stack.push_async_exit(sending)
            await read_on(reply)


async def finished(reply: HttpReply, stack: AsyncExitStack) -> None:
    """Read the rest, then close."""
    async with stack:
        await read_on(reply)


async def read_on(reply: HttpReply) -> None:
    """Read what is left and throw it away."""
    with contextlib.suppress(PaddockError):
        async for _ in reply.chunks():
            pass
