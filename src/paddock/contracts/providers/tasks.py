"""Task queues and project templates."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from paddock.contracts.providers.base import Provider

ItemRunner = Callable[[str, int], Awaitable[float | None]]


class TaskQueue(Provider):
    """Decides when and where items of tasks run. What they are and how they went is the core's, in its database.

    The queue calls ``await run(task_id, item)`` at least once for each submitted item. The runner claims the item in a
    transaction, so a second call does no harm; it returns None when it is done with the item, or the seconds after which
    to call it again (a retry).
    """

    @abstractmethod
    async def start(self, run: ItemRunner) -> None:
        """Begin to work."""

    @abstractmethod
    async def submit(self, task_id: str, items: Sequence[int]) -> None:
        """Accept items. Idempotent. May wait (backpressure), never drops."""

    @abstractmethod
    async def stop(self) -> None:
        """Finish or cancel what runs; what did not finish is submitted again at the next start."""


class TemplateSource(Provider):
    """Project templates by name."""

    @abstractmethod
    async def names(self) -> list[str]:
        """The templates that it has."""

    @abstractmethod
    async def read(self, name: str) -> str | None:
        """The YAML text, or None."""
