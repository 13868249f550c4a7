"""What a kind of task is: a `TaskHandler`, its items and their outcomes. All payloads are plain data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.tasks import ItemState, TaskState
from paddock.storage import Connection

Payload = dict[str, Json]
FINAL: frozenset[TaskState] = frozenset({"SUCCESS", "FAILURE"})


class Task(msgspec.Struct, kw_only=True):
    """A task's row. `cancel` is None, or ``{}`` from the request to cancel on, or the reply of the finished cancel."""

    id: str
    kind: str
    namespace: str
    project: str
    dataset: str | None
    payload: Payload
    state: TaskState
    cancel: Payload | None
    created: float
    finished: float | None

    @property
    def final(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.finished is not None


class Item(msgspec.Struct, kw_only=True):
    """An item's row. `result` holds what the handler reported, `stored` and `skipped` count chunks."""

    task: str
    number: int
    label: str
    payload: Payload
    state: ItemState
    attempts: int
    interrupted: bool
    due: float
    stored: int
    skipped: int
    result: Payload | None
    error: str | None

    @property
    def token(self) -> str:
        """Names this item for ever: what it stores elsewhere carries the token, so that it can be recognised."""
        return f"{self.task}:{self.number}"


class Outcome(msgspec.Struct, kw_only=True):
    """How an item ended well. `commit` runs in the transaction that finishes the item; it must not raise."""

    result: Payload
    stored: int = 0
    skipped: int = 0
    commit: Callable[[Connection], None] | None = None


class Revert(msgspec.Struct, kw_only=True):
    """What a cancel removed of an item. `commit` runs in the transaction that marks the item as reverted."""

    removed: bool
    commit: Callable[[Connection], None] | None = None


class TaskHandler(ABC):
    """Does one kind of task. Handlers are idempotent: an item may be run again after a crash or a retry.

    A `PaddockError` that `transient` calls passing is tried again with growing delays; any other fails the item, and only
    the item. Cancellation arrives as CancelledError at an await; what must not be cut is wrapped in `uninterrupted`.
    """

    kind: ClassVar[str]
    cancellable: ClassVar[bool] = True

    @abstractmethod
    async def run_item(self, task: Task, item: Item) -> Outcome:
        """Do the item's work."""

    async def recall(self, task: Task, item: Item) -> Outcome | None:
        """After an interruption: the outcome if the item's work was done for good, else None and it is run again."""
        return None

    async def revert(self, task: Task, item: Item) -> Revert:
        """Remove what this item stored, if it stored anything. Raises PaddockError when that fails."""
        return Revert(removed=False)

    def failed(self, task: Task, item: Item, message: str) -> Callable[[Connection], None] | None:
        """What else to write in the transaction that records an item's final failure."""
        return None

    @abstractmethod
    def result(self, task: Task, items: Sequence[Item]) -> Payload:
        """The result of a finished task."""

    def message(self, current: int, total: int) -> str:
        """Progress for people."""
        return f"Processing {current}/{total} files"


ItemStatus = Literal["processed", "skipped", "failed", "pending", "cancelled"]
_STATUS: dict[ItemState, ItemStatus] = {
    "failure": "failed",
    "cancelled": "cancelled",
    "reverted": "cancelled",
    "pending": "pending",
    "processing": "pending",
    "retry": "pending",
}


def item_status(item: Item) -> ItemStatus:
    """The item's state in the words of a result."""
    if item.state == "success":
        return "skipped" if (item.result or {}).get("status") == "skipped" else "processed"
    return _STATUS[item.state]
