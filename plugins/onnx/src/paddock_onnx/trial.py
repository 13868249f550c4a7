"""A model from somewhere is tried in a helper process before this one loads it.

Its files may be damaged or hostile: a graph that never ends or asks for more memory than there is, an operator that crashes, a
tokenizer that panics. All that happens to a helper.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from paddock.builtin.helpers import HelperOptions, HelperPool
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_onnx.cache import CachedGraph
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.wire import Build, Trial, Verdict

UNBOUND = 1 << 24  # MiB: each trial has a bound of its own
IDLE = 30.0  # seconds
_Files = tuple[tuple[str, int, int], ...]


class Trials:
    """Which models were tried. One that passed is not tried again until its files change."""

    def __init__(self, settings: OnnxSettings) -> None:
        self._settings = settings
        self._passed: set[_Files] = set()
        self._pool = HelperPool(
            HelperOptions(
                module="paddock_onnx.trying",
                section="onnx",
                doing="tries models",
                memory_mb=UNBOUND,
                idle_seconds=IDLE,
                refusal=ValidationFailed,
                most=2,
            )
        )

    async def need(self, found: CachedGraph, size: int) -> None:
        """Try a model of `size` bytes unless it passed. Raises ValidationFailed with what is wrong, ProviderUnavailable."""
        files = await asyncio.to_thread(_files, found)
        if files in self._passed:
            return
        await self._ask(self._trial(found.folder, found.graph, size))
        self._passed.add(files)

    def check(self, folder: Path, graph: Path, size: int) -> None:
        """Try a model that is not in the cache yet. Blocks. Raises as `need`."""
        request = self._trial(folder, graph, size)
        _judge(self._pool.ask(msgspec.json.encode(request), self._settings.timeout_seconds))

    def _trial(self, folder: Path, graph: Path, size: int) -> Trial:
        return Trial(folder=str(folder), graph=str(graph), size=size, providers=self._settings.providers)

    async def build(self, snapshot: Path, limit: int) -> None:
        """Make what a snapshot of the cache lacks to be run; `limit` bounds the bytes of its weights. Cancelling ends it.
        Raises as `need`."""
        await self._ask(Build(folder=str(snapshot), limit=limit))

    async def _ask(self, request: Trial | Build) -> None:
        _judge(await self._pool.ask_async(msgspec.json.encode(request), self._settings.timeout_seconds))

    async def close(self) -> None:
        """End what runs."""
        await asyncio.to_thread(self.end)

    def end(self) -> None:
        """The same where nothing else waits. Blocks."""
        self._pool.close()


def _judge(reply: msgspec.Raw) -> None:
    verdict = msgspec.json.decode(reply, type=Verdict)
    if verdict.problem:
        raise (ProviderUnavailable if verdict.here else ValidationFailed)(verdict.problem)


def _files(found: CachedGraph) -> _Files:
    """The model's files, by which a change of them is seen."""
    paths = (path for path in sorted({found.graph, *found.folder.rglob("*")}) if path.is_file())
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path in paths for stat in [path.stat()])


class Builds:
    """What is being made, one after the other; who asks for the same shares it. For one event loop."""

    def __init__(self, trials: Trials, limit: int) -> None:
        self._trials = trials
        self._limit = limit
        self._turn = asyncio.Lock()
        self._running: dict[Path, asyncio.Task[None]] = {}

    async def join(self, snapshot: Path) -> None:
        """Wait until a snapshot has what it lacked; it is made to the end whoever leaves. Raises as `Trials.build`."""
        running = self._running.get(snapshot)
        if running is None:
            running = self._running[snapshot] = asyncio.ensure_future(self._complete(snapshot))
            running.add_done_callback(seen)
        await asyncio.shield(running)

    async def _complete(self, snapshot: Path) -> None:
        try:
            async with self._turn:
                await self._trials.build(snapshot, self._limit)
        finally:
            del self._running[snapshot]


def seen(task: asyncio.Task[Any]) -> None:
    """For a task that others wait for, who may all have left: its failure is no crash."""
    if not task.cancelled():
        task.exception()
