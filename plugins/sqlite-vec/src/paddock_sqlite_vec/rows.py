"""The rows of files and chunks: what is written in one transaction, and what is read back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, Metric, StoredChunk, StoredDocument, StoredFile, Vectors
from paddock.errors import ValidationFailed
from paddock.storage import Connection
from paddock_sqlite_vec.filters import Where
from paddock_sqlite_vec.schema import Shape, create_vectors, fetch, read_shape, value
from paddock_sqlite_vec.vectors import zero_rows

STAMP_BITS = 62  # a random number that tells two histories with the same sequence numbers apart
FILE_COLUMNS = "dataset, file_hash, filename, size, parser, token, ingested_at, metadata, chunk_count"


def store_file(
    connection: Connection, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Vectors, metric: Metric
) -> None:
    """Put a file in place of its earlier self. Runs in a transaction; raises ValidationFailed, and nothing is stored."""
    if len(chunks):
        _check_shape(connection, Shape(vectors.shape[1], metric))
    remove_files(connection, file.dataset, file.file_hash)
    first = int(value(connection, "SELECT seq FROM sqlite_sequence WHERE name = 'chunks'") or 0) + 1
    ids = range(first, first + len(chunks))
    try:
        _insert_file(connection, file, first, len(chunks))
        _insert_chunks(connection, chunks, ids, vectors)
    except UnicodeEncodeError as error:
        raise ValidationFailed(
            f"{file.filename!a} holds text that is not valid Unicode: let the parser replace it"
        ) from error
    except apsw.ConstraintError as error:
        raise ValidationFailed(
            f"a chunk id of {file.filename!a} is already in the database: ids must differ between files and datasets"
        ) from error
    _log(connection, added=True, ranges=[(ids.start, ids.stop - 1)])


def _check_shape(connection: Connection, given: Shape) -> None:
    shape = read_shape(connection)
    if shape is None:
        create_vectors(connection, given)
    elif shape.dimension != given.dimension:
        raise ValidationFailed(
            f"the database holds vectors of dimension {shape.dimension}, these have {given.dimension}: "
            "use the embedder that it was filled with, or a new database"
        )


def _insert_file(connection: Connection, file: StoredFile, first: int, count: int) -> None:
    row = (file.dataset, file.file_hash, file.filename, file.size, file.parser, file.token, file.ingested_at)
    connection.execute(
        f"INSERT INTO files ({FILE_COLUMNS}, first) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  fixed names
        (*row, msgspec.json.encode(file.metadata).decode(), count, first),
    )


def _insert_chunks(connection: Connection, chunks: Sequence[StoredChunk], ids: range, vectors: Vectors) -> None:
    file = connection.last_insert_rowid()
    encode = msgspec.json.Encoder().encode
    zeros = zero_rows(vectors) if len(chunks) else []
    connection.executemany(
        "INSERT INTO chunks (id, chunk_id, file, position, text, page, metadata, zero) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (row, chunk.chunk_id, file, chunk.index, chunk.text, chunk.page, encode(chunk.metadata).decode(), int(zero))
            for row, chunk, zero in zip(ids, chunks, zeros, strict=True)
        ),
    )
    connection.executemany(
        "INSERT INTO vectors (rowid, embedding) VALUES (?, ?)",
        ((row, memoryview(vector)) for row, vector, zero in zip(ids, vectors, zeros, strict=True) if not zero),
    )
    connection.executemany(
        "INSERT INTO texts (rowid, text) VALUES (?, ?)",
        ((row, chunk.text) for row, chunk in zip(ids, chunks, strict=True)),
    )


def remove_files(connection: Connection, dataset: str, file_hash: str | None) -> int:
    """Remove a file, or all files of a dataset, with all that belongs to them; returns how many chunks went."""
    condition, values = "dataset = ?", [dataset]
    if file_hash is not None:
        condition, values = "dataset = ? AND file_hash = ?", [dataset, file_hash]
    sql = f"DELETE FROM files WHERE {condition} RETURNING first, first + chunk_count - 1"  # noqa: S608  bound values
    ranges = fetch(connection, sql, values)
    for first, last in ranges:
        if last >= first:
            connection.execute(
                "DELETE FROM vectors WHERE rowid IN (SELECT id FROM chunks WHERE id BETWEEN ? AND ? AND NOT zero)",
                (first, last),
            )
            connection.execute("DELETE FROM texts WHERE rowid BETWEEN ? AND ?", (first, last))
            connection.execute("DELETE FROM chunks WHERE id BETWEEN ? AND ?", (first, last))
    _log(connection, added=False, ranges=sorted(ranges))
    return sum(last - first + 1 for first, last in ranges)


def _log(connection: Connection, *, added: bool, ranges: Iterable[tuple[Any, ...]]) -> None:
    now = time.time()
    connection.executemany(
        "INSERT INTO changes (added, first, last, stamp, at) VALUES (?, ?, ?, ?, ?)",
        ((int(added), first, last, secrets.randbits(STAMP_BITS), now) for first, last in ranges),
    )


def allowed(connection: Connection, ids: Iterable[int], where: Where) -> set[int]:
    """Those of the ids whose chunks exist and pass the filters."""
    found = value(
        connection,
        "SELECT json_group_array(c.id) FROM json_each(?) j CROSS JOIN chunks c ON c.id = j.value "  # noqa: S608  bound
        f"CROSS JOIN files f ON f.id = c.file WHERE {where.sql or 'true'}",
        (msgspec.json.encode(list(ids)).decode(), *where.values),
    )
    return msgspec.json.decode(found, type=set[int])


def hits(connection: Connection, scored: Sequence[tuple[int, float]]) -> list[Hit]:
    """The chunks of these ids with their scores, in this order; ids of chunks that are gone are left out."""
    return _hits(connection, "c.id", [row for row, _ in scored], [score for _, score in scored])


def hits_by_name(connection: Connection, chunk_ids: Sequence[str]) -> list[Hit]:
    """The chunks with these chunk ids, in this order, with score 0."""
    return _hits(connection, "c.chunk_id", list(chunk_ids), [0.0] * len(chunk_ids))


def _hits(connection: Connection, column: str, keys: Sequence[int | str], scores: Sequence[float]) -> list[Hit]:
    # One row for all: between rows Python may hand the interpreter to another thread and wait to get it back.
    found = value(
        connection,
        "SELECT json_group_array(json_array(j.key, c.chunk_id, f.file_hash, c.text, json(c.metadata), "  # noqa: S608  our own words; values are bound
        "f.filename, f.dataset, c.page, c.position)) "
        f"FROM json_each(?) j CROSS JOIN chunks c ON {column} = j.value CROSS JOIN files f ON f.id = c.file",
        (msgspec.json.encode(keys).decode(),),
    )
    shown = []
    for row in sorted(msgspec.json.decode(found, type=list[_Row]), key=lambda row: row.at):
        own = row.metadata
        own |= {"filename": row.filename, "dataset": row.dataset, "page": row.page, "chunk_index": row.position}
        shown.append(
            Hit(chunk_id=row.chunk_id, document_id=row.file_hash, content=row.text, score=scores[row.at], metadata=own)
        )
    return shown


class _Row(msgspec.Struct, array_like=True):
    """A chunk with what a hit shows of its file; `at` is its place among those asked for."""

    at: int
    chunk_id: str
    file_hash: str
    text: str
    metadata: dict[str, Json]
    filename: str
    dataset: str
    page: int | None
    position: int


def find_file(connection: Connection, dataset: str, file_hash: str) -> StoredDocument | None:
    """One stored file."""
    sql = f"SELECT {FILE_COLUMNS} FROM files WHERE dataset = ? AND file_hash = ?"  # noqa: S608  fixed names
    rows = fetch(connection, sql, (dataset, file_hash))
    return _document(rows[0]) if rows else None


def documents(connection: Connection, limit: int, offset: int) -> list[StoredDocument]:
    """Files, newest first."""
    sql = f"SELECT {FILE_COLUMNS} FROM files ORDER BY ingested_at DESC, id DESC LIMIT ? OFFSET ?"  # noqa: S608  fixed
    return [_document(row) for row in fetch(connection, sql, (max(0, limit), max(0, offset)))]


def _document(row: tuple[Any, ...]) -> StoredDocument:
    dataset, file_hash, filename, size, parser, token, ingested_at, metadata, count = row
    file = StoredFile(
        dataset=dataset,
        file_hash=file_hash,
        filename=filename,
        size=size,
        parser=parser,
        token=token,
        ingested_at=ingested_at,
        metadata=msgspec.json.decode(metadata),
    )
    return StoredDocument(file=file, chunk_count=count)


def count_chunks(connection: Connection) -> int:
    """How many chunks are stored."""
    return int(value(connection, "SELECT total(chunk_count) FROM files"))
