"""Nearest vectors: vec0 for the table's own metric, an exact scan in blocks for everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import msgspec

from paddock.contracts.providers import Metric, Vectors
from paddock.errors import ValidationFailed
from paddock.storage import Connection
from paddock_sqlite_vec.filters import Where
from paddock_sqlite_vec.schema import MAX_DIMENSION, Shape, fetch, value

VEC0_MAX_K = 4096
BLOCK = 4096  # vectors in memory at once during an exact scan
TINY = 1e-30  # a squared length below this is zero in float32


class Near(NamedTuple):
    """A chunk's id and its distance; sorts nearest first, older first among equals."""

    distance: float
    id: int


def check_vectors(vectors: Any, count: int) -> Vectors:
    """Return float32 of shape (count, dimension), C-contiguous. Raises ValidationFailed for anything else."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    with np.errstate(all="ignore"):
        try:
            array = np.ascontiguousarray(vectors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValidationFailed(f"the vectors are not numbers of one length: {error}") from error
        if array.ndim != 2 or len(array) != count:
            raise ValidationFailed(f"{count} chunks need vectors of shape ({count}, dimension), not {array.shape}")
        if count and not 1 <= array.shape[1] <= MAX_DIMENSION:
            raise ValidationFailed(f"a vector has 1 to {MAX_DIMENSION} numbers, not {array.shape[1]}")
        finite = np.isfinite(np.einsum("ij,ij->i", array, array))
    if not bool(finite.all()):
        at = int(np.flatnonzero(~finite)[0])
        raise ValidationFailed(f"vector {at} holds NaN, infinity or numbers too large for float32: check the embedder")
    return array


def check_query(vector: Any) -> Vectors:
    """Return a query as one float32 row. Raises ValidationFailed for NaN, infinity and anything but one vector."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    try:
        array = np.asarray(vector, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationFailed("the query is not a vector of numbers") from error
    if array.ndim == 2 and len(array) == 1:
        array = array[0]
    if array.ndim != 1:
        raise ValidationFailed(f"the query is one vector, not an array of shape {array.shape}")
    row: Vectors = check_vectors(array[np.newaxis, :], 1)[0]
    return row


def zero_rows(vectors: Vectors) -> list[bool]:
    """Which vectors have length zero (in float32)."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return cast("list[bool]", (np.einsum("ij,ij->i", vectors, vectors) < TINY).tolist())


def distances(block: Vectors, query: Vectors, metric: Metric) -> Any:
    """Distances of all rows, as vec0 defines them; for dot the negative product, so that smaller is nearer."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if metric == "l2":
        return np.sqrt(np.square(block - query).sum(axis=1))
    if metric == "l1":
        return np.abs(block - query).sum(axis=1)
    products = block @ query
    if metric == "dot":
        return -products
    lengths = np.sqrt(np.einsum("ij,ij->i", block, block)) * np.sqrt(query @ query)
    return 1 - products / np.maximum(lengths, TINY)


def score(distance: float, metric: Metric) -> float:
    """A distance as a score in [0, 1]."""
    if metric == "cosine":
        return min(1.0, max(0.0, 1 - distance))
    if metric == "dot":
        return 1 / (1 + math.exp(min(700.0, distance)))
    return 1 / (1 + distance)


class Ask(msgspec.Struct, frozen=True):
    """A search: the k nearest to `query` by `metric` among the chunks that `where` allows, with ids from `first`."""

    query: Vectors
    k: int
    metric: Metric
    where: Where = Where()
    first: int = 0

    def ids(self) -> tuple[str, tuple[Any, ...]]:
        """The subquery of allowed ids, and its parameters."""
        if not self.where:
            return "SELECT c.id FROM chunks c WHERE c.id >= ?", (self.first,)
        return f"{self.where.ids()} AND c.id >= ?", (*self.where.values, self.first)

    @property
    def everything(self) -> bool:
        """Whether no chunk is left out."""
        return not self.where and not self.first


def nearest(connection: Connection, shape: Shape, ask: Ask) -> list[Near]:
    """The k nearest, exactly."""
    if float(ask.query @ ask.query) < TINY and ask.metric == "cosine":
        return _all_equal(connection, ask)
    if ask.metric == shape.metric and ask.metric != "dot" and ask.k <= VEC0_MAX_K:
        found = _vec0(connection, ask)
    else:
        found = scan(connection, ask)
    return sorted(found + zeros(connection, ask))[: ask.k]


def _vec0(connection: Connection, ask: Ask) -> list[Near]:
    ids, values = ("", ()) if ask.everything else ask.ids()
    among = f"AND rowid IN ({ids})" if ids else ""
    sql = f"SELECT distance, rowid FROM vectors WHERE embedding MATCH ? AND k = ? {among}"  # noqa: S608  bound values
    return [Near(*row) for row in fetch(connection, sql, (memoryview(ask.query), ask.k, *values))]


def scan(connection: Connection, ask: Ask) -> list[Near]:
    """The k nearest by looking at each vector that is allowed; vectors of length zero are not among them."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    best: list[Near] = []
    for ids, block in _blocks(connection, ask):
        found = distances(block, ask.query, ask.metric)
        top = np.argpartition(found, ask.k - 1)[: ask.k] if ask.k < len(found) else range(len(found))
        best = sorted(best + [Near(float(found[at]), ids[at]) for at in top])[: ask.k]
    return best


def _blocks(connection: Connection, ask: Ask) -> Iterator[tuple[Sequence[int], Vectors]]:
    sql, values = "SELECT rowid, embedding FROM vectors", tuple[Any, ...]()
    if not ask.everything:
        ids, values = ask.ids()
        sql = f"SELECT v.rowid, v.embedding FROM ({ids}) a CROSS JOIN vectors v ON v.rowid = a.id"  # noqa: S608  bound
    cursor: Iterator[Any] = connection.execute(sql, values)
    while rows := list(islice(cursor, BLOCK)):
        yield [row[0] for row in rows], as_array([row[1] for row in rows], len(ask.query))


def as_array(blobs: Sequence[bytes], dimension: int) -> Vectors:
    """The stored bytes of vectors as one array."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return np.frombuffer(b"".join(blobs), dtype=np.float32).reshape(len(blobs), dimension)


def zeros(connection: Connection, ask: Ask) -> list[Near]:
    """Chunks whose vector has length zero; all of them are equally far."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if value(connection, "SELECT id FROM chunks WHERE zero LIMIT 1") is None:
        return []
    same = float(distances(np.zeros((1, len(ask.query)), dtype=np.float32), ask.query, ask.metric)[0])
    ids, values = ask.ids()
    sql = f"SELECT id FROM chunks WHERE zero AND id IN ({ids}) ORDER BY id LIMIT ?"  # noqa: S608  bound values
    return [Near(same, row[0]) for row in fetch(connection, sql, (*values, ask.k))]


def _all_equal(connection: Connection, ask: Ask) -> list[Near]:
    """A query of length zero has no direction: by cosine every chunk is at distance 1."""
    ids, values = ask.ids()
    return [Near(1.0, row[0]) for row in fetch(connection, f"{ids} ORDER BY c.id LIMIT ?", (*values, ask.k))]
