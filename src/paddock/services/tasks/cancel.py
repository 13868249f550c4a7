"""Cancelling: stop what waits and runs, then remove what was stored. Every step is in the database, so that a cancel that
is cut short is taken up again at the next start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec

from paddock.contracts.tasks import RevertError, TaskCancelled
from paddock.errors import PaddockError, TaskNotFound
from paddock.services.core import Core
from paddock.services.tasks import rows
from paddock.services.tasks.handler import Item, Task, TaskHandler
from paddock.services.tasks.runner import Runner, uninterrupted


class Canceller:
    """Cancels tasks. Two cancels of the same task run one after the other, and the second reports what the first did."""

    def __init__(self, core: Core, handlers: Mapping[str, TaskHandler], runner: Runner) -> None:
        self._core = core
        self._handlers = handlers
        self._runner = runner
        self._under_way: dict[str, asyncio.Task[TaskCancelled]] = {}

    async def cancel(self, task: Task) -> TaskCancelled:
        """Cancel, or say why there is nothing to cancel. Goes on to its end when the caller leaves. Raises TaskNotFound for
        a kind of task that can't be cancelled."""
        handler = self._handlers.get(task.kind)
        if handler is not None and not handler.cancellable:
            raise TaskNotFound(f"task {task.id} is a {task.kind} task, which can't be cancelled")
        if task.cancel is None and task.final:
            return _too_late(task)
        known = self._under_way.get(task.id)
        if known is not None:
            return _again(await asyncio.shield(known))
        if task.cancel is not None and task.final:
            return _again(msgspec.convert(task.cancel, TaskCancelled))
        work = self._under_way[task.id] = asyncio.ensure_future(self._cancel(task))
        work.add_done_callback(lambda _: self._under_way.pop(task.id, None))
        return await asyncio.shield(work)

    async def _cancel(self, task: Task) -> TaskCancelled:
        asked = await self._core.state.write(partial(rows.request_cancel, task_id=task.id))
        now = await self._core.state.read(partial(rows.find, task_id=task.id))
        if now is None:
            raise TaskNotFound(f"task {task.id} was deleted in between")
        if asked is None and now.cancel is None:
            return _too_late(now)
        self._runner.changes.tell(task.id)
        await self._runner.interrupt(lambda other, _: other.id == task.id)
        items = await self._core.state.read(partial(rows.items, task_id=task.id))
        reverted, errors = await self._revert(now, items)
        waited, ran = asked or ((now.cancel or {}).get("waited", 0), (now.cancel or {}).get("ran", 0))
        reply = TaskCancelled(
            message=_message(reverted, len(errors)),
            task_id=task.id,
            cancelled=True,
            pending_tasks_cancelled=waited,
            running_tasks_at_cancel=ran,
            files_reverted=reverted,
            files_failed_to_revert=len(errors),
            errors=errors or None,
        )
        await self._core.state.write(partial(rows.finish_cancel, task_id=task.id, reply=msgspec.to_builtins(reply)))
        self._runner.changes.tell(task.id)
        return reply

    async def _revert(self, task: Task, items: Sequence[Item]) -> tuple[int, list[RevertError]]:
        handler = self._handlers.get(task.kind)
        reverted = sum(item.state == "reverted" for item in items)
        errors: list[RevertError] = []
        for item in items:
            if handler is None or item.state == "reverted" or not item.attempts:
                continue
            try:
                found = await uninterrupted(handler.revert(task, item))
            except PaddockError as error:
                errors.append(RevertError(file_hash=str(item.payload.get("hash", item.label)), error=error.message))
                continue
            if found.removed:
                reverted += 1
                await self._core.state.write(partial(rows.mark_reverted, item=item, commit=found.commit))
                self._runner.changes.tell(task.id)
        return reverted, errors

    async def resume(self) -> None:
        """Finish the cancels that the end of the server cut short."""
        for task_id in await self._core.state.read(rows.half_cancelled):
            task = await self._core.state.read(partial(rows.find, task_id=task_id))
            if task is not None:
                await self.cancel(task)

    async def settle(self) -> None:
        """Wait for the cancels under way."""
        while self._under_way:
            await asyncio.wait(list(self._under_way.values()))


def _message(reverted: int, failed: int) -> str:
    if failed:
        return f"Task cancelled with cleanup issues: {reverted} reverted, {failed} failed"
    return f"Task cancelled and {reverted} file(s) reverted" if reverted else "Task cancelled (no files to revert)"


def _too_late(task: Task) -> TaskCancelled:
    return TaskCancelled(
        message=f"Task already {task.state.lower()}", task_id=task.id, cancelled=False, already_completed=True
    )


def _again(reply: TaskCancelled) -> TaskCancelled:
    if reply.already_completed:
        return reply
    return msgspec.structs.replace(reply, message="Task already cancelled", already_cancelled=True)
