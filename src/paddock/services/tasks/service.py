"""The task service: creates tasks, hands them to the queue, resumes them, and serves the task endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from paddock.contracts.base import Context, Reply, hookimpl
from paddock.contracts.tasks import TaskCancelled, TaskList, TaskListPath, TaskPath, TaskReply
from paddock.errors import Conflict, PaddockError
from paddock.services.core import Core
from paddock.services.project_files import ProjectFiles
from paddock.services.tasks import rows
from paddock.services.tasks.cancel import Canceller
from paddock.services.tasks.handler import Item, Payload, Task, TaskHandler
from paddock.services.tasks.runner import Runner
from paddock.services.tasks.views import Views

SWEEP = 3600.0  # seconds between two looks for old tasks
_EVENT_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class TaskService:
    """Implements `paddock.contracts.tasks`. `register` every handler before `running`."""

    def __init__(self, core: Core, files: ProjectFiles) -> None:
        self._core = core
        self._files = files
        self._handlers: dict[str, TaskHandler] = {}
        self._submitting: set[asyncio.Task[None]] = set()
        self._runner = Runner(core, self._handlers)
        self._canceller = Canceller(core, self._handlers, self._runner)
        self.views = Views(core, self._handlers, self._runner.changes)

    def register(self, handler: TaskHandler) -> None:
        """Let a handler do its kind of tasks. Raises Conflict when the kind has one."""
        if handler.kind in self._handlers:
            raise Conflict(f"tasks of kind {handler.kind} have a handler already")
        self._handlers[handler.kind] = handler

    # -- for other services

    async def create(
        self,
        kind: str,
        namespace: str,
        project: str,
        items: Sequence[tuple[str, Payload]],
        *,
        dataset: str | None = None,
        payload: Payload | None = None,
    ) -> str:
        """Store a task and start it; returns its id. Each item is a label for people and a payload, all plain data."""
        now = time.time()
        task = Task(
            id=secrets.token_hex(16),
            kind=kind,
            namespace=namespace,
            project=project,
            dataset=dataset,
            payload=payload or {},
            state="PENDING" if items else "SUCCESS",
            cancel=None,
            created=now,
            finished=None if items else now,
        )
        await self._core.state.write(lambda connection: rows.insert(connection, task, items))
        if items:
            self._submit(task.id, range(len(items)))
        return task.id

    def _submit(self, task_id: str, numbers: Sequence[int]) -> None:
        """Hand items to the queue in the background: it may make us wait."""
        work = asyncio.ensure_future(self._runner.queue.submit(task_id, numbers))
        self._submitting.add(work)
        work.add_done_callback(self._submitted)

    def _submitted(self, work: asyncio.Task[None]) -> None:
        self._submitting.discard(work)
        if not work.cancelled() and (error := work.exception()) is not None:
            self._core.log.crash("task queue", error)

    async def cancel(self, task: Task) -> TaskCancelled:
        """Cancel a task; see `task_cancel`."""
        return await self._canceller.cancel(task)

    async def stop(self, namespace: str, project: str, dataset: str | None = None) -> None:
        """Stop all tasks of a project, or of one of its datasets, and wait until nothing of them runs. What they stored
        stays: the caller is about to delete it."""
        owned = partial(rows.of_owner, namespace=namespace, project=project, dataset=dataset, active=True)
        for task in await self._core.state.read(owned):
            await self._core.state.write(partial(rows.request_cancel, task_id=task.id))
        ids = {task.id for task in await self._core.state.read(owned)}
        await self._runner.interrupt(lambda task, _: task.id in ids)
        for task_id in ids:
            reply = TaskCancelled(message="Task cancelled (its dataset was deleted)", task_id=task_id, cancelled=True)
            await self._core.state.write(partial(rows.finish_cancel, task_id=task_id, reply=msgspec.to_builtins(reply)))
            self._runner.changes.tell(task_id)

    async def stop_items(self, namespace: str, project: str, dataset: str, file_hash: str) -> None:
        """Stop the running items of one file; their tasks go on."""

        def wanted(task: Task, item: Item) -> bool:
            owner = (task.namespace, task.project, task.dataset)
            return owner == (namespace, project, dataset) and item.payload.get("hash") == file_hash

        await self._runner.interrupt(wanted)

    async def forget(self, namespace: str, project: str, dataset: str | None = None) -> None:
        """Stop the tasks of a project, or of one of its datasets, and delete them."""
        await self.stop(namespace, project, dataset)
        await self._core.state.write(partial(rows.delete_owned, namespace=namespace, project=project, dataset=dataset))

    # -- life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Resume what an earlier run left, and work while this is open."""
        await self._core.state.write(rows.recover)
        await self._core.state.write(rows.finish_empty)
        async with self._runner.working():
            background = [asyncio.ensure_future(self._resume()), asyncio.ensure_future(self._sweep())]
            try:
                yield
            finally:
                await self._canceller.settle()
                for work in (*background, *self._submitting):
                    work.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await work

    async def _resume(self) -> None:
        for task_id, numbers in await self._core.state.read(rows.open_items):
            self._submit(task_id, numbers)
        try:
            await self._canceller.resume()
        except PaddockError as error:
            self._core.log.event("cancel_not_resumed", "error", error=error.message)

    async def _sweep(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP)

    async def sweep(self) -> int:
        """Delete tasks that were finished longer ago than the setting ``tasks.keep_days``; returns how many."""
        before = time.time() - self._core.settings.tasks.keep_days * 86400
        return await self._core.state.write(partial(rows.sweep, before=before))

    # -- endpoints

    @hookimpl
    async def task_list(self, ctx: Context, params: TaskListPath) -> TaskList:
        await self._files.load(params.namespace, params.project)
        return await self.views.list(
            params.namespace, params.project, active=params.active, limit=params.limit, offset=params.offset
        )

    @hookimpl
    async def task_get(self, ctx: Context, params: TaskPath) -> TaskReply:
        await self._files.load(params.namespace, params.project)
        return await self.views.reply(params.namespace, params.project, params.task_id)

    @hookimpl
    async def task_cancel(self, ctx: Context, params: TaskPath) -> TaskCancelled:
        await self._files.load(params.namespace, params.project)
        return await self.cancel(await self.views.find(params.namespace, params.project, params.task_id))

    @hookimpl
    async def task_events(self, ctx: Context, params: TaskPath) -> Reply:
        await self._files.load(params.namespace, params.project)
        stream = self.views.events(params.namespace, params.project, params.task_id)
        return Reply(body=stream, media_type="text/event-stream", headers=dict(_EVENT_HEADERS))
