"""One download for everybody who wants the same model at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from paddock.contracts.providers import Progress
from paddock.errors import ProviderUnavailable

Report = Callable[[Progress], None]
Work = Callable[[Report], Awaitable[None]]


class Shared:
    """A running download and those who watch it."""

    def __init__(self, work: Work) -> None:
        self.watchers = 0
        self._latest: Progress | None = None
        self._changed = asyncio.Event()
        self.task = asyncio.ensure_future(work(self._report))

    def _report(self, progress: Progress) -> None:
        self._latest = progress
        self._changed.set()

    async def watch(self) -> AsyncIterator[Progress]:
        """What is known, then every change (a slow watcher sees only the newest), then the error if there is one."""
        seen: Progress | None = None
        while True:
            if self._latest is not None and self._latest is not seen:
                seen = self._latest
                yield seen
            elif self.task.done():
                break
            else:
                await self._wait()
        if self.task.cancelled():
            raise ProviderUnavailable("the download was ended: the server is shutting down")
        self.task.result()

    async def _wait(self) -> None:
        changed = self._changed
        if changed.is_set():  # a change that everybody has seen
            changed = self._changed = asyncio.Event()
        waiter = asyncio.ensure_future(changed.wait())
        try:
            await asyncio.wait((waiter, self.task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiter.cancel()


class Downloads:
    """The running downloads by key."""

    def __init__(self) -> None:
        self._running: dict[str, Shared] = {}

    def running(self) -> list[str]:
        """The keys of what is being fetched."""
        return list(self._running)

    async def follow(self, key: str, work: Work) -> AsyncIterator[Progress]:
        """Watch the download of that key, which `work` begins unless it runs. The last watcher who leaves cancels it, and
        goes when it has ended."""
        shared = self._running.get(key)
        if shared is None or shared.task.done():
            shared = self._running[key] = Shared(work)
        shared.watchers += 1
        try:
            async for progress in shared.watch():
                yield progress
        finally:
            shared.watchers -= 1
            if shared.watchers == 0:
                await self._end(key, shared)

    async def _end(self, key: str, shared: Shared) -> None:
        shared.task.cancel()
        await asyncio.wait((shared.task,))
        if not shared.task.cancelled():
            shared.task.exception()  # was told to whoever still watched
        if self._running.get(key) is shared:
            del self._running[key]

    async def close(self) -> None:
        """Cancel all of them."""
        for key, shared in list(self._running.items()):
            await self._end(key, shared)
