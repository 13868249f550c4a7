"""What happens to instances, for everybody who listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from paddock_llama_server.logs import offer
from paddock_llama_server.spec import Change

BEHIND = 1000  # changes that a slow listener may be behind


class News:
    """Spreads changes; a slow listener loses the oldest."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Change | None]] = set()

    def publish(self, change: Change) -> None:
        """Tell everybody."""
        for queue in self._listeners:
            offer(queue, change)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[AsyncIterator[Change]]:
        """What is published inside the context."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue(BEHIND)
        self._listeners.add(queue)
        try:
            yield _items(queue)
        finally:
            self._listeners.discard(queue)

    def close(self) -> None:
        """Every iterator ends."""
        for queue in self._listeners:
            offer(queue, None)


async def _items(queue: asyncio.Queue[Change | None]) -> AsyncIterator[Change]:
    while (change := await queue.get()) is not None:
        yield change
