"""Tasks as callers see them: replies, lists, and the stream of their changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

import msgspec

from paddock.contracts.tasks import TaskFile, TaskList, TaskMeta, TaskReply, TaskSummary
from paddock.errors import TaskNotFound
from paddock.services.core import Core
from paddock.services.tasks import rows
from paddock.services.tasks.handler import Item, Task, TaskHandler
from paddock.services.tasks.runner import Changes
from paddock.storage import Connection

HEARTBEAT = 15.0  # seconds between two comments on an idle stream
PAUSE = 0.2  # seconds: changes within share one event
_DONE = frozenset({"success", "failure", "cancelled", "reverted"})


class Views:
    """Reads tasks."""

    def __init__(self, core: Core, handlers: Mapping[str, TaskHandler], changes: Changes) -> None:
        self._core = core
        self._handlers = handlers
        self._changes = changes

    async def find(self, namespace: str, project: str, task_id: str) -> Task:
        """The task, if it is this project's. Raises TaskNotFound."""
        task = await self._core.state.read(partial(rows.find, task_id=task_id))
        return _owned(task, namespace, project, task_id)

    async def reply(self, namespace: str, project: str, task_id: str) -> TaskReply:
        """The whole task as it stands. Raises TaskNotFound."""

        def read(connection: Connection) -> tuple[Task | None, list[Item]]:
            return rows.find(connection, task_id), rows.items(connection, task_id)

        found, items = await self._core.state.read(read)
        return self._reply(_owned(found, namespace, project, task_id), items)

    def _reply(self, task: Task, items: Sequence[Item]) -> TaskReply:
        handler = self._handlers.get(task.kind)
        meta = _meta(task, items, handler)
        return TaskReply(
            task_id=task.id,
            state=task.state,
            meta=meta,
            result=handler.result(task, items) if handler and task.final else None,
            error=_error(task, meta.total, sum(item.state == "failure" for item in items)),
            traceback=None,
            cancelled=task.cancel is not None,
            kind=task.kind,
            dataset=task.dataset,
            created=task.created,
            finished=task.finished,
        )

    async def list(self, namespace: str, project: str, *, active: bool, limit: int, offset: int) -> TaskList:
        """A page of a project's tasks."""
        total, found = await self._core.state.read(
            partial(rows.page, namespace=namespace, project=project, active=active, limit=limit, offset=offset)
        )
        return TaskList(total=total, tasks=[_summary(task, counts) for task, counts in found])

    async def events(self, namespace: str, project: str, task_id: str) -> AsyncIterator[bytes]:
        """The stream of a task: its reply on every change until it is final, and comments in between."""
        last = b""
        with self._changes.watch(task_id) as changed:
            while True:
                changed.clear()
                reply = await self.reply(namespace, project, task_id)
                data = msgspec.json.encode(reply)
                if data != last:
                    last = data
                    yield b"data: " + data + b"\n\n"
                if reply.finished is not None:
                    return
                if not await self._wait(changed, HEARTBEAT):
                    yield b": still there\n\n"
                if self._core.stopping.is_set():
                    return
                await self._wait(self._core.stopping, PAUSE)

    async def finished(self, namespace: str, project: str, task_id: str) -> TaskReply:
        """Wait for the end of a task, or of the server."""
        with self._changes.watch(task_id) as changed:
            while True:
                changed.clear()
                task = await self.find(namespace, project, task_id)
                if task.final or self._core.stopping.is_set():
                    return await self.reply(namespace, project, task_id)
                await self._wait(changed, HEARTBEAT)

    async def _wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Whether the event came within the time; the end of the server counts as one."""
        waiting = [asyncio.ensure_future(one.wait()) for one in (event, self._core.stopping)]
        try:
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return bool(done)
        finally:
            for one in waiting:
                one.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await one


def _owned(task: Task | None, namespace: str, project: str, task_id: str) -> Task:
    if task is None or (task.namespace, task.project) != (namespace, project):
        shown = task_id[:64].encode("ascii", "backslashreplace").decode()
        raise TaskNotFound(
            f"project {namespace}/{project} has no task {shown!r}; finished tasks are kept for a while only"
        )
    return task


def _error(task: Task, total: int, failed: int) -> str | None:
    if task.cancel is not None:
        return "cancelled"
    return f"{failed} of {total} files failed" if task.final and failed else None


def _meta(task: Task, items: Sequence[Item], handler: TaskHandler | None) -> TaskMeta:
    total, current = len(items), sum(item.state in _DONE for item in items)
    return TaskMeta(
        current=current,
        total=total,
        progress=round(current / total * 100, 1) if total else 100.0,
        message=handler.message(current, total) if handler else f"{current}/{total}",
        files=[_file(task, item) for item in items],
        stored_count=sum(item.stored for item in items),
        skipped_count=sum(item.skipped for item in items),
    )


def _file(task: Task, item: Item) -> TaskFile:
    return TaskFile(
        index=item.number,
        task_id=task.id,
        state=item.state,
        filename=item.label,
        error=item.error,
        stored_count=item.stored,
        skipped_count=item.skipped,
        chunks=item.stored + item.skipped,
        attempts=item.attempts,
    )


def _summary(task: Task, counts: rows.Counts) -> TaskSummary:
    return TaskSummary(
        task_id=task.id,
        state=task.state,
        kind=task.kind,
        dataset=task.dataset,
        current=counts.finished,
        total=counts.total,
        error=_error(task, counts.total, counts.failed),
        cancelled=task.cancel is not None,
        created=task.created,
        finished=task.finished,
    )
