"""Texts of all files under way to vectors, in full batches: small files share one, large ones take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec

from paddock.contracts.providers import Vectors
from paddock.errors import PaddockError
from paddock.services.stores import BoundEmbedder

CONCURRENCY = 2  # batches under way for each embedder


class _Job:
    """The texts of one file. `parts` holds the finished pieces by where they begin."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.taken = 0
        self.missing = len(texts)
        self.parts: dict[int, Vectors] = {}
        self.done: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()

    def put(self, start: int, vectors: Vectors) -> None:
        import numpy as np  # noqa: PLC0415  heavy: on first use

        self.parts[start] = vectors
        self.missing -= len(vectors)
        if self.missing == 0 and not self.done.done():
            if len(self.parts) == 1:
                self.done.set_result(vectors)
            else:
                self.done.set_result(np.concatenate([self.parts[at] for at in sorted(self.parts)]))

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


_Slice = tuple[_Job, int, int]


class _Lane:
    """The jobs of one embedder with one config."""

    def __init__(self, embedder: BoundEmbedder) -> None:
        self.embedder = embedder
        self.size = max(1, getattr(embedder.config, "batch_size", None) or embedder.embedder.batch_size)
        self.jobs: deque[_Job] = deque()
        self.working: set[asyncio.Task[None]] = set()

    def next_batch(self) -> list[_Slice]:
        """As many texts as one batch takes, from the jobs in turn."""
        batch: list[_Slice] = []
        room = self.size
        while room and self.jobs:
            job = self.jobs.popleft()
            if job.done.done():  # cancelled, or failed by an earlier batch
                continue
            count = min(room, len(job.texts) - job.taken)
            batch.append((job, job.taken, job.taken + count))
            job.taken += count
            room -= count
            if job.taken < len(job.texts):
                self.jobs.append(job)
        return batch

    async def work(self) -> None:
        while batch := self.next_batch():
            try:
                await self._embed(batch)
            except Exception as error:  # noqa: BLE001  handed to those who wait for it
                await self._apart(batch, error)

    async def _embed(self, batch: Sequence[_Slice]) -> None:
        texts = [text for job, start, end in batch for text in job.texts[start:end]]
        vectors = await self.embedder.embed(texts, "document")
        at = 0
        for job, start, end in batch:
            job.put(start, vectors[at : at + end - start])
            at += end - start

    async def _apart(self, batch: Sequence[_Slice], error: Exception) -> None:
        """A batch failed: find out whose fault it was, so that no file fails with another's text."""
        if len(batch) == 1 or not isinstance(error, PaddockError):
            for job, _, _ in batch:
                job.fail(error)
            return
        for one in batch:
            try:
                await self._embed([one])
            except Exception as own:  # noqa: BLE001  handed to the one who waits for it
                one[0].fail(own)


class EmbeddingQueue:
    """The one way in which files are embedded. For one event loop."""

    def __init__(self, concurrency: int = CONCURRENCY) -> None:
        self._concurrency = concurrency
        self._lanes: dict[tuple[int, bytes], _Lane] = {}

    async def embed(self, embedder: BoundEmbedder, texts: Sequence[str]) -> Vectors:
        """One vector for each text. Raises what the embedder raises for these texts."""
        key = (id(embedder.embedder), msgspec.json.encode(embedder.config))
        lane = self._lanes.setdefault(key, _Lane(embedder))
        job = _Job(texts)
        lane.jobs.append(job)
        self._start(key, lane)
        return await job.done

    def _start(self, key: tuple[int, bytes], lane: _Lane) -> None:
        if lane.jobs and len(lane.working) < self._concurrency:
            work = asyncio.ensure_future(lane.work())
            lane.working.add(work)
            work.add_done_callback(lambda done: self._ended(key, lane, done))

    def _ended(self, key: tuple[int, bytes], lane: _Lane, work: asyncio.Task[None]) -> None:
        lane.working.discard(work)
        if not work.cancelled():
            self._start(key, lane)  # for a job that came while this one was ending
        if not lane.working and self._lanes.get(key) is lane:
            del self._lanes[key]

    async def close(self) -> None:
        """Stop the batches under way."""
        working = [work for lane in self._lanes.values() for work in lane.working]
        for work in working:
            work.cancel()
        await asyncio.gather(*working, return_exceptions=True)
