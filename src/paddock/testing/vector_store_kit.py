"""What the conformance suite of vector stores is made of: files, chunks, vectors and hostile names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paddock.contracts.providers import Filters, Hit, Metric, StoredChunk, StoredFile, Vectors, VectorStore

DIMENSION = 8
METRICS: tuple[Metric, ...] = ("cosine", "l2", "l1", "dot")
LETTERS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
HOSTILE = (
    "'; DROP TABLE chunks; --",
    "x') OR 1=1 --",
    'a"b',
    "a.b",
    "a[0]",
    "$.a",
    "$",
    "a\\b",
    '"',
    "%_*?",
    "größe",
    "日本",
)


def file_of(name: str, dataset: str = "notes", *, token: str = "run-1", at: float = 1000.0) -> StoredFile:  # noqa: S107  no password
    """A file whose hash is made of its name."""
    digest = name.encode().hex().ljust(64, "0")[:64]
    return StoredFile(
        file_hash=digest,
        dataset=dataset,
        filename=f"{name}.txt",
        size=10,
        parser="text",
        token=token,
        ingested_at=at,
        metadata={"origin": name},
    )


def chunks_of(
    file: StoredFile, texts: Sequence[str], metadata: Sequence[dict[str, Any]] | None = None
) -> list[StoredChunk]:
    """Chunks with ids ``dataset/file/token/index``, two to a page."""
    own = metadata or [{} for _ in texts]
    return [
        StoredChunk(
            chunk_id=f"{file.dataset}/{file.filename}/{file.token}/{at}",
            index=at,
            text=text,
            page=at // 2 + 1,
            metadata=own[at],
        )
        for at, text in enumerate(texts)
    ]


def vectors_of(count: int, seed: int = 1, dimension: int = DIMENSION) -> Vectors:
    """Random vectors, the same for the same seed."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def expected_scores(metric: Metric, stored: Vectors, query: Vectors) -> list[float]:
    """The scores of the contract, best first."""
    rows, one = stored.astype(np.float64), query.astype(np.float64)
    if metric == "cosine":
        scores = np.maximum(0, rows @ one / (np.linalg.norm(rows, axis=1) * np.linalg.norm(one)))
    elif metric == "dot":
        scores = 1 / (1 + np.exp(-(rows @ one)))
    else:
        scores = 1 / (1 + np.linalg.norm(rows - one, ord=2 if metric == "l2" else 1, axis=1))
    return sorted((float(score) for score in scores), reverse=True)


def ids(hits: Sequence[Hit]) -> list[str]:
    """The chunk ids."""
    return [hit.chunk_id for hit in hits]


async def fill(
    store: VectorStore, name: str, texts: Sequence[str], metadata: Sequence[dict[str, Any]] | None = None, **file: Any
) -> list[str]:
    """Store a file with random vectors; returns the chunk ids."""
    stored = file_of(name, **file)
    chunks = chunks_of(stored, texts, metadata)
    await store.replace(stored, chunks, vectors_of(len(texts), seed=len(name)))
    return [chunk.chunk_id for chunk in chunks]


async def both(store: VectorStore, filters: Filters | None, text: str = "common", k: int = 50) -> list[set[str]]:
    """The ids that vector search and full-text search find."""
    found = await store.search_vectors(np.ones(DIMENSION, dtype=np.float32), k, filters)
    return [set(ids(found)), set(ids(await store.search_text(text, k, filters)))]
