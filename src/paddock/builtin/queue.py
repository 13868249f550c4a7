"""The task queue in the server's own process.

Several items are under way for each parser thread, so that one can be parsed while others are embedded or written. Tasks
take turns: a small one does not wait for all of a large one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

from paddock.contracts.providers import Health, ItemRunner, TaskQueue, TypeName

IN_FLIGHT = 4  # items under way for each worker
AFTER_CRASH = 5.0  # seconds before an item whose runner raised is tried again


class InProcessQueue(TaskQueue):
    """Runs items in the event loop. What waits is kept by number only, at most `max_waiting` of them at once."""

    types = (TypeName("inprocess"),)

    def __init__(self, workers: int, max_waiting: int = 100_000) -> None:
        self._concurrency = workers * IN_FLIGHT
        self._max_waiting = max_waiting
        self._lanes: dict[str, deque[int]] = {}
        self._known: set[tuple[str, int]] = set()
        self._ready = asyncio.Semaphore(0)
        self._room = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._workers: list[asyncio.Task[None]] = []

    async def start(self, run: ItemRunner) -> None:
        """Begin to work."""
        self._ready = asyncio.Semaphore(sum(len(lane) for lane in self._lanes.values()))
        self._workers = [asyncio.ensure_future(self._work(run)) for _ in range(self._concurrency)]

    async def submit(self, task_id: str, items: Sequence[int]) -> None:
        """Accept items; those that are known already are left out. Waits while too many wait."""
        for item in items:
            if (task_id, item) in self._known:
                continue
            while len(self._known) >= self._max_waiting:
                self._room.clear()
                await self._room.wait()
            self._known.add((task_id, item))
            self._put(task_id, item)

    def _put(self, task_id: str, item: int) -> None:
        self._lanes.setdefault(task_id, deque()).append(item)
        self._ready.release()

    def _take(self) -> tuple[str, int]:
        """The next item of the task whose turn it is; the task then goes to the end of the line."""
        task_id = next(iter(self._lanes))
        lane = self._lanes.pop(task_id)
        item = lane.popleft()
        if lane:
            self._lanes[task_id] = lane
        return task_id, item

    async def _work(self, run: ItemRunner) -> None:
        while True:
            await self._ready.acquire()
            task_id, item = self._take()
            try:
                again = await run(task_id, item)
            except Exception as error:  # noqa: BLE001  the runner reports what it can; this is its own failure
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"task {task_id} item {item} can't be run", "exception": error}
                )
                again = AFTER_CRASH
            if again is None:
                self._known.discard((task_id, item))
                self._room.set()
            else:
                self._later(again, task_id, item)

    def _later(self, seconds: float, task_id: str, item: int) -> None:
        def due() -> None:
            self._timers.discard(timer)
            self._put(task_id, item)

        timer = asyncio.get_running_loop().call_later(seconds, due)
        self._timers.add(timer)

    async def stop(self) -> None:
        """Cancel what runs, wait until it has ended, and forget what waits. Idempotent."""
        workers, self._workers = self._workers, []
        for timer in self._timers:
            timer.cancel()
        for worker in workers:
            worker.cancel()
        for worker in workers:
            with contextlib.suppress(asyncio.CancelledError):
                await worker
        self._timers.clear()
        self._lanes.clear()
        self._known.clear()
        self._room.set()

    async def health(self) -> Health:
        """Whether it works, and how much waits."""
        if not self._workers or any(worker.done() for worker in self._workers):
            return Health(status="unhealthy", message="not running")
        return Health(message=f"{len(self._known)} items wait or run", details={"items": len(self._known)})

    async def close(self) -> None:
        """As `stop`."""
        await self.stop()
