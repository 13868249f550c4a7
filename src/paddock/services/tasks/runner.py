"""Runs items: claim, work, finish, each step in a transaction; retries what may pass; stops what is to be stopped."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import Any, Literal, TypeVar

from paddock.contracts.providers import TaskQueue
from paddock.errors import (
    PaddockError,
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
)
from paddock.services.core import Core
from paddock.services.tasks import rows
from paddock.services.tasks.handler import Item, Outcome, Task, TaskHandler
from paddock.storage import Connection

T = TypeVar("T")
LONGEST_DELAY = 300.0  # seconds between two attempts
SUSPECT = 2  # attempts after which an item that the server died over runs without others of its kind
Reason = Literal["cancel", "stop"]


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end also when the caller is cancelled; the cancellation is raised after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((task,))
        task.exception()  # looked at: the cancellation goes first
        raise


def transient(error: PaddockError) -> bool:
    """Whether another attempt may go better: the other side is down, slow, busy or failing."""
    if isinstance(error, UpstreamError):
        return error.upstream_status == 429 or error.upstream_status >= 500
    return isinstance(error, ProviderUnavailable | UpstreamTimeout | RateLimited)


class Changes:
    """Tells who watches a task that it changed. For one event loop."""

    def __init__(self) -> None:
        self._watchers: dict[str, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def watch(self, task_id: str) -> Iterator[asyncio.Event]:
        """An event that is set on every change while this is open."""
        event = asyncio.Event()
        self._watchers.setdefault(task_id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[task_id].discard(event)
            if not self._watchers[task_id]:
                del self._watchers[task_id]

    def tell(self, task_id: str) -> None:
        """The task changed."""
        for event in self._watchers.get(task_id, ()):
            event.set()


class _Running:
    """An item while it runs here."""

    def __init__(self, task: Task, item: Item, work: asyncio.Future[Outcome]) -> None:
        self.task = task
        self.item = item
        self.work = work
        self.reason: Reason | None = None
        self.ended = asyncio.Event()


class Runner:
    """The item runner that the queue calls, and the list of what runs in this process."""

    def __init__(self, core: Core, handlers: dict[str, TaskHandler]) -> None:
        self._core = core
        self._handlers = handlers
        self._running: dict[tuple[str, int], _Running] = {}
        self._suspects = asyncio.Lock()
        self.changes = Changes()

    @property
    def queue(self) -> TaskQueue:
        """The queue that the settings name. Raises UnknownType."""
        return self._core.plugins.task_queues.find(self._core.settings.tasks.queue)

    async def run(self, task_id: str, number: int) -> float | None:
        """Run an item unless it is done or somebody else's: the contract's `ItemRunner`. Never raises for a failing item."""
        try:
            claimed = await self._core.state.write(partial(rows.claim, task_id=task_id, number=number))
        except ProviderUnavailable as error:
            self._core.log.event("task_not_claimed", "error", task=task_id, error=error.message)
            return 1.0
        if not isinstance(claimed, rows.Claim):
            return claimed
        self.changes.tell(task_id)
        handler = self._handlers.get(claimed.task.kind)
        if handler is None:
            reason = f"no part of this server does tasks of kind {claimed.task.kind!r}: was a plugin removed?"
            await self._write(partial(rows.fail, item=claimed.item, message=reason, result=None, commit=None), task_id)
            return None
        return await self._run(handler, claimed.task, claimed.item)

    async def _run(self, handler: TaskHandler, task: Task, item: Item) -> float | None:
        work = asyncio.ensure_future(self._work(handler, task, item))
        running = self._running[item.task, item.number] = _Running(task, item, work)
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:  # the queue stops
            await self._end(running, "stop")
            await self._conclude(handler, running)
            raise
        else:
            return await self._conclude(handler, running)
        finally:
            del self._running[item.task, item.number]
            running.ended.set()

    async def _work(self, handler: TaskHandler, task: Task, item: Item) -> Outcome:
        if not item.interrupted:
            return await handler.run_item(task, item)
        if item.attempts < SUSPECT:
            return await self._again(handler, task, item)
        # One of the items that ran whenever the server died is to blame: one at a time, so that only that one is counted.
        async with self._suspects:
            return await self._again(handler, task, item)

    async def _again(self, handler: TaskHandler, task: Task, item: Item) -> Outcome:
        """Run an item that was running when the server stopped."""
        done = await handler.recall(task, item)
        if done is not None:
            return done
        if item.attempts >= self._core.settings.tasks.max_attempts:
            raise PaddockError(
                f"the server stopped {item.attempts} times while this was being processed: look at the file, or at the "
                "server's log and memory"
            )
        item.attempts += 1
        await self._core.state.write(partial(rows.begin_again, item=item))
        return await handler.run_item(task, item)

    async def _conclude(self, handler: TaskHandler, running: _Running) -> float | None:
        task, item, work = running.task, running.item, running.work
        if work.cancelled() and running.reason is not None:
            step = rows.drop_item if running.reason == "cancel" else rows.release
            await self._write(partial(step, item=item), task.id)
            return None
        error = asyncio.CancelledError() if work.cancelled() else work.exception()
        if error is None:
            await self._write(partial(rows.succeed, item=item, outcome=work.result()), task.id)
            return None
        return await self._failed(handler, task, item, error)

    async def _failed(self, handler: TaskHandler, task: Task, item: Item, error: BaseException) -> float | None:
        if isinstance(error, PaddockError):
            message, again = error.message, transient(error)
        else:
            self._core.log.crash(f"task {task.id} item {item.number}", error)
            message, again = (
                f"internal error ({type(error).__name__}): the log has the details under task {task.id}",
                False,
            )
        settings = self._core.settings.tasks
        if again and item.attempts < settings.max_attempts:
            delay = max(backoff(settings.retry_delay, item.attempts), asked_for(error))
            await self._write(partial(rows.postpone, item=item, message=message, due=time.time() + delay), task.id)
            return delay
        commit = handler.failed(task, item, message)
        await self._write(partial(rows.fail, item=item, message=message, result=None, commit=commit), task.id)
        return None

    async def _write(self, step: Callable[[Connection], object], task_id: str) -> None:
        """Write an ending; while the disk is full, try again: an item must not hang between two states."""
        delay = 0.5
        while True:
            try:
                await uninterrupted(self._core.state.write(step))
            except ProviderUnavailable as error:
                self._core.log.event("task_not_written", "error", task=task_id, error=error.message)
                if self._core.stopping.is_set():
                    return
            else:
                self.changes.tell(task_id)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._core.stopping.wait(), delay)
            delay = min(2 * delay, 10)

    async def _end(self, running: _Running, reason: Reason) -> None:
        running.reason = running.reason or reason
        running.work.cancel()
        await asyncio.wait((running.work,))

    async def interrupt(self, wanted: Callable[[Task, Item], bool]) -> None:
        """Stop the running items that `wanted` chooses, and wait until they have stopped. They count as cancelled."""
        chosen = [running for running in self._running.values() if wanted(running.task, running.item)]
        for running in chosen:
            running.reason = "cancel"
            running.work.cancel()
        for running in chosen:
            await running.ended.wait()

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run the queue while this is open; what did not finish is left for the next start."""
        await self.queue.start(self.run)
        try:
            yield
        finally:
            await self.queue.stop()


def asked_for(error: BaseException) -> float:
    """The seconds that a busy upstream asks us to wait (Retry-After), at most `LONGEST_DELAY`."""
    given = error.headers.get("Retry-After", "") if isinstance(error, UpstreamError) else ""
    return min(float(given), LONGEST_DELAY) if given.isdigit() and len(given) < 10 else 0.0


def backoff(first: float, attempts: int) -> float:
    """Seconds until the next attempt: doubling, at most `LONGEST_DELAY`, half of it by chance."""
    return float(min(LONGEST_DELAY, first * 2 ** (attempts - 1)) * random.uniform(0.5, 1))  # noqa: S311  no secret
