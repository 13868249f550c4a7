"""Filled stores, and the comparison of what the derived indexes answer with what SQLite alone answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.settings import SqliteVecSettings
from paddock_sqlite_vec.store import SqliteVecStore

from paddock.contracts.providers import Hit, StoredChunk, StoredFile, Vectors

WORDS = [
    f"{first}{second}" for first in ("wing", "flow", "heat", "shock", "plate") for second in ("s", "like", "ed", "less")
]
DIMENSION = 16
PLAIN = SqliteVecSettings(fast=False)
FAST = SqliteVecSettings(fast_above=0, save_after=50)


@asynccontextmanager
async def opened(folder: Path, settings: SqliteVecSettings = FAST, **config: Any) -> AsyncIterator[SqliteVecStore]:
    """A store, closed at the end."""
    provider = SqliteVecProvider(settings)
    store = await provider.open(folder, provider.configure("SqliteVecStore", config).config)
    try:
        yield store
    finally:
        await store.close()


def content(number: int, count: int, version: str) -> tuple[StoredFile, list[StoredChunk], Vectors]:
    """File `number` with `count` chunks; texts and vectors depend on the version."""
    rng = np.random.default_rng([number, *version.encode()])
    file = StoredFile(
        file_hash=f"{number:064x}",
        dataset=f"set{number % 3}",
        filename=f"file{number}.txt",
        size=count,
        parser="text",
        token=version,
        ingested_at=float(number),
    )
    chunks = [
        StoredChunk(
            chunk_id=f"{number}/{version}/{at}",
            index=at,
            text=f"{version} common {' '.join(rng.choice(WORDS, 6))}",
            metadata={"part": at % 5},
        )
        for at in range(count)
    ]
    return file, chunks, rng.standard_normal((count, DIMENSION)).astype(np.float32)


async def fill(store: SqliteVecStore, files: range, count: int = 20, version: str = "first") -> None:
    """Store files."""
    for number in files:
        await store.replace(*content(number, count, version))


def found(hits: list[Hit]) -> set[str]:
    """The chunk ids."""
    return {hit.chunk_id for hit in hits}


async def check(store: SqliteVecStore, folder: Path) -> None:
    """Whatever the indexes are at, the answers are those of SQLite alone."""
    async with opened(folder, PLAIN) as plain:
        assert await store.documents(10_000) == await plain.documents(10_000)
        for seed, filters in enumerate(
            [None, {"part": 3}, {"dataset": "set1"}, {"filename": "file1.txt", "part": [1, 2]}]
        ):
            query = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
            ours, theirs = await store.search_vectors(query, 8, filters), await plain.search_vectors(query, 8, filters)
            assert [hit.chunk_id for hit in ours] == [hit.chunk_id for hit in theirs]
            text = f"{WORDS[seed]} {WORDS[-seed]}"
            ours, theirs = await store.search_text(text, 5000, filters), await plain.search_text(text, 5000, filters)
            assert found(ours) == found(theirs)
            assert sum(hit.score for hit in ours) == sum_like(theirs)


class sum_like:  # noqa: N801  reads like pytest.approx
    """Equal to sums of BM25 scores within 5 %: tantivy rounds the lengths of texts."""

    def __init__(self, hits: list[Hit]) -> None:
        self.total = sum(hit.score for hit in hits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int | float) and abs(other - self.total) <= 0.05 * self.total + 1e-9

    def __hash__(self) -> int:
        return hash(self.total)

    def __repr__(self) -> str:
        return f"about {self.total:.3f}"
