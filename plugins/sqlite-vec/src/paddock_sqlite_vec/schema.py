"""The tables of one project database, and what every connection needs.

==========  =================================================================================================
files       one row for each stored file; its chunks have the ids ``first .. first + chunk_count - 1``
chunks      text and metadata; ids only grow and are never given twice
vectors     vec0: float32, made with the first vectors, because a vec0 table has a fixed dimension
texts       FTS5, contentless: the text itself stands in `chunks`
changes     one row for each file that came or went; the derived indexes follow it by sequence number
meta        dimension and metric of `vectors`
==========  =================================================================================================

Vectors of length zero are not in `vectors`, because vec0 has no cosine distance for them; `chunks.zero` marks them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from paddock.contracts.providers import Metric
from paddock.storage import Connection, Migration

FILE_NAME = "store.sqlite"
INDEX_FOLDER = "indexes"
CACHE_KIB = 4 * 1024  # of one connection
MAX_DIMENSION = 8192  # of vec0
VEC0_CHUNK = (
    32  # rows in one blob: a scan likes many, reading one vector likes few (42 of 50,000: 0.3 ms, with 128 1 ms)
)

MIGRATIONS: tuple[Migration, ...] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
    CREATE TABLE files (
        id INTEGER PRIMARY KEY AUTOINCREMENT, dataset TEXT NOT NULL, file_hash TEXT NOT NULL, filename TEXT NOT NULL,
        size INTEGER NOT NULL, parser TEXT NOT NULL, token TEXT NOT NULL, ingested_at REAL NOT NULL,
        metadata TEXT NOT NULL, first INTEGER NOT NULL, chunk_count INTEGER NOT NULL, UNIQUE (dataset, file_hash)
    ) STRICT;
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY AUTOINCREMENT, chunk_id TEXT NOT NULL UNIQUE, file INTEGER NOT NULL,
        position INTEGER NOT NULL, text TEXT NOT NULL, page INTEGER, metadata TEXT NOT NULL, zero INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX zeros ON chunks (id) WHERE zero;
    CREATE TABLE changes (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, added INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
        stamp INTEGER NOT NULL, at REAL NOT NULL
    ) STRICT;
    CREATE VIRTUAL TABLE texts USING fts5
        (text, content='', contentless_delete=1, tokenize='porter unicode61');
    CREATE VIRTUAL TABLE terms USING fts5vocab (texts, row);
    """,
)


class Shape(msgspec.Struct, frozen=True):
    """What the table `vectors` holds."""

    dimension: int
    metric: Metric


def setup(connection: Connection) -> None:
    """Load sqlite-vec; keep some pages, because a vector is read in several."""
    import sqlite_vec  # noqa: PLC0415  on first use

    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    connection.pragma("cache_size", -CACHE_KIB)


def read_shape(connection: Connection) -> Shape | None:
    """The shape, or None before the first vectors."""
    found = dict(fetch(connection, "SELECT key, value FROM meta WHERE key IN ('dimension', 'metric')"))
    return Shape(found["dimension"], found["metric"]) if found else None


def fetch(connection: Connection, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows."""
    return connection.execute(sql, values).fetchall()


def value(connection: Connection, sql: str, values: Sequence[Any] = ()) -> Any:
    """The first column of the first row, or None."""
    return connection.execute(sql, values).get


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """All reads inside see the same state of the file."""
    with connection:
        yield


def create_vectors(connection: Connection, shape: Shape) -> None:
    """Make a vec0 table. vec0 has no dot product; such a table is only ever scanned."""
    metric = "l2" if shape.metric == "dot" else shape.metric
    connection.execute(
        "CREATE VIRTUAL TABLE vectors USING vec0 "
        f"(embedding float[{shape.dimension:d}] distance_metric={metric}, chunk_size={VEC0_CHUNK})"
    )
    connection.executemany(
        "INSERT OR REPLACE INTO meta VALUES (?, ?)", [("dimension", shape.dimension), ("metric", shape.metric)]
    )


def change_metric(connection: Connection, metric: Metric) -> None:
    """Build `vectors` again for another metric; everything or nothing when run in a transaction."""
    shape = read_shape(connection)
    if shape is None or shape.metric == metric:
        return
    if {shape.metric, metric} != {"l2", "dot"}:  # these two have the same table
        # By way of a plain table, because a vec0 table does not survive ALTER TABLE RENAME.
        connection.execute("CREATE TABLE moving AS SELECT rowid AS id, embedding FROM vectors; DROP TABLE vectors")
        create_vectors(connection, Shape(shape.dimension, metric))
        connection.execute("INSERT INTO vectors (rowid, embedding) SELECT id, embedding FROM moving; DROP TABLE moving")
    connection.execute("UPDATE meta SET value = ? WHERE key = 'metric'", (metric,))
