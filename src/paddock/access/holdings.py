"""What is being done under each credential, so that it ends when the credential does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from paddock.contracts.base import Caller

_LONGEST = 86_400.0  # seconds that one timer runs; a longer wait is several


class Holdings:
    """Tasks by the id of the key or token that they run under. `stands` tells whether a credential still admits."""

    def __init__(self, stands: Callable[[Caller], bool]) -> None:
        self._stands = stands
        self._running: dict[str, list[asyncio.Future[Any]]] = {}

    @contextlib.contextmanager
    def holding(self, caller: Caller, task: asyncio.Future[Any]) -> Iterator[None]:
        """Cancel `task` at the moment when the caller's credential is revoked or expires, at once if it is over already.
        Whoever sees the task cancelled asks `stands` why."""
        if caller.key_id is None:
            yield
            return
        tasks = self._running.setdefault(caller.key_id, [])
        tasks.append(task)  # once for each holding: a task may be held while a part of its work is
        timer = _Timer(caller, task) if caller.expires is not None else None
        if not self._stands(caller):
            task.cancel()
        try:
            yield
        finally:
            if timer is not None:
                timer.stop()
            tasks.remove(task)
            if not tasks and self._running.get(caller.key_id) is tasks:
                del self._running[caller.key_id]

    def running(self, key_id: str) -> int:
        """How much runs under a credential."""
        return len(self._running.get(key_id, ()))

    def end(self, key_id: str) -> int:
        """End everything that runs under a credential; returns how much that was."""
        tasks = set(self._running.get(key_id, ()))
        for task in tasks:
            task.cancel()
        return len(tasks)


class _Timer:
    """Cancels a task at the end of a credential."""

    def __init__(self, caller: Caller, task: asyncio.Future[Any]) -> None:
        assert caller.expires is not None
        self._end = caller.expires
        self._task = task
        self._start()

    def _start(self) -> None:
        left = self._end - time.time()
        self._handle = asyncio.get_running_loop().call_later(max(0.0, min(left, _LONGEST)), self._over)

    def _over(self) -> None:
        if time.time() >= self._end:
            self._task.cancel()
        else:
            self._start()

    def stop(self) -> None:
        """The task ended first."""
        self._handle.cancel()
