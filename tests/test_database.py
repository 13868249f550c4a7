"""The SQLite file: what was acknowledged is on disk, a failed write takes no other with it, nothing waits for ever."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from paddock.errors import PaddockError, ProviderUnavailable
from paddock.storage import Connection, Database, DatabaseDamaged

SCHEMA = "CREATE TABLE t (n INTEGER PRIMARY KEY); CREATE TABLE big (b BLOB)"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(tmp_path / "x.db", [SCHEMA])
    yield opened
    await opened.close()


def insert(connection: Connection, number: int) -> int:
    connection.execute("INSERT INTO t VALUES (?)", (number,))
    return number


def numbers(connection: Connection) -> list[int]:
    return [int(row[0]) for row in connection.execute("SELECT n FROM t ORDER BY n")]


async def together(database: Database, *works: Callable[[Connection], object]) -> list[object]:
    """Run writes that share one commit: they wait while the writer is held."""
    held, go = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        held.set()
        assert go.wait(10)

    first = asyncio.ensure_future(database.write(hold))
    await asyncio.to_thread(held.wait, 10)
    rest: list[asyncio.Future[object]] = [asyncio.ensure_future(database.write(work)) for work in works]
    await asyncio.sleep(0)  # each has put its work into the queue now
    go.set()
    await first
    return list(await asyncio.gather(*rest, return_exceptions=True))


async def test_writes_that_share_a_commit_are_all_done(database: Database) -> None:
    assert await together(database, *(lambda c, n=n: insert(c, n) for n in range(5))) == [0, 1, 2, 3, 4]
    assert await database.read(numbers) == [0, 1, 2, 3, 4]


async def test_a_write_that_fails_takes_no_other_with_it(database: Database) -> None:
    def broken(connection: Connection) -> None:
        insert(connection, 2)
        raise KeyError("mine")

    one, two, three = await together(database, lambda c: insert(c, 1), broken, lambda c: insert(c, 3))
    assert (one, type(two), three) == (1, KeyError, 3)
    assert await database.read(numbers) == [1, 3]


async def test_when_the_disk_fills_in_the_middle_each_write_says_truly_whether_it_is_stored(
    database: Database,
) -> None:
    def fill(connection: Connection) -> None:
        # SQLite itself rolls the whole transaction back when a page can't be had.
        pages = int(connection.pragma("page_count"))
        connection.pragma("max_page_count", pages + 2)
        try:
            connection.execute("INSERT INTO big VALUES (zeroblob(1000000))")
        finally:
            connection.pragma("max_page_count", 1_000_000)

    one, two, three = await together(database, lambda c: insert(c, 1), fill, lambda c: insert(c, 3))
    assert isinstance(two, ProviderUnavailable)
    assert "disk is full" in two.message
    assert isinstance(one, ProviderUnavailable)  # it was rolled back too, and is told so
    assert await database.read(numbers) == [three] == [3]


async def test_a_write_that_ends_the_shared_transaction_is_no_lie_to_the_others(database: Database) -> None:
    def ends(connection: Connection) -> None:
        connection.execute("ROLLBACK")

    one, two, three = await together(database, lambda c: insert(c, 1), ends, lambda c: insert(c, 3))
    assert isinstance(two, Exception)
    assert isinstance(one, ProviderUnavailable)
    assert await database.read(numbers) == [three] == [3]


async def test_a_commit_that_fails_is_told_to_every_write_of_it(database: Database) -> None:
    def deferred(connection: Connection) -> None:
        connection.execute("PRAGMA defer_foreign_keys=ON")
        connection.execute("CREATE TABLE IF NOT EXISTS child (n REFERENCES t (n))")
        connection.execute("INSERT INTO child VALUES (99)")

    one, two = await together(database, lambda c: insert(c, 1), deferred)
    assert isinstance(two, Exception)
    stored = await database.read(numbers)
    assert stored == ([1] if one == 1 else [])
    assert await database.write(lambda c: insert(c, 7)) == 7


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError, MemoryError])
async def test_whatever_a_write_raises_the_writer_lives_on(database: Database, error: type[BaseException]) -> None:
    def broken(_: Connection) -> None:
        raise error

    with pytest.raises((RuntimeError, MemoryError)):
        await asyncio.wait_for(database.write(broken), 10)
    assert await asyncio.wait_for(database.write(lambda c: insert(c, 1)), 10) == 1


async def test_a_caller_that_is_cancelled_does_not_undo_its_write(database: Database) -> None:
    held, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        held.set()
        assert go.wait(10)
        insert(connection, 1)

    waiting = asyncio.ensure_future(database.write(slow))
    await asyncio.to_thread(held.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await database.write(lambda c: insert(c, 2))
    assert await database.read(numbers) == [1, 2]


async def test_close_finishes_the_writes_that_wait_and_refuses_later_ones(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "x.db", [SCHEMA])
    writes = [asyncio.ensure_future(database.write(lambda c, n=n: insert(c, n))) for n in range(100)]  # type: ignore[misc]  # mypy infers no type for a default
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    assert await asyncio.gather(*writes) == list(range(100))
    with pytest.raises(ProviderUnavailable, match="shutting down"):
        await database.write(lambda c: insert(c, 1))
    with pytest.raises(ProviderUnavailable, match="shutting down"):
        await database.read(numbers)
    assert not (tmp_path / "x.db-wal").exists()


async def test_a_file_that_never_opened_closes(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"nonsense" * 1000)
    database = Database(tmp_path / "x.db", [SCHEMA])
    with pytest.raises(DatabaseDamaged, match="restore a backup"):
        await database.start()
    await asyncio.wait_for(database.close(), 10)


async def test_a_folder_that_can_not_be_had_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProviderUnavailable, match=r"x\.db"):
        await Database.open(tmp_path / "file" / "x.db", [SCHEMA])


async def test_a_setup_that_fails_is_told_at_the_start_not_at_the_first_write(tmp_path: Path) -> None:
    calls = []

    def setup(_: Connection) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise apsw.ExtensionLoadingError("only once")

    database = await Database.open(tmp_path / "x.db", [SCHEMA], setup=setup)
    assert await asyncio.wait_for(database.write(lambda c: insert(c, 1)), 10) == 1
    with pytest.raises(apsw.ExtensionLoadingError):
        await database.read(numbers)
    await database.close()


async def test_a_damaged_page_is_told_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    database = await Database.open(path, [SCHEMA])
    await database.write(lambda c: c.execute("INSERT INTO big VALUES (zeroblob(100000))"))
    await database.close()
    database = await Database.open(path, [SCHEMA])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(DatabaseDamaged, match="restore a backup"):
        await database.read(numbers)
    await database.close()


async def test_a_file_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "x.db", [SCHEMA, "CREATE TABLE u (n)"])
    await database.close()
    with pytest.raises(ProviderUnavailable, match="schema version 2"):
        await Database.open(tmp_path / "x.db", [SCHEMA])


async def test_a_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    with pytest.raises(apsw.SQLError):
        await Database.open(tmp_path / "x.db", [SCHEMA, "CREATE TABLE u (n); CREATE TABLE u (n)"])
    database = await Database.open(tmp_path / "x.db", [SCHEMA, "SELECT 1 UNION SELECT 2; CREATE TABLE u (n)"])
    assert await database.read(lambda c: c.execute("SELECT * FROM u").fetchall()) == []
    await database.close()


async def test_a_constraint_that_fails_reaches_the_caller_as_it_is(database: Database) -> None:
    await database.write(lambda c: insert(c, 1))
    with pytest.raises(apsw.ConstraintError):
        await database.write(lambda c: insert(c, 1))


def test_a_write_error_is_one_that_a_caller_may_see() -> None:
    assert issubclass(DatabaseDamaged, PaddockError)
