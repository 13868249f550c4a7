"""The logs of instances: the last lines in memory, all of them in files rotated by size and count, written by one thread.

Nothing here ever waits for the disk in the event loop, and a child is never kept from writing: what the disk can't take is
dropped, counted, and reported once a minute.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from paddock.storage.paths import inside
from paddock_llama_server import lines
from paddock_llama_server.spec import LogEntry

FOLLOWER_LINES = 1000  # that a slow reader may be behind before it loses the oldest
PENDING_LINES = 20_000  # that may wait for a slow disk
WARN_EVERY = 60
FILE = "log"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept: bytes of a file, number of files, bytes of the ring in memory."""

    file_bytes: int
    files: int
    ring_bytes: int


class LogFiles:
    """The files of one instance, newest ``log``, older ``log.1`` … Used in the writer's thread only."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self._limits = limits
        self._file: IO[bytes] | None = None
        self._size = 0

    def write(self, entries: Iterable[LogEntry]) -> None:
        """Append. Raises OSError; then what was not written is lost."""
        for one in entries:
            line = lines.stored(one)
            if self._file is None or self._size + len(line) > self._limits.file_bytes:
                self._turn()
            assert self._file is not None
            self._file.write(line)
            self._size += len(line)
        if self._file is not None:
            self._file.flush()

    def _turn(self) -> None:
        """Open the file, after moving a full one on."""
        fresh = self._file is None
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / FILE
        size = path.stat().st_size if path.exists() else 0
        if not fresh or size >= self._limits.file_bytes:
            for number in range(self._limits.files - 1, 0, -1):
                older = self._path(number - 1)
                if older.exists():
                    older.replace(self._path(number))
            path.unlink(missing_ok=True)
            size = 0
        self._file, self._size = path.open("ab"), size

    def _path(self, number: int) -> Path:
        return self.folder / (f"{FILE}.{number}" if number else FILE)

    def tail(self, count: int | None) -> list[LogEntry]:
        """The last lines of all files."""
        return lines.last_lines((self._path(number) for number in range(self._limits.files)), count)

    def close(self) -> None:
        """Close; writing opens again."""
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def remove(self) -> None:
        """Delete the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class InstanceLog:
    """One instance's log, used from the event loop."""

    def __init__(self, files: LogFiles, limits: Limits, pool: ThreadPoolExecutor, warn: Callable[[str], None]) -> None:
        self._files = files
        self._limits = limits
        self._pool = pool
        self._warn = warn
        self._ring: deque[LogEntry] = deque()
        self._ring_bytes = 0
        self._pending: list[LogEntry] = []
        self._writing: asyncio.Future[None] | None = None
        self._followers: set[asyncio.Queue[LogEntry | None]] = set()
        self._dropped = 0
        self._warned = -float(WARN_EVERY)
        self.progress = 0
        """Grows with every line."""

    def add(self, texts: Iterable[str]) -> None:
        """Take lines; returns at once."""
        now = time.time()
        for text in texts:
            self.progress += 1
            self._keep(lines.entry(text, now))
        self._write_on()

    def _keep(self, one: LogEntry) -> None:
        self._ring.append(one)
        self._ring_bytes += len(one.text) + 64
        while self._ring_bytes > self._limits.ring_bytes and len(self._ring) > 1:
            self._ring_bytes -= len(self._ring.popleft().text) + 64
        if len(self._pending) < PENDING_LINES:
            self._pending.append(one)
        else:
            self._dropped += 1
        for queue in self._followers:
            offer(queue, one)

    def _write_on(self) -> None:
        """Hand what waits to the writer, unless it is at work: then it is handed over when that is done."""
        if self._pending and self._writing is None:
            batch, self._pending = self._pending, []
            self._writing = asyncio.get_running_loop().run_in_executor(self._pool, self._files.write, batch)
            self._writing.add_done_callback(lambda done: self._written(done, len(batch)))

    def _written(self, done: asyncio.Future[None], count: int) -> None:
        self._writing = None
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._dropped += count
            if time.monotonic() - self._warned >= WARN_EVERY:
                self._warned = time.monotonic()
                self._warn(f"{self._dropped} log lines could not be written: {error}")
        self._write_on()

    def recent(self, count: int, since: int = 0) -> list[str]:
        """The texts of the last lines in memory; of those that came when `progress` was `since` or more."""
        found = [one.text for one in self._ring]
        return found[max(0, len(found) - min(count, self.progress - since)) :]

    async def tail(self, count: int | None) -> list[LogEntry]:
        """The last lines (None: all), from memory where that holds enough."""
        if count is not None and count <= len(self._ring):
            return list(self._ring)[len(self._ring) - count :]
        return await self._from_files(count)

    async def _from_files(self, count: int | None) -> list[LogEntry]:
        """The last lines up to now: the one thread writes what waits before it reads."""
        batch, self._pending = self._pending, []
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._pool, self._files.write, batch)
        reading = loop.run_in_executor(self._pool, self._files.tail, count)
        (failure, found) = await asyncio.gather(writing, reading, return_exceptions=True)
        if isinstance(failure, BaseException):
            self._dropped += len(batch)
        if isinstance(found, BaseException):
            raise found
        return found

    async def follow(self, count: int) -> AsyncGenerator[LogEntry, None]:
        """The last lines, then every new one; ends when the log is closed."""
        queue: asyncio.Queue[LogEntry | None] = asyncio.Queue(FOLLOWER_LINES)
        self._followers.add(
            queue
        )  # before the tail is read: nothing is missed, and nothing comes twice (see _from_files)
        try:
            for one in await self.tail(count) if count > 0 else ():
                yield one
            while (new := await queue.get()) is not None:
                yield new
        finally:
            self._followers.discard(queue)

    async def close(self, *, remove: bool = False) -> None:
        """Write what waits, end the followers; with `remove` delete the files."""
        for queue in self._followers:
            offer(queue, None)
        batch, self._pending = self._pending, []
        loop = asyncio.get_running_loop()
        end = self._files.remove if remove else self._files.close
        jobs = [loop.run_in_executor(self._pool, self._files.write, [] if remove else batch)]
        jobs.append(loop.run_in_executor(self._pool, end))
        await asyncio.gather(*jobs, return_exceptions=True)


T = TypeVar("T")


def offer(queue: asyncio.Queue[T], item: T) -> None:
    """Put into a bounded queue; the oldest is lost when it is full."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(item)


class Logs:
    """All logs under ``{data}/logs/instances/NAME/``."""

    def __init__(self, root: Path, limits: Limits, warn: Callable[[str, str], None]) -> None:
        self._root = root
        self._limits = limits
        self._warn = warn
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="paddock-logs")

    def open(self, name: str) -> InstanceLog:
        """The log of an instance. Raises BadName for a name that may be no folder."""
        files = LogFiles(inside(self._root, name), self._limits)
        return InstanceLog(files, self._limits, self._pool, lambda text: self._warn(name, text))

    async def close(self) -> None:
        """End the writer; every log was closed before."""
        await asyncio.to_thread(self._pool.shutdown)
