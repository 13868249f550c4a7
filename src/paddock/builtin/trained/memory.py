"""Loaded models: each loaded once however many ask, the least used ones dropped."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from paddock.builtin.trained.files import Key

M = TypeVar("M")


class InMemory(Generic[M]):
    """At most `limit` models, the one used longest ago dropped first. For one event loop; `load` runs in a thread."""

    def __init__(self, load: Callable[[Key], M], limit: int) -> None:
        self._load = load
        self._limit = limit
        self._models: OrderedDict[Key, asyncio.Task[M]] = OrderedDict()

    async def get(self, key: Key) -> M:
        """The model. Raises what `load` raises; a failure is not remembered."""
        task = self._models.get(key)
        if task is None:
            task = self._models[key] = asyncio.ensure_future(asyncio.to_thread(self._load, key))
            task.add_done_callback(lambda done: self._ended(key, done))
        self._models.move_to_end(key)
        while len(self._models) > self._limit:
            self._models.popitem(last=False)
        return await asyncio.shield(task)  # another caller may wait for the same

    def _ended(self, key: Key, task: asyncio.Future[M]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._models.get(key) is task:
            del self._models[key]

    def drop(self, key: Key) -> None:
        """Forget a model that was replaced or deleted; who uses it now keeps it to the end."""
        self._models.pop(key, None)

    def loaded(self) -> list[Key]:
        """The models in memory, the least used first."""
        return list(self._models)
