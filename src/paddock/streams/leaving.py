"""Clients that leave, and the end of the tasks that worked for them."""

from __future__ import annotations

import asyncio
from typing import Any

from paddock.errors import PaddockError
from paddock.streams.asgi import Receive


class ClientGone(Exception):
    """The client left; there is nobody to answer."""


async def wait_gone(receive: Receive, body: Any = None) -> None:
    """Until the client has left. The body must have been read, or `body` is one that is still arriving, with an event `ended`."""
    ended: asyncio.Event | None = getattr(body, "ended", None)
    if ended is not None:
        await ended.wait()  # until then the work itself reads, and hears of it
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        continue


async def settle(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait for its end. Raises what goes wrong there: nobody else would hear of it."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        if error is not None and task in running and not isinstance(error, PaddockError):
            raise error
