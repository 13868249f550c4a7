"""Work that goes on only as long as somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from paddock.streams.asgi import Receive
from paddock.streams.holding import Hold
from paddock.streams.leaving import ClientGone, settle, wait_gone
from paddock.streams.sending import Streamed

T = TypeVar("T")


async def while_client_stays(work: Awaitable[T], receive: Receive, hold: Hold, body: Any = None) -> T:
    """Run `work`, and cancel it when the client leaves (then ClientGone is raised) or its credential ends (then
    Unauthenticated is raised). The body must have been read, or `body` is one that is still arriving and has an event
    `ended`.

    A stream goes on with the same watcher: Granian now and then reports a client as gone when a `receive` was cancelled
    and is called again, and the stream would be cut.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(wait_gone(receive, body))
    watching = True
    try:
        with hold.credential(task):
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        if task.cancelled() and hold.over:
            raise hold.reason
        result = task.result()
        if isinstance(result, Streamed):
            result.gone, watching = gone, False
        return result
    finally:
        await (settle(task, gone) if watching else settle(task))
