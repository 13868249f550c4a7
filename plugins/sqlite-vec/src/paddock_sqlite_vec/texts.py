"""Full-text search with FTS5, ranked by BM25 with an inverse document frequency that is never negative.

FTS5's own ``bm25()`` takes ln((N - n + 0.5) / (n + 0.5)) and cuts it at zero, so a word in half of the chunks counts for
nothing, and in a small database that is most words. Here each word is ranked by itself and its score scaled to
ln(1 + (N - n + 0.5) / (n + 0.5)), as Lucene and tantivy have it: both paths then give the same scores.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import apsw

from paddock.storage import Connection
from paddock_sqlite_vec.filters import Where
from paddock_sqlite_vec.schema import fetch, value

MAX_WORDS = 64  # different words of a query that count; the rest of a longer one is left out
MAX_QUERY = 20_000  # characters of a query that are looked at
HALF = 5.0  # the BM25 score that becomes 0.5
FTS5_FLOOR = 1e-6  # FTS5's idf for a word in half of the rows or more


class Found(NamedTuple):
    """A chunk's id and its BM25 score."""

    score: float
    id: int


def score(bm25: float) -> float:
    """BM25 as a score in [0, 1)."""
    return bm25 / (bm25 + HALF)


def words(connection: Connection, query: str) -> dict[str, str]:
    """The query's words as they are indexed, each with its spelling: ``{stem: word}``. No character is special."""
    clean = query[:MAX_QUERY].encode("utf-8", "replace")
    spelled = _tokens(connection.fts5_tokenizer("unicode61"), clean)
    stemmed = _tokens(connection.fts5_tokenizer("porter", ["unicode61"]), clean)
    found: dict[str, str] = {}
    for stem, word in zip(stemmed, spelled, strict=True):
        if len(found) == MAX_WORDS:
            break
        found.setdefault(stem, word)
    return found


def _tokens(tokenizer: apsw.FTS5Tokenizer, text: bytes) -> list[str]:
    found: Any = tokenizer(text, apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False)
    return list(found)


def rank(connection: Connection, query: str, k: int, where: Where, first: int = 0) -> list[Found]:
    """The k best among the allowed chunks with ids from `first`."""
    total = int(value(connection, "SELECT total(chunk_count) FROM files"))
    parts, values = [], list[Any]()
    for stem, word in words(connection, query).items():
        count = value(connection, "SELECT doc FROM terms WHERE term = ?", (stem,))
        if count:
            parts.append("SELECT rowid AS id, bm25(texts) * ? AS s FROM texts WHERE texts MATCH ? AND rowid >= ?")
            values += (-_factor(total, int(count)), f'"{word}"', first)
    if not parts:
        return []
    among = f"WHERE id IN ({where.ids()})" if where else ""
    rows = fetch(
        connection,
        # Materialized: bm25() works only where FTS5 itself walks through its rows.
        f"WITH found AS MATERIALIZED ({' UNION ALL '.join(parts)}) "  # noqa: S608  values are bound
        f"SELECT sum(s), id FROM found {among} GROUP BY id ORDER BY 1 DESC, 2 LIMIT ?",
        (*values, *where.values, k),
    )
    return [Found(*row) for row in rows]


def _factor(total: int, count: int) -> float:
    """Lucene's idf over FTS5's, for a word in `count` of `total` chunks."""
    odds = (total - count + 0.5) / (count + 0.5)
    plain = math.log(odds)
    return math.log1p(odds) / (plain if plain > 0 else FTS5_FLOOR)
