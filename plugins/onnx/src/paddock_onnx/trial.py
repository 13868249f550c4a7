"""A model from somewhere is tried in a helper process before this one loads it.

Its files may be damaged or hostile: a graph that never ends or asks for more memory than there is, an operator that crashes, a
tokenizer that panics. All that happens to a helper.
"""

from __future__ import annotations

import asyncio

import msgspec

from paddock.builtin.helpers import HelperOptions, HelperPool
from paddock.errors import ValidationFailed
from paddock_onnx.cache import CachedGraph
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.wire import Trial, Verdict

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
        settings = self._settings
        trial = Trial(folder=str(found.folder), graph=str(found.graph), size=size, providers=settings.providers)
        reply = await self._pool.ask_async(msgspec.json.encode(trial), settings.timeout_seconds)
        problem = msgspec.json.decode(reply, type=Verdict).problem
        if problem:
            raise ValidationFailed(problem)
        self._passed.add(files)

    async def close(self) -> None:
        """End what runs."""
        await asyncio.to_thread(self._pool.close)


def _files(found: CachedGraph) -> _Files:
    """The model's files, by which a change of them is seen."""
    paths = (path for path in (found.graph, *sorted(found.folder.iterdir())) if path.is_file())
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path in paths for stat in [path.stat()])
