"""Vector stores."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers.base import Provider
from paddock.contracts.providers.fusion import depth, fuse
from paddock.contracts.providers.hits import Hit
from paddock.contracts.providers.vectors import Vectors

Metric = Literal["cosine", "l2", "l1", "dot"]
Filters = Mapping[str, Any]


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file that chunks belong to. `token` names the ingest run; `ingested_at` in seconds since 1970."""

    file_hash: str
    dataset: str
    filename: str
    size: int
    parser: str
    token: str
    ingested_at: float
    metadata: dict[str, Json] = {}


class StoredChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk as it is stored; `index` counts from 0 within the file."""

    chunk_id: str
    index: int
    text: str
    page: int | None = None
    metadata: dict[str, Json] = {}


class StoredDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A file as the store knows it."""

    file: StoredFile
    chunk_count: int


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, and sizes in bytes; `indexes` tells which derived indexes answer and how far they are."""

    chunks: int
    documents: int
    dimension: int | None
    metric: Metric
    size_bytes: int
    index_size_bytes: int
    last_updated: float | None
    indexes: dict[str, Json] = {}


class VectorStore(ABC):
    """One opened database. All methods are safe to call concurrently; writes are whole or absent.

    `filters`: a metadata key maps to a value (equality), a list (any of) or ``{"gte" | "lte" | "gt" | "lt" | "ne": value}``;
    the keys file_hash, dataset and filename name the file. An unknown operator or a malformed key is a ValidationFailed.
    """

    @abstractmethod
    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Vectors) -> None:
        """Put a file's chunks in one transaction, in place of those that the same (dataset, file_hash) had: idempotent.

        Raises ValidationFailed for a wrong dimension, NaN or infinity; nothing is stored then.
        """

    @abstractmethod
    async def find_file(self, dataset: str, file_hash: str) -> StoredDocument | None:
        """The stored file with its token, or None."""

    @abstractmethod
    async def delete(self, dataset: str, file_hash: str | None = None) -> int:
        """Delete a file's chunks, or a whole dataset's; returns how many chunks went. Unknown: 0."""

    @abstractmethod
    async def search_vectors(
        self, vector: Sequence[float] | Vectors, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        """The k nearest, best first. Scores: cosine max(0, cos); l2 and l1 1/(1 + d); dot sigmoid. A metric other than
        the database's own is an exact scan."""

    @abstractmethod
    async def search_text(self, query: str, k: int, filters: Filters | None = None) -> list[Hit]:
        """The k best by BM25, best first; any characters are allowed in the query. Score s/(s + constant)."""

    async def search_hybrid(
        self, query: str, vector: Sequence[float] | Vectors, k: int, alpha: float, filters: Filters | None = None
    ) -> list[Hit]:
        """Both fused; alpha is the weight of the vectors (1: vectors only, 0: BM25 only). Score over its maximum possible.

        Both searches run at once, and fetch as many more than k as `paddock.contracts.providers.fusion.depth` says.
        """
        near, said = await asyncio.gather(
            self.search_vectors(vector, depth(k), filters), self.search_text(query, depth(k), filters)
        )
        return fuse(near, said, alpha, k)

    @abstractmethod
    async def documents(self, limit: int, offset: int = 0) -> list[StoredDocument]:
        """Files, newest first."""

    @abstractmethod
    async def chunks(self, chunk_ids: Sequence[str]) -> list[Hit]:
        """Chunks by id (score 0), in the order asked; unknown ids are left out."""

    @abstractmethod
    async def stats(self) -> StoreStats:
        """Counts and sizes."""

    @abstractmethod
    async def close(self) -> None:
        """Close the files; idempotent."""


class VectorStoreProvider(Provider):
    """Opens databases of its type."""

    @abstractmethod
    async def open(self, folder: Path, config: Any) -> VectorStore:
        """Open or create the database in `folder` (which belongs to it alone). The dimension is fixed by the first
        `replace`. Raises ProviderUnavailable (unreachable), ValidationFailed (damaged beyond repair, with the next step)."""

    @abstractmethod
    def metric(self, config: Any) -> Metric:
        """The metric that this config asks for."""

    @abstractmethod
    async def drop(self, folder: Path, config: Any) -> None:
        """Delete the database's data for good; a missing one counts as done. The store must be closed."""
