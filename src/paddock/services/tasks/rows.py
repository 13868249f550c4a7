"""The rows of tasks and items, and every transaction on them. Functions take a connection and run inside `Database`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from paddock.contracts.tasks import TaskState
from paddock.services.tasks.handler import Item, Outcome, Payload, Task
from paddock.storage import Connection

_TASK = "id, kind, namespace, project, dataset, payload, state, cancel, created, finished"
_ITEM = "task, number, label, payload, state, attempts, interrupted, due, stored, skipped, result, error"
_OPEN = "('pending', 'processing', 'retry')"

Commit = Callable[[Connection], None] | None
Rows = Iterable[Any]
_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Claim(msgspec.Struct):
    """An item that is ours to run."""

    task: Task
    item: Item


class Counts(msgspec.Struct):
    """How many items a task has, how many are finished, how many failed."""

    total: int
    finished: int
    failed: int


def _task(row: Sequence[Any]) -> Task:
    task_id, kind, namespace, project, dataset, payload, state, cancel, created, finished = row
    return Task(
        id=task_id,
        kind=kind,
        namespace=namespace,
        project=project,
        dataset=dataset,
        payload=_decode(payload),
        state=state,
        cancel=None if cancel is None else _decode(cancel),
        created=created,
        finished=finished,
    )


def _item(row: Sequence[Any]) -> Item:
    task, number, label, payload, state, attempts, interrupted, due, stored, skipped, result, error = row
    return Item(
        task=task,
        number=number,
        label=label,
        payload=_decode(payload),
        state=state,
        attempts=attempts,
        interrupted=bool(interrupted),
        due=due,
        stored=stored,
        skipped=skipped,
        result=None if result is None else _decode(result),
        error=error,
    )


def insert(connection: Connection, task: Task, items: Sequence[tuple[str, Payload]]) -> None:
    """Add a task with its items."""
    connection.execute(
        f"INSERT INTO tasks ({_TASK}) VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?, ?)",  # noqa: S608  fixed names
        (
            task.id, task.kind, task.namespace, task.project, task.dataset, _encode(task.payload), task.state,
            task.created, task.finished,
        ),
    )  # fmt: skip
    connection.executemany(
        "INSERT INTO task_items (task, number, label, payload, state) VALUES (?, ?, ?, ?, 'pending')",
        ((task.id, number, label, _encode(payload)) for number, (label, payload) in enumerate(items)),
    )


def find(connection: Connection, task_id: str) -> Task | None:
    """The task, or None."""
    row = connection.execute(f"SELECT {_TASK} FROM tasks WHERE id = ?", (task_id,)).fetchone()  # noqa: S608  fixed names
    return _task(row) if row else None


def items(connection: Connection, task_id: str) -> list[Item]:
    """All items of a task in order."""
    rows = connection.execute(f"SELECT {_ITEM} FROM task_items WHERE task = ? ORDER BY number", (task_id,))  # noqa: S608  fixed names
    return [_item(row) for row in rows]


def counts(connection: Connection, task_id: str) -> Counts:
    """How far a task is."""
    rows: Rows = connection.execute("SELECT state, count(*) FROM task_items WHERE task = ? GROUP BY state", (task_id,))
    found: dict[str, int] = dict(rows)
    waiting = sum(found.get(state, 0) for state in ("pending", "processing", "retry"))
    total = sum(found.values())
    return Counts(total, total - waiting, found.get("failure", 0))


def page(
    connection: Connection, namespace: str, project: str, *, active: bool, limit: int, offset: int
) -> tuple[int, list[tuple[Task, Counts]]]:
    """Tasks of a project, the newest first, and how many there are."""
    where = "namespace = ? AND project = ?" + (" AND finished IS NULL" if active else "")
    counted: Rows = connection.execute(f"SELECT count(*) FROM tasks WHERE {where}", (namespace, project))  # noqa: S608  fixed names
    total: int = next(iter(counted))[0]
    rows: Rows = connection.execute(
        f"SELECT {_TASK} FROM tasks WHERE {where} ORDER BY created DESC, id LIMIT ? OFFSET ?",  # noqa: S608  fixed names
        (namespace, project, limit, offset),
    )
    return total, [(_task(row), counts(connection, row[0])) for row in list(rows)]


def of_owner(connection: Connection, namespace: str, project: str, dataset: str | None, *, active: bool) -> list[Task]:
    """The tasks of a project, or of one of its datasets."""
    rows = connection.execute(
        f"SELECT {_TASK} FROM tasks WHERE namespace = ? AND project = ? AND (?3 IS NULL OR dataset = ?3)"  # noqa: S608  fixed names
        + (" AND finished IS NULL" if active else ""),
        (namespace, project, dataset),
    )
    return [_task(row) for row in rows]


def claim(connection: Connection, task_id: str, number: int) -> Claim | float | None:
    """Take an item to run it. None: there is nothing to do; a number: not before so many seconds.

    An interrupted item keeps its number of attempts: whether it counts as a new one is known after `recall`.
    """
    task = find(connection, task_id)
    row = connection.execute(
        f"SELECT {_ITEM} FROM task_items WHERE task = ? AND number = ?",  # noqa: S608  fixed names
        (task_id, number),
    ).fetchone()
    if task is None or row is None or task.final or task.cancel is not None:
        return None
    item = _item(row)
    if item.state not in ("pending", "retry"):
        return None
    wait = item.due - time.time()
    if wait > 0:
        return wait
    connection.execute(
        "UPDATE task_items SET state = 'processing', error = NULL, attempts = attempts + ? WHERE task = ? AND number = ?",
        (0 if item.interrupted else 1, task_id, number),
    )
    item.attempts += 0 if item.interrupted else 1
    _set_state(connection, task_id)
    return Claim(task, item)


def begin_again(connection: Connection, item: Item) -> bool:
    """Count a new attempt of an item that was interrupted. False: it is no longer ours."""
    connection.execute(
        "UPDATE task_items SET attempts = attempts + 1, interrupted = 0 "
        "WHERE task = ? AND number = ? AND state = 'processing'",
        (item.task, item.number),
    )
    return connection.changes() == 1


def _set_state(connection: Connection, task_id: str) -> None:
    """The task's state from its items': STARTED, RETRY, or final."""
    found = {
        state
        for state in ("pending", "processing", "retry")
        if connection.execute(
            "SELECT 1 FROM task_items WHERE task = ? AND state = ? LIMIT 1", (task_id, state)
        ).fetchone()
    }
    if not found:
        finish_task(connection, task_id)
        return
    state: TaskState = "RETRY" if found == {"retry"} else "STARTED"
    connection.execute("UPDATE tasks SET state = ? WHERE id = ? AND finished IS NULL", (state, task_id))


def finish_task(connection: Connection, task_id: str) -> None:
    """Give the task its final state, unless a cancel is under way, which does so itself."""
    failed = connection.execute(
        "SELECT 1 FROM task_items WHERE task = ? AND state = 'failure' LIMIT 1", (task_id,)
    ).fetchone()
    connection.execute(
        "UPDATE tasks SET state = ?, finished = ? WHERE id = ? AND finished IS NULL AND cancel IS NULL",
        ("FAILURE" if failed else "SUCCESS", time.time(), task_id),
    )


def succeed(connection: Connection, item: Item, outcome: Outcome) -> bool:
    """Finish an item with all that belongs to it. False: it is no longer ours, and nothing was written."""
    connection.execute(
        "UPDATE task_items SET state = 'success', interrupted = 0, error = NULL, attempts = max(1, attempts), "
        "stored = ?, skipped = ?, result = ? WHERE task = ? AND number = ? AND state = 'processing'",
        (outcome.stored, outcome.skipped, _encode(outcome.result), item.task, item.number),
    )
    if connection.changes() != 1:
        return False
    if outcome.commit is not None:
        outcome.commit(connection)
    _set_state(connection, item.task)
    return True


def fail(connection: Connection, item: Item, message: str, result: Payload | None, commit: Commit) -> None:
    """Record that an item failed for good."""
    connection.execute(
        "UPDATE task_items SET state = 'failure', interrupted = 0, error = ?, result = ? "
        "WHERE task = ? AND number = ? AND state = 'processing'",
        (message, None if result is None else _encode(result), item.task, item.number),
    )
    if connection.changes() == 1:
        if commit is not None:
            commit(connection)
        _set_state(connection, item.task)


def postpone(connection: Connection, item: Item, message: str, due: float) -> None:
    """Let an item wait for another attempt."""
    connection.execute(
        "UPDATE task_items SET state = 'retry', interrupted = 0, error = ?, due = ? "
        "WHERE task = ? AND number = ? AND state = 'processing'",
        (message, due, item.task, item.number),
    )
    _set_state(connection, item.task)


def release(connection: Connection, item: Item) -> None:
    """Give back an item that could not be finished because the server stops; its work may be done all the same."""
    connection.execute(
        "UPDATE task_items SET state = 'pending', interrupted = 1, attempts = max(0, attempts - 1) "
        "WHERE task = ? AND number = ? AND state = 'processing'",
        (item.task, item.number),
    )


def drop_item(connection: Connection, item: Item) -> None:
    """Mark a running item as stopped, by a cancel of its task or because its file was removed."""
    connection.execute(
        "UPDATE task_items SET state = 'cancelled' WHERE task = ? AND number = ? AND state = 'processing'",
        (item.task, item.number),
    )
    _set_state(connection, item.task)


def request_cancel(connection: Connection, task_id: str) -> tuple[int, int] | None:
    """Stop a task from beginning anything. Returns how many items waited and ran; None if it was final or cancelled."""
    connection.execute(
        "UPDATE tasks SET cancel = '{}' WHERE id = ? AND finished IS NULL AND cancel IS NULL", (task_id,)
    )
    if connection.changes() != 1:
        return None
    connection.execute(
        "UPDATE task_items SET state = 'cancelled' WHERE task = ? AND state IN ('pending', 'retry')", (task_id,)
    )
    waited = connection.changes()
    counted: Rows = connection.execute(
        "SELECT count(*) FROM task_items WHERE task = ? AND state = 'processing'", (task_id,)
    )
    running: int = next(iter(counted))[0]
    connection.execute(
        "UPDATE tasks SET cancel = ? WHERE id = ?", (_encode({"waited": waited, "ran": running}), task_id)
    )
    return waited, running


def mark_reverted(connection: Connection, item: Item, commit: Commit) -> None:
    """Record that what an item stored is gone."""
    connection.execute(
        "UPDATE task_items SET state = 'reverted' WHERE task = ? AND number = ?", (item.task, item.number)
    )
    if commit is not None:
        commit(connection)


def finish_cancel(connection: Connection, task_id: str, reply: Payload) -> None:
    """The cancel is done: the task is final, and `reply` answers for it from now on."""
    connection.execute("UPDATE task_items SET state = 'cancelled' WHERE task = ? AND state = 'processing'", (task_id,))
    connection.execute(
        "UPDATE tasks SET state = 'FAILURE', finished = ?, cancel = ? WHERE id = ?",
        (time.time(), _encode(reply), task_id),
    )


def recover(connection: Connection) -> None:
    """At start: what was running when the server died is pending again, its work possibly done."""
    connection.execute(
        "UPDATE task_items SET state = 'pending', interrupted = 1 WHERE state = 'processing' "
        "AND task IN (SELECT id FROM tasks WHERE finished IS NULL AND cancel IS NULL)"
    )


def open_items(connection: Connection) -> list[tuple[str, list[int]]]:
    """Every item that is still to be run, by task, the oldest task first."""
    rows = connection.execute(
        "SELECT task, number FROM task_items JOIN tasks ON tasks.id = task_items.task "
        "WHERE tasks.finished IS NULL AND tasks.cancel IS NULL AND task_items.state IN ('pending', 'retry') "
        "ORDER BY tasks.created, task, number"
    )
    return list(_grouped(rows))


def _grouped(rows: Any) -> Iterator[tuple[str, list[int]]]:
    current: tuple[str, list[int]] | None = None
    for task_id, number in rows:
        if current is None or current[0] != task_id:
            if current is not None:
                yield current
            current = (task_id, [])
        current[1].append(number)
    if current is not None:
        yield current


def half_cancelled(connection: Connection) -> list[str]:
    """Tasks whose cancel was cut short."""
    rows = connection.execute("SELECT id FROM tasks WHERE finished IS NULL AND cancel IS NOT NULL")
    return [row[0] for row in rows]


def finish_empty(connection: Connection) -> None:
    """Tasks without open items that were never finished: the server died between two transactions."""
    ids: Rows = connection.execute(
        "SELECT id FROM tasks WHERE finished IS NULL AND cancel IS NULL AND NOT EXISTS "  # noqa: S608  fixed names
        f"(SELECT 1 FROM task_items WHERE task = tasks.id AND state IN {_OPEN})"
    )
    for (task_id,) in list(ids):
        finish_task(connection, task_id)


def delete_owned(connection: Connection, namespace: str, project: str, dataset: str | None) -> None:
    """Delete the tasks of a project, or of one of its datasets."""
    connection.execute(
        "DELETE FROM tasks WHERE namespace = ? AND project = ? AND (?3 IS NULL OR dataset = ?3)",
        (namespace, project, dataset),
    )


def sweep(connection: Connection, before: float) -> int:
    """Delete the tasks that were finished before a time."""
    connection.execute("DELETE FROM tasks WHERE finished < ?", (before,))
    return connection.changes()
