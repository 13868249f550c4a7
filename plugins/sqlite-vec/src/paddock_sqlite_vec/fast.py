"""Searches through the derived indexes, right at every moment.

An index is asked first and SQLite afterwards, so SQLite's snapshot is never older than the index: a chunk that was
deleted is not found in SQLite and dropped, one that came later has a higher id than the index knows (`Position.top`,
read before the index is asked) and is searched in SQLite. Filters are checked in SQLite, too. When an index yields fewer
than k that are allowed, more are fetched, and in the end SQLite answers alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from paddock.contracts.providers import Hit, Metric
from paddock.storage import Connection
from paddock_sqlite_vec import texts, vectors
from paddock_sqlite_vec.bm25 import Bm25
from paddock_sqlite_vec.filters import Where
from paddock_sqlite_vec.hnsw import Hnsw
from paddock_sqlite_vec.rows import allowed
from paddock_sqlite_vec.schema import snapshot, value
from paddock_sqlite_vec.texts import Found
from paddock_sqlite_vec.vectors import TINY, Ask, Near

MORE = 12  # candidates beyond k: the graph holds rounded vectors, and some chunks may be gone
MOST = 4096  # candidates beyond which a scan is cheaper
DISTANCE: dict[Metric, str] = {"cosine": "vec_distance_cosine", "l2": "vec_distance_l2"}
TAIL = 20_000  # chunks that an index may lack before SQLite answers alone

T = TypeVar("T")
Show = Callable[[list[T]], list[Hit]]  # fetches the contents; runs in the snapshot that the finds were checked in


def nearest(connection: Connection, index: Hnsw, ask: Ask, show: Show[Near]) -> list[Hit] | None:
    """The k nearest as `show` makes them hits, or None when SQLite should answer alone."""
    if float(ask.query @ ask.query) < TINY:
        return None
    count = (ask.k + MORE) * (4 if ask.where else 1)
    for _ in range(2):
        if count > MOST:
            return None
        top = index.position.top
        candidates = index.search(ask.query, count, 2 * count)
        with snapshot(connection):
            if not _short_tail(connection, top):
                return None
            found = _measured(connection, ask, candidates)
            if len(found) >= ask.k or len(candidates) < count:
                return show(_merged(found, [*_newer(connection, ask, top), *vectors.zeros(connection, ask)], ask.k))
        count = 2 * count * ask.k // max(1, len(found))
    return None


def _measured(connection: Connection, ask: Ask, candidates: Sequence[int]) -> list[Near]:
    """The exact distances of those candidates that exist and are allowed."""
    if ask.where:
        candidates = list(allowed(connection, candidates, ask.where))
    # One row for all: between rows Python may hand the interpreter to another thread and wait to get it back.
    found = value(
        connection,
        f"SELECT json_group_array(json_array({DISTANCE[ask.metric]}(v.embedding, ?), v.rowid)) "  # noqa: S608  from a table
        "FROM json_each(?) j CROSS JOIN vectors v ON v.rowid = j.value",
        (memoryview(ask.query), msgspec.json.encode(candidates).decode()),
    )
    return msgspec.json.decode(found, type=list[Near])


def _newer(connection: Connection, ask: Ask, top: int) -> list[Near]:
    """The nearest of the chunks that the index lacks."""
    return vectors.scan(connection, msgspec.structs.replace(ask, first=top + 1)) if _tail(connection, top) else []


def rank(
    connection: Connection, index: Bm25, query: str, k: int, where: Where, *, show: Show[Found]
) -> list[Hit] | None:
    """The k best by BM25 as `show` makes them hits, or None when SQLite should answer alone."""
    count = (k + MORE) * (4 if where else 1)
    for _ in range(2):
        if count > MOST:
            return None
        top = index.position.top
        candidates = index.search(query, count)
        with snapshot(connection):
            if not _short_tail(connection, top):
                return None
            exist = allowed(connection, [found.id for found in candidates], where)
            found = [one for one in candidates if one.id in exist and one.id <= top]
            if len(found) >= k or len(candidates) < count:
                newer = texts.rank(connection, query, k, where, top + 1) if _tail(connection, top) else []
                return show(sorted([*found, *newer], key=lambda one: (-one.score, one.id))[:k])
        count = 2 * count * k // max(1, len(found))
    return None


def _merged(found: Sequence[Near], more: Sequence[Near], k: int) -> list[Near]:
    """Sorted; a chunk that the index took in between is in both, with the same distance."""
    return sorted({near.id: near for near in (*found, *more)}.values())[:k]


def _tail(connection: Connection, top: int) -> bool:
    return (value(connection, "SELECT max(id) FROM chunks") or 0) > top


def _short_tail(connection: Connection, top: int) -> bool:
    return (value(connection, "SELECT max(id) FROM chunks") or 0) - top <= TAIL
