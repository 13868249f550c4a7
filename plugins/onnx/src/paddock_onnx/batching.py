"""Texts of all requests under way to one model, in full batches of similar length; requests take turns.

Each batch is led by the next request in turn with its longest text, and filled with the longest shorter ones of everybody, so
that little is padded. Every second turn is for the requests that one batch could hold, while there are any: a question does
not wait for thirty loads of documents, nor those for ever for questions. What belongs to a request that was cancelled is left
out.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import msgspec

R = TypeVar("R")

ROWS = 64  # texts of one batch
SIMILAR = 0.6  # a text joins a batch when it has at least this share of its longest text …
CLOSE = 8  # … or at most so many tokens less


class Tokens(msgspec.Struct, frozen=True):
    """One text as numbers; `kinds` are token types, None when all are 0; the first `skip` tokens do not count for pooling."""

    ids: Sequence[int]
    kinds: Sequence[int] | None = None
    skip: int = 0


class _Job(Generic[R]):
    """The texts of one request; `waiting` are their places, the shortest first."""

    def __init__(self, items: Sequence[Tokens]) -> None:
        self.items = items
        self.waiting = sorted(range(len(items)), key=lambda place: len(items[place].ids))
        self.tokens = sum(len(item.ids) for item in items)
        self.results: list[Any] = [None] * len(items)
        self.missing = len(items)
        self.done: asyncio.Future[list[R]] = asyncio.get_running_loop().create_future()

    def longest(self, limit: int | None = None) -> int | None:
        """Take the longest waiting text of at most `limit` tokens, unless it is much shorter; its place."""
        at = len(self.waiting)
        if limit is not None:
            at = bisect_right(self.waiting, limit, key=lambda place: len(self.items[place].ids))
        if at == 0:
            return None
        place = self.waiting[at - 1]
        if limit is not None and len(self.items[place].ids) < min(limit * SIMILAR, limit - CLOSE):
            return None
        del self.waiting[at - 1]
        return place

    def put(self, place: int, result: R) -> None:
        self.results[place] = result
        self.missing -= 1
        if self.missing == 0 and not self.done.done():
            self.done.set_result(self.results)


class Bound(msgspec.Struct, frozen=True):
    """After how many seconds `stop` is called, from another thread, to make a run end."""

    seconds: float
    stop: Callable[[], None]


class Batcher(Generic[R]):
    """The one way to a loaded model. `run` blocks, and gives one result for each text. For one event loop."""

    def __init__(
        self, run: Callable[[Sequence[Tokens]], Sequence[R]], batch_tokens: int, bound: Bound | None = None
    ) -> None:
        self._run = run
        self._bound = bound
        self._batch_tokens = batch_tokens
        self._small: deque[_Job[R]] = deque()  # those that one batch could hold
        self._large: deque[_Job[R]] = deque()
        self._was_small = False
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="onnx-run")

    async def submit(self, items: Sequence[Tokens]) -> list[R]:
        """One result for each text, in order. Raises what `run` raises. Cancelling leaves out what did not run yet."""
        if not items:
            return []
        job: _Job[R] = _Job(items)
        fits = job.tokens <= self._batch_tokens and len(items) <= ROWS
        (self._small if fits else self._large).append(job)
        if self._working is None:
            self._working = asyncio.ensure_future(self._work())
        return await job.done

    async def _work(self) -> None:
        try:
            while batch := self._next():
                try:
                    items = [job.items[place] for job, place in batch]
                    results = await self._ran(items)
                    given = list(zip(batch, results, strict=True))
                except Exception as error:  # noqa: BLE001  handed to those who wait for it
                    for job, _ in batch:
                        if not job.done.done():
                            job.done.set_exception(error)
                    continue
                for (job, place), result in given:
                    job.put(place, result)
        finally:
            self._working = None

    async def _ran(self, items: Sequence[Tokens]) -> Sequence[R]:
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._run, items)
        if self._bound is None:
            return await running
        guard = loop.call_later(self._bound.seconds, self._bound.stop)
        try:
            return await running
        finally:
            guard.cancel()

    def _next(self) -> list[tuple[_Job[R], int]]:
        """The texts of the next batch."""
        self._small, self._large = map(_left, (self._small, self._large))
        turn = self._large if self._large and (self._was_small or not self._small) else self._small
        if not turn:
            return []
        self._was_small = turn is self._small
        lead = turn[0]
        turn.rotate(-1)
        first = lead.longest()
        assert first is not None
        longest = max(1, len(lead.items[first].ids))
        room = min(ROWS, max(1, self._batch_tokens // longest))
        batch = [(lead, first)]
        willing = deque([lead, *(job for job in (*self._small, *self._large) if job is not lead)])
        while willing and len(batch) < room:
            job = willing.popleft()
            place = job.longest(longest)
            if place is not None:
                batch.append((job, place))
                willing.append(job)
        return batch


def _left(jobs: deque[_Job[R]]) -> deque[_Job[R]]:
    """Those with texts that somebody still waits for."""
    return deque(job for job in jobs if job.waiting and not job.done.done())
