"""One SQLite file: one writer thread, a pool of readers, numbered migrations.

All writes of a file go through its one writer thread, so ``database is locked`` can't happen inside the process; readers
see a consistent snapshot (WAL) and never wait for the writer. Writes that wait at the same moment share one commit, each
in a savepoint of its own, so that one which fails takes no other with it; only when SQLite itself gives the transaction up
(the disk is full) all of them fail, and each is told.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import apsw

from paddock.errors import PaddockError, ProviderUnavailable

T = TypeVar("T")
Connection = apsw.Connection
Setup = Callable[[Connection], None]
Migration = str | Callable[[Connection], None]
Job = tuple[Callable[[Connection], object], Future[object]]

GROUP = 64  # writes that share one commit at most
# Errors of the disk or the file, which no caller can mend by asking differently.
_FAULTS = (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.CantOpenError, apsw.NotADBError, apsw.CorruptError)


class DatabaseDamaged(ProviderUnavailable):
    """SQLite's own check found the file damaged; the message names the file and the next step."""


class Database:
    """A database file. Open with `await Database.open(…)` (or construct and `await start()`), close with `await close()`.

    The functions given to `read` and `write` run in another thread with a connection of their own; they must fetch all
    they need before they return, because cursors do not outlive the call.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Migration],
        *,
        setup: Setup | None = None,
        readers: int = 2,
        private: bool = False,
    ) -> None:
        """`private` keeps the file from other users of the machine."""
        self.path = path
        self._private = private
        self._migrations = migrations
        self._setup = setup
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix=f"read-{path.stem}")
        self._local = threading.local()
        self._open: list[Connection] = []
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None
        self._closing: asyncio.Future[None] | None = None

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
        connection = await asyncio.to_thread(self._prepare)
        self._writer = threading.Thread(
            target=self._write_loop, args=(connection,), name=f"write-{self.path.stem}", daemon=True
        )
        self._writer.start()

    def _prepare(self) -> Connection:
        """The writer's connection, to a file that was checked and is up to date."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._private:  # before SQLite makes it for everybody to read; its other files follow this one
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
                self.path.chmod(0o600)
            connection = self._connect()
            found = connection.execute("PRAGMA quick_check(1)").fetchall()
        except OSError as error:
            raise ProviderUnavailable(f"can't open {self.path}: {error.strerror}") from error
        except apsw.Error as error:
            raise self._told(error) from error
        if found != [("ok",)]:
            raise DatabaseDamaged(damaged_message(self.path, str(found[0][0])))
        self._migrate(connection, self._migrations)
        return connection

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
                    connection.execute(migration).fetchall()  # to the end, as in _connect
                connection.pragma("user_version", number)

    def _connect(self) -> Connection:
        connection = apsw.Connection(str(self.path))
        with self._lock:
            self._open.append(connection)
        connection.set_busy_timeout(10_000)
        # Fetched to the end: apsw stops at the first row, and would leave the other statements undone.
        connection.execute(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY"
        ).fetchall()
        if self._setup:
            self._setup(connection)
        return connection

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a reader. Cancelling the caller does not stop SQLite; keep reads short.

        Raises ProviderUnavailable when the file can't be read or the database is closed, and what `work` raises.
        """
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work)

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            connection: Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._connect()
                connection.execute("PRAGMA query_only=ON")
                self._local.connection = connection
            return work(connection)
        except BaseException as error:
            told = self._told(error)
            if told is error:
                raise
            raise told from error

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction on the writer; when this returns, the change is on disk.

        An exception rolls back what `work` did and reaches the caller. Cancelling the caller does not undo the write.
        Raises ProviderUnavailable when the file can't be written (disk full, damaged) or the database is closed.
        """
        self._check_open()
        future: Future[T] = Future()
        self._jobs.put((work, future))  # type: ignore[arg-type]  # Future is invariant
        return await asyncio.shield(asyncio.wrap_future(future))

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ProviderUnavailable(f"{self.path.name} is closed: the server is shutting down")

    def _write_loop(self, connection: Connection) -> None:
        running = True
        while running:
            jobs = [self._jobs.get()]
            while len(jobs) < GROUP and not self._jobs.empty():
                jobs.append(self._jobs.get())
            running = None not in jobs
            waiting = deque(job for job in jobs if job is not None)
            while waiting:
                self._commit(connection, waiting)

    def _commit(self, connection: Connection, waiting: deque[Job]) -> None:
        """Do the jobs in one transaction, taking them off `waiting`; those behind one that ended it are left there."""
        done: list[tuple[Future[object], object]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
        except apsw.Error as error:
            _fail((waiting.popleft()[1] for _ in range(len(waiting))), storage_error(self.path, error))
            return
        while waiting and connection.in_transaction:
            work, future = waiting.popleft()
            try:
                done.append((future, _in_savepoint(connection, work)))
            except BaseException as error:  # noqa: BLE001  handed to the caller who waits for it
                future.set_exception(self._told(error))
        try:
            connection.execute("COMMIT")  # fails too when a job ended the transaction
        except apsw.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _fail((future for future, _ in done), storage_error(self.path, error))
            return
        for future, result in done:
            future.set_result(result)

    def _told(self, error: BaseException) -> Exception:
        """What the caller gets to see: SQLite's faults of the disk and the file as one of ours, the rest as it is."""
        if isinstance(error, _FAULTS):
            return storage_error(self.path, error)
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        # A future takes no StopIteration, and the loop of the caller must not end for what happened in a thread.
        return RuntimeError(f"work on {self.path.name} raised {error!r}")

    async def close(self) -> None:
        """Finish the writes that wait, then close every connection. Idempotent; the file need not have been opened."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(asyncio.to_thread(self._close))
        await asyncio.shield(self._closing)

    def _close(self) -> None:
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
        self._pool.shutdown(wait=True)
        for connection in self._open:
            connection.close()


def _in_savepoint(connection: Connection, work: Callable[[Connection], object]) -> object:
    connection.execute("SAVEPOINT job")
    try:
        result = work(connection)
        connection.execute("RELEASE job")
    except BaseException:
        if connection.in_transaction:  # else SQLite has rolled everything back itself
            connection.execute("ROLLBACK TO job; RELEASE job")
        raise
    return result


def _fail(futures: Iterable[Future[object]], error: Exception) -> None:
    for future in futures:
        future.set_exception(error)


def damaged_message(path: Path, found: str) -> str:
    """The sentence for a person who finds the file damaged at night."""
    return f"{path} is damaged ({found}): stop paddock, move the file away and restore a backup; uploaded files are not affected"


def storage_error(path: Path, error: apsw.Error) -> PaddockError:
    """Translate SQLite's failure (disk full, read-only, damaged) into one that a caller may see."""
    if isinstance(error, apsw.FullError):
        return ProviderUnavailable(
            f"the disk is full: nothing was written to {path.name}; free some space and try again"
        )
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return DatabaseDamaged(damaged_message(path, str(error)))
    return ProviderUnavailable(f"{path} can't be used: {error}")
