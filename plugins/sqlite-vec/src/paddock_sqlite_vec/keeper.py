"""Keeps the derived indexes of one opened database level with SQLite, in the background."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from paddock.contracts.base import Json
from paddock.storage import Database
from paddock_sqlite_vec.bm25 import Bm25
from paddock_sqlite_vec.derived import Damaged, Derived, is_failure
from paddock_sqlite_vec.hnsw import METRICS, Hnsw
from paddock_sqlite_vec.rows import count_chunks
from paddock_sqlite_vec.schema import read_shape
from paddock_sqlite_vec.settings import SqliteVecSettings

AT_CLOSE = 10  # at closing an index is saved after this part of the usual number of new chunks
LOCK_FILE = "lock"

logger = logging.getLogger("paddock.sqlite_vec")


class Slot:
    """The place of one index: the one that answers, and one that is being built to replace it."""

    def __init__(self, make: Callable[[], Awaitable[Derived | None]]) -> None:
        self.make = make
        self.current: Derived | None = None
        self.fresh: Derived | None = None
        self.problem: str | None = None

    def state(self) -> dict[str, Json]:
        """For statistics: whether an index answers and how far it is, or what is wrong with it."""
        facts: dict[str, Json] = {"answers": self.current is not None}
        if self.current is not None:
            facts |= {"seq": self.current.position.seq, "up_to": self.current.position.top}
        return facts | ({"problem": self.problem} if self.problem else {})


class Keeper:
    """Owns the folder of the indexes. `start` it, `wake` it after each write, `stop` it before the database closes."""

    def __init__(self, database: Database, folder: Path, settings: SqliteVecSettings) -> None:
        self._database = database
        self._folder = folder
        self._settings = settings
        self._wake = asyncio.Event()
        self._level = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._lock: int | None = None
        self._loop = asyncio.get_running_loop()
        self._vectors = Slot(self._make_vectors)
        self._texts = Slot(self._make_texts)

    @property
    def vectors(self) -> Hnsw | None:
        """The index of vectors, if one answers."""
        return self._vectors.current if isinstance(self._vectors.current, Hnsw) else None

    @property
    def texts(self) -> Bm25 | None:
        """The index of words, if one answers."""
        return self._texts.current if isinstance(self._texts.current, Bm25) else None

    def start(self) -> None:
        """Begin; everything that needs time happens in the background."""
        self._task = asyncio.create_task(self._run(), name=f"indexes of {self._folder.parent.name}")

    def wake(self) -> None:
        """Something was written. Callable from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended; the next start catches up
            self._loop.call_soon_threadsafe(self._wake_now)

    def _wake_now(self) -> None:
        self._level.clear()
        self._wake.set()

    async def level(self) -> None:
        """Wait until the indexes hold all that was written before, or have given up."""
        if self._task is not None and not self._task.done():
            self._wake_now()
            await self._level.wait()

    def states(self) -> dict[str, Json]:
        """What the statistics show."""
        return {"vectors": self._vectors.state(), "texts": self._texts.state()}

    async def stop(self) -> None:
        """End, and save what would take long to make again. Idempotent."""
        self._stopping = True
        self._wake_now()
        if self._task is not None:
            await self._task
            self._task = None

    async def _run(self) -> None:
        try:
            while not self._stopping:
                self._wake.clear()
                if await self._wanted():
                    await self._advance_all()
                if not self._wake.is_set():
                    self._level.set()
                await self._wake.wait()
            for slot in (self._vectors, self._texts):
                await self._guarded(slot, partial(self._save, slot, self._settings.save_after // AT_CLOSE))
        finally:
            self._vectors.current = self._texts.current = None
            self._level.set()
            self._unlock()

    async def _wanted(self) -> bool:
        """Whether there are enough chunks for an index, and nobody else works in the folder."""
        if self._vectors.current or self._texts.current:
            return True
        count = await self._database.read(count_chunks)
        return count > self._settings.fast_above and await asyncio.to_thread(self._try_lock)

    def _try_lock(self) -> bool:
        if self._lock is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                self._vectors.problem = self._texts.problem = "somebody else has opened this database: SQLite answers"
                return False
            self._lock = handle
            self._vectors.problem = self._texts.problem = None
        return True

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _advance_all(self) -> None:
        """Do steps in turn until all indexes are level. What fails waits for the next write."""
        slots = [self._texts, self._vectors]
        while slots and not self._stopping:
            for slot in list(slots):
                if not await self._guarded(slot, partial(self._advance, slot)):
                    slots.remove(slot)

    async def _guarded(self, slot: Slot, work: Callable[[], Awaitable[bool]]) -> bool:
        """Run one piece of work. When it fails SQLite answers what the index lacks, and statistics tell why."""
        try:
            more = await work()
        except BaseException as error:
            if not is_failure(error):
                raise
            logger.exception("an index in %s can't be kept: SQLite answers", self._folder)
            slot.problem = f"{type(error).__name__}: {error}"
            return False
        slot.problem = None
        return more

    async def _advance(self, slot: Slot) -> bool:
        """One step; whether there is more to do."""
        if slot.current is None:
            slot.current = await slot.make()
            return slot.current is not None
        index = slot.fresh or slot.current
        step = await self._database.read(index.next_step)
        if step is None:
            slot.current = slot.fresh = None
            raise Damaged("the database file was exchanged while it was open: close it and open it again")
        await asyncio.to_thread(index.apply, step)
        if not step.level:
            return True
        if slot.fresh is not None:
            slot.current, slot.fresh = slot.fresh, None
        if index.wasteful(await self._database.read(count_chunks)):
            slot.fresh = index.again()
            return True
        return await self._save(slot, self._settings.save_after)

    async def _save(self, slot: Slot, after: int) -> bool:
        index = slot.current
        if index is not None and index.position.top - index.saved.top > after:
            await asyncio.to_thread(index.save)
        return False

    async def _make_vectors(self) -> Derived | None:
        shape = await self._database.read(read_shape)
        if shape is None or shape.metric not in METRICS:
            return None
        return await self._opened(Hnsw(self._folder, shape))

    async def _make_texts(self) -> Derived | None:
        return await self._opened(Bm25(self._folder))

    async def _opened(self, index: Derived) -> Derived:
        """Load an index; it may answer only when it belongs to this file's history."""
        reason = await asyncio.to_thread(index.load)
        if reason is None and await self._database.read(index.next_step) is None:
            reason = "it belongs to another state of the database"
            await asyncio.to_thread(index.begin)
        if reason is not None:
            logger.warning("the index of %s in %s is built again: %s", index.name, self._folder, reason)
        return index
