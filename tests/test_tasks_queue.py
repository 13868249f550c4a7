"""The queues that ship with the core, and the suite itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from paddock.builtin.queue import InProcessQueue
from paddock.contracts.providers import ItemRunner, TaskQueue
from paddock.testing.queue import InlineQueue, Runs, TaskQueueSuite


class TestInProcessQueue(TaskQueueSuite):
    @pytest.fixture
    def queue(self) -> TaskQueue:
        return InProcessQueue(2)

    async def test_a_small_task_does_not_wait_for_all_of_a_large_one(self) -> None:
        queue, runs = InProcessQueue(1), Runs()
        await queue.submit("large", range(100))
        await queue.submit("small", [0])
        await queue.start(runs)
        await runs.until({("small", 0): 1})
        assert runs.order.index(("small", 0)) < 10
        await queue.stop()

    async def test_submit_waits_while_too_many_wait(self) -> None:
        queue, runs = InProcessQueue(1, max_waiting=10), Runs()
        submitting = asyncio.ensure_future(queue.submit("a", range(50)))
        await asyncio.sleep(0)
        assert not submitting.done()
        assert (await queue.health()).details == {}
        await queue.start(runs)
        await submitting
        await runs.until({("a", number): 1 for number in range(50)})
        await queue.stop()

    async def test_no_more_than_its_number_of_items_run_at_once(self) -> None:
        running = 0
        most = 0
        go = asyncio.Event()
        full = asyncio.Event()

        async def run(task_id: str, item: int) -> float | None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == 8:
                full.set()
            await go.wait()
            running -= 1
            return None

        queue = InProcessQueue(2)
        await queue.start(run)
        await queue.submit("a", range(30))
        await full.wait()
        assert running == 8
        go.set()
        await queue.stop()
        assert most == 8

    async def test_what_runs_at_the_stop_is_cancelled_and_awaited(self) -> None:
        started, ended = asyncio.Event(), asyncio.Event()

        async def run(task_id: str, item: int) -> float | None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return None

        queue = InProcessQueue(1)
        await queue.start(run)
        await queue.submit("a", [0])
        await started.wait()
        await queue.stop()
        assert ended.is_set()

    async def test_a_queue_that_does_not_run_is_ill(self) -> None:
        assert (await InProcessQueue(1).health()).status == "unhealthy"


class TestInlineQueue(TaskQueueSuite):
    @pytest.fixture
    def queue(self) -> TaskQueue:
        return InlineQueue()


class Forgetful(InlineQueue):
    """Loses every second item."""

    async def submit(self, task_id: str, items: Sequence[int]) -> None:
        await super().submit(task_id, items[::2])


class Impatient(InlineQueue):
    """Never runs an item again."""

    async def start(self, run: ItemRunner) -> None:
        async def once(task_id: str, item: int) -> float | None:
            await run(task_id, item)
            return None

        await super().start(once)


class Hasty(TaskQueueSuite):
    """The suite, which gives up soon."""

    patience = 0.05


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Forgetful, "test_every_item_is_run"),
        (Impatient, "test_an_item_is_run_again_as_long_as_the_runner_asks_for_it"),
    ],
)
async def test_the_suite_finds_a_broken_queue(broken: type[TaskQueue], check: str) -> None:
    with pytest.raises(TimeoutError):
        await getattr(Hasty(), check)(broken())
