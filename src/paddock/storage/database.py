"""One SQLite file: one writer thread, a pool of readers, numbered migrations.

All writes of a file go through its one writer thread, so ``database is locked`` can't happen inside the process; readers
see a consistent snapshot (WAL) and never wait for the writer. Writes that wait at the same moment share one commit, each
in a savepoint of its own, so that one which fails takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from paddock.errors import PaddockError, ProviderUnavailable

T = TypeVar("T")
Connection = apsw.Connection
Setup = Callable[[Connection], None]
Migration = str | Callable[[Connection], None]

GROUP = 64  # writes that share one commit at most


class DatabaseDamaged(ProviderUnavailable):
    """SQLite's own check found the file damaged; the message names the file and the next step."""


class Database:
    """A database file. Open with `await Database.open(…)` (or construct and `await start()`), close with `await close()`.

    The functions given to `read` and `write` run in another thread with a connection of their own; they must fetch all
    they need before they return, because cursors do not outlive the call.
    """

    def __init__(
        self, path: Path, migrations: Sequence[Migration], *, setup: Setup | None = None, readers: int = 2
    ) -> None:
        self.path = path
        self._migrations = migrations
        self._setup = setup
        self._jobs: queue.SimpleQueue[tuple[Callable[[Connection], object], Future[object]] | None] = (
            queue.SimpleQueue()
        )
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix=f"read-{path.stem}")
        self._local = threading.local()
        self._open: list[Connection] = []
        self._lock = threading.Lock()
        self._writer = threading.Thread(target=self._write_loop, name=f"write-{path.stem}", daemon=True)
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, migrations: Sequence[Migration], *, setup: Setup | None = None, readers: int = 2
    ) -> Database:
        """Open or create the file, check it, and bring its schema up to date.

        `setup` runs on every new connection (load an extension, register a function). Raises DatabaseDamaged, or
        ProviderUnavailable when the file was written by a newer version.
        """
        self = cls(path, migrations, setup=setup, readers=readers)
        await self.start()
        return self

    async def start(self) -> None:
        """Open the file; see `open`."""
        await asyncio.to_thread(self._prepare, self._migrations)
        self._writer.start()

    def _prepare(self, migrations: Sequence[Migration]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            connection = self._connect()
        except (apsw.NotADBError, apsw.CorruptError) as error:
            raise DatabaseDamaged(damaged_message(self.path, str(error))) from error
        with contextlib.closing(connection):
            try:
                found = connection.execute("PRAGMA quick_check(1)").fetchall()
            except (apsw.NotADBError, apsw.CorruptError) as error:
                raise DatabaseDamaged(damaged_message(self.path, str(error))) from error
            if found != [("ok",)]:
                raise DatabaseDamaged(damaged_message(self.path, str(found[0][0])))
            self._migrate(connection, migrations)

    def _migrate(self, connection: Connection, migrations: Sequence[Migration]) -> None:
        version = int(connection.pragma("user_version"))
        if version > len(migrations):
            raise ProviderUnavailable(
                f"{self.path.name} has schema version {version}, this paddock knows {len(migrations)}: install the newer paddock"
            )
        for number, migration in enumerate(migrations[version:], start=version + 1):
            with connection:
                if callable(migration):
                    migration(connection)
                else:
                    connection.execute(migration)
                connection.pragma("user_version", number)

    def _connect(self) -> Connection:
        connection = apsw.Connection(str(self.path))
        connection.set_busy_timeout(10_000)
        # Fetched to the end: apsw stops at the first row, and would leave the other statements undone.
        connection.execute(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY"
        ).fetchall()
        if self._setup:
            self._setup(connection)
        with self._lock:
            self._open.append(connection)
        return connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a reader. Cancelling the caller does not stop SQLite; keep reads short."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
        return work(connection)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the writer; when this returns, the change is on disk.

        An exception rolls back what `work` did and reaches the caller. Cancelling the caller does not undo the write.
        """
        self._check_open()
        future: Future[T] = Future()
        self._jobs.put((work, future))  # type: ignore[arg-type]  # Future is invariant
        return await asyncio.shield(asyncio.wrap_future(future))

    def _check_open(self) -> None:
        if self._closed:
            raise ProviderUnavailable(f"{self.path.name} is closed: the server is shutting down")

    def _write_loop(self) -> None:
        connection = self._connect()
        running = True
        while running:
            jobs = [self._jobs.get()]
            while len(jobs) < GROUP and not self._jobs.empty():
                jobs.append(self._jobs.get())
            running = None not in jobs
            self._commit(connection, [job for job in jobs if job is not None])

    def _commit(
        self, connection: Connection, jobs: list[tuple[Callable[[Connection], object], Future[object]]]
    ) -> None:
        done: list[tuple[Future[object], object]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for work, future in jobs:
                try:
                    with connection:
                        result = work(connection)
                    done.append((future, result))
                except Exception as error:  # noqa: BLE001  handed to the caller who waits for it
                    future.set_exception(error)
            connection.execute("COMMIT")
        except apsw.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = storage_error(self.path, error)
            for _, future in jobs:
                if not future.done():
                    future.set_exception(failure)
            return
        for future, result in done:
            future.set_result(result)

    async def close(self) -> None:
        """Finish the writes that wait, then close every connection. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writer.join()
        self._pool.shutdown(wait=True)
        for connection in self._open:
            connection.close()


def damaged_message(path: Path, found: str) -> str:
    """The sentence for a person who finds the file damaged at night."""
    return f"{path} is damaged ({found}): stop paddock, move the file away and restore a backup; uploaded files are not affected"


def storage_error(path: Path, error: apsw.Error) -> PaddockError:
    """Translate SQLite's failure to commit (disk full, read-only, damaged) into one that a caller may see."""
    if isinstance(error, apsw.FullError):
        return ProviderUnavailable(
            f"the disk is full: nothing was written to {path.name}; free some space and try again"
        )
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return DatabaseDamaged(damaged_message(path, str(error)))
    return ProviderUnavailable(f"can't write to {path.name}: {error}")
