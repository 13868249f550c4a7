"""Tasks: work that goes on after the reply, its progress and how to cancel it.

A task consists of items, one for each file. States: PENDING (queued), STARTED (at least one item has begun), RETRY (all
that is left waits for another attempt), SUCCESS, FAILURE. A failed file makes the task a FAILURE after all the others
were processed; a cancelled task is a FAILURE with `cancelled` true.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Json, Name, Reply, endpoint
from paddock.contracts.projects import ProjectPath
from paddock.errors import BadName, ProjectNotFound, TaskNotFound

TaskState = Literal["PENDING", "STARTED", "RETRY", "SUCCESS", "FAILURE"]
ItemState = Literal["pending", "processing", "retry", "success", "failure", "cancelled", "reverted"]


class TaskListPath(ProjectPath, frozen=True, kw_only=True):
    """A page of a project's tasks; `active` true lists only those that are not finished."""

    active: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0


class TaskPath(ProjectPath, frozen=True, kw_only=True):
    """A task of a project."""

    task_id: Name


class TaskFile(msgspec.Struct, kw_only=True):
    """One item of a task.

    `stored_count` and `skipped_count` count chunks, `attempts` how often the item was begun (an item that was done when
    the server was killed is not begun again). `state` is ``retry`` while the item waits for another attempt, with the
    reason in `error`; ``reverted`` when a cancel removed what it had stored.
    """

    index: int
    task_id: str
    state: ItemState
    filename: str
    error: str | None
    stored_count: int
    skipped_count: int
    chunks: int
    attempts: int


class TaskMeta(msgspec.Struct, kw_only=True):
    """Progress: `current` of `total` items are finished, `progress` is that in percent."""

    current: int
    total: int
    progress: float
    message: str
    files: list[TaskFile]
    stored_count: int
    skipped_count: int


class TaskReply(msgspec.Struct, kw_only=True):
    """A task as it stands.

    `result` is filled when the task is finished; for the processing of a dataset it has the fields of the process reply:
    processed_files, skipped_files, failed_files, stored_count, skipped_count, strategy, database, details. `traceback` is
    always null: what went wrong inside is in the server's log. Times are seconds since 1970.
    """

    task_id: str
    state: TaskState
    meta: TaskMeta
    result: dict[str, Json] | None
    error: str | None
    traceback: str | None
    cancelled: bool
    kind: str
    dataset: str | None
    created: float
    finished: float | None


class TaskSummary(msgspec.Struct, kw_only=True):
    """A task in a list: as in `TaskReply`, without its files."""

    task_id: str
    state: TaskState
    kind: str
    dataset: str | None
    current: int
    total: int
    error: str | None
    cancelled: bool
    created: float
    finished: float | None


class TaskList(msgspec.Struct, kw_only=True):
    """Tasks, the newest first; `total` counts all pages."""

    total: int
    tasks: list[TaskSummary]


class RevertError(msgspec.Struct, kw_only=True):
    """A file whose chunks could not be removed, and why."""

    file_hash: str
    error: str


class TaskCancelled(msgspec.Struct, kw_only=True):
    """What a cancel did; see `task_cancel`."""

    message: str
    task_id: str
    cancelled: bool
    pending_tasks_cancelled: int = 0
    running_tasks_at_cancel: int = 0
    files_reverted: int = 0
    files_failed_to_revert: int = 0
    errors: list[RevertError] | None = None
    already_completed: bool = False
    already_cancelled: bool = False


@endpoint(
    "GET", "/v1/projects/{namespace}/{project}/tasks", access="read", tags=("tasks",), raises=(BadName, ProjectNotFound)
)
def task_list(ctx: Context, params: TaskListPath) -> Awaitable[TaskList]:
    """List a project's tasks, the newest first. Finished ones are kept for as long as the settings say."""


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/tasks/{task_id}",
    access="read",
    tags=("mcp", "tasks"),
    raises=(BadName, ProjectNotFound, TaskNotFound),
)
def task_get(ctx: Context, params: TaskPath) -> Awaitable[TaskReply]:
    """Return a task with its progress and, once finished, its result."""


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}/tasks/{task_id}",
    access="write",
    tags=("tasks",),
    raises=(BadName, ProjectNotFound, TaskNotFound),
)
def task_cancel(ctx: Context, params: TaskPath) -> Awaitable[TaskCancelled]:
    """Cancel a task and remove the chunks that it stored. Idempotent; a finished task is left as it is.

    Items that wait are not begun, running ones stop at the next step. Removed is what this task stored and nothing else:
    files that it skipped keep their chunks. A file that had been processed before and that this task processed anew is
    unprocessed afterwards, because its older chunks were replaced. What can't be removed is listed in `errors` and can be
    removed later with the cleanup endpoint. A task that can't be cancelled is a 404.
    """


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/tasks/{task_id}/events",
    access="read",
    kind="reply",
    tags=("tasks",),
    raises=(BadName, ProjectNotFound, TaskNotFound),
)
def task_events(ctx: Context, params: TaskPath) -> Awaitable[Reply]:
    """Stream a task as server-sent events: each event's data is a whole task reply, sent at once and on every change.

    Changes that follow each other closely share one event. The stream ends after the final state. Comments keep idle
    connections open.
    """
