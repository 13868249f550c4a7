"""The conformance suite of task queues, and InlineQueue, which runs every item before `submit` returns.

::

    class TestMine(TaskQueueSuite):
        @pytest.fixture
        def queue(self):
            return Mine()
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Environment, ItemRunner, TaskQueue, TypeName

Item = tuple[str, int]
Answer = Callable[[Item, int], float | None]


def done(item: Item, count: int) -> float | None:  # noqa: ARG001  an `Answer`
    """The answer of a runner whose items succeed at once."""
    return None


def hours(item: Item, count: int) -> float | None:  # noqa: ARG001  an `Answer`
    """The answer of a runner whose items want to be run again much later."""
    return 3600


class InlineQueue(TaskQueue):
    """Runs items at once, one after the other, in the order of submission: for tests that want no concurrency.

    Retries are run without waiting for their time, at most `retries` times each; what still wants to wait then is left.
    """

    types = (TypeName("inline"),)

    def __init__(self, retries: int = 10) -> None:
        self._retries = retries
        self._run: ItemRunner | None = None
        self._before: list[Item] = []

    async def start(self, run: ItemRunner) -> None:
        """Run what was submitted before."""
        self._run = run
        waiting, self._before = self._before, []
        for task_id, item in waiting:
            await self._work(task_id, item)

    async def submit(self, task_id: str, items: Sequence[int]) -> None:
        """Run the items; before the start, keep them."""
        for item in items:
            if self._run is None:
                self._before.append((task_id, item))
            else:
                await self._work(task_id, item)

    async def _work(self, task_id: str, item: int) -> None:
        for _ in range(self._retries + 1):
            if self._run is None or await self._run(task_id, item) is None:
                return

    async def stop(self) -> None:
        """Run nothing any more."""
        self._run = None


class InlineQueuePlugin:
    """A plugin with the queue type ``inline``: name it in the setting ``tasks.queue``."""

    @hookimpl
    def paddock_task_queues(self, env: Environment) -> Sequence[TaskQueue]:  # noqa: ARG002  the hook's signature
        """The one queue."""
        return [InlineQueue()]


class Runs:
    """An item runner that counts, and answers as the test wants."""

    def __init__(self, answer: Answer = done, patience: float = 30) -> None:
        self.counts: Counter[Item] = Counter()
        self.order: list[Item] = []
        self._answer = answer
        self._patience = patience
        self._changed = asyncio.Condition()

    async def __call__(self, task_id: str, item: int) -> float | None:
        async with self._changed:
            self.counts[task_id, item] += 1
            self.order.append((task_id, item))
            self._changed.notify_all()
        return self._answer((task_id, item), self.counts[task_id, item])

    async def until(self, wanted: dict[Item, int]) -> None:
        """Wait until each item ran at least so often."""
        async with asyncio.timeout(self._patience), self._changed:
            await self._changed.wait_for(lambda: all(self.counts[item] >= count for item, count in wanted.items()))


class TaskQueueSuite:
    """What holds for every task queue. Override the fixture `queue`: a new one, not started."""

    patience = 30.0  # seconds until a queue that does nothing fails the test

    @pytest.fixture
    def queue(self) -> TaskQueue:
        """The queue under test."""
        raise NotImplementedError("override the fixture `queue`")

    @pytest.fixture
    async def stopped(self, queue: TaskQueue) -> AsyncIterator[TaskQueue]:
        """The queue, stopped at the end of the test."""
        yield queue
        await queue.stop()
        await queue.close()

    async def test_every_item_is_run(self, stopped: TaskQueue) -> None:
        """If this fails, submitted items are lost."""
        runs = Runs(patience=self.patience)
        await stopped.start(runs)
        await stopped.submit("a", range(20))
        await stopped.submit("b", [3])
        await runs.until({**{("a", number): 1 for number in range(20)}, ("b", 3): 1})

    async def test_an_item_is_run_again_as_long_as_the_runner_asks_for_it(self, stopped: TaskQueue) -> None:
        """If this fails, the number that the runner returns is not taken as seconds until the next call."""
        runs = Runs(lambda item, count: 0.001 if item == ("a", 1) and count < 3 else None, self.patience)
        await stopped.start(runs)
        await stopped.submit("a", [0, 1])
        await runs.until({("a", 0): 1, ("a", 1): 3})
        await stopped.submit("a", [2])
        await runs.until({("a", 2): 1})
        assert runs.counts == {("a", 0): 1, ("a", 1): 3, ("a", 2): 1}

    async def test_items_that_were_done_can_be_submitted_again(self, stopped: TaskQueue) -> None:
        """If this fails, the queue remembers finished items for ever, or fails over them."""
        runs = Runs(patience=self.patience)
        await stopped.start(runs)
        await stopped.submit("a", [0])
        await runs.until({("a", 0): 1})
        await stopped.submit("b", [0])
        await runs.until({("b", 0): 1})
        await stopped.submit("a", [0])
        await stopped.submit("c", [0])
        await runs.until({("c", 0): 1})

    async def test_a_long_wait_of_one_item_holds_up_no_other(self, stopped: TaskQueue) -> None:
        """If this fails, a worker sleeps until a retry is due."""
        runs = Runs(lambda item, count: 3600 if item[0] == "slow" and count < 5 else None, self.patience)
        await stopped.start(runs)
        await stopped.submit("slow", range(30))
        await stopped.submit("fast", [0])
        await runs.until({("fast", 0): 1})

    async def test_stop_ends_and_may_be_called_twice(self, queue: TaskQueue) -> None:
        """If this fails, stop waits for retries that are far away, or fails when nothing runs."""
        runs = Runs(hours)
        await queue.start(runs)
        await queue.submit("a", range(5))
        async with asyncio.timeout(self.patience):
            await queue.stop()
            await queue.stop()
        await queue.close()

    async def test_it_tells_its_health(self, stopped: TaskQueue) -> None:
        """If this fails, health raises, or calls a working queue ill."""
        await stopped.start(Runs())
        assert (await stopped.health()).status == "healthy"
