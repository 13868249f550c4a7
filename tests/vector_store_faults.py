"""Stores with one fault each. Not collected by itself: test_memory_store.py runs the suite against them."""

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from paddock.contracts.providers import Filters, Hit, Metric, StoredChunk, StoredFile, VectorStoreProvider
from paddock.errors import ValidationFailed
from paddock.testing.memory_store import MemoryStore, MemoryStoreProvider
from paddock.testing.vector_store import VectorStoreSuite


class KeepsOld(MemoryStore):
    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Any) -> None:
        before = self.files.get((file.dataset, file.file_hash))
        await super().replace(file, chunks, vectors)
        if before:
            new = self.files[file.dataset, file.file_hash]
            self.files[file.dataset, file.file_hash] = (file, (*before[1], *new[1]))


class ShowsHalves(MemoryStore):
    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Any) -> None:
        half = len(chunks) // 2
        if half:
            await super().replace(file, chunks[:half], vectors[:half])
            await asyncio.sleep(0)
        await super().replace(file, chunks, vectors)


class TakesNaN(MemoryStore):
    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Any) -> None:
        await super().replace(file, chunks, np.nan_to_num(vectors, posinf=1.0))


class LosesOnError(MemoryStore):
    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Any) -> None:
        self.files.pop((file.dataset, file.file_hash), None)
        await super().replace(file, chunks, vectors)


class ForgetsDataset(MemoryStore):
    async def delete(self, dataset: str, file_hash: str | None = None) -> int:
        gone = [key for key in self.files if file_hash in {None, key[1]}]
        return sum(len(self.files.pop(key)[1]) for key in gone)


class IgnoresFilters(MemoryStore):
    async def search_text(self, query: str, k: int, filters: Filters | None = None) -> list[Hit]:
        return await super().search_text(query, k)


class FiltersAfterwards(MemoryStore):
    async def search_vectors(
        self, vector: Any, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        allowed = {row.chunk.chunk_id for row in self.rows(filters)}
        found = await super().search_vectors(vector, 4 * k, None, metric)
        return [hit for hit in found if hit.chunk_id in allowed][:k]


class IgnoresMetric(MemoryStore):
    async def search_vectors(
        self, vector: Any, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        return await super().search_vectors(vector, k, filters)


class WorstFirst(MemoryStore):
    async def search_vectors(
        self, vector: Any, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        return (await super().search_vectors(vector, k, filters, metric))[::-1]


class SquaresScores(MemoryStore):
    async def search_vectors(
        self, vector: Any, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        hits = await super().search_vectors(vector, k, filters, metric)
        for hit in hits:
            hit.score **= 2
        return hits


class LimitsK(MemoryStore):
    async def search_vectors(
        self, vector: Any, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        return await super().search_vectors(vector, min(k, 4096), filters, metric)


class ParsesQueries(MemoryStore):
    async def search_text(self, query: str, k: int, filters: Filters | None = None) -> list[Hit]:
        if query.count('"') % 2:
            raise ValidationFailed("unbalanced quotes")
        return await super().search_text(query, k, filters)


class SkipsUnknownOperators(MemoryStore):
    def rows(self, filters: Filters | None = None) -> list[Any]:
        try:
            return super().rows(filters)
        except ValidationFailed:
            return super().rows()


class OldestFirst(MemoryStore):
    async def documents(self, limit: int, offset: int = 0) -> list[Any]:
        return (await super().documents(10_000))[::-1][offset:][:limit]


class AnyOrder(MemoryStore):
    async def chunks(self, chunk_ids: Sequence[str]) -> list[Hit]:
        return await super().chunks(sorted(chunk_ids))


FAULTS = [
    value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, MemoryStore) and value is not MemoryStore
]


def provider_of(fault: type[MemoryStore]) -> VectorStoreProvider:
    """A provider of the faulty store."""
    provider = MemoryStoreProvider()
    provider.store = fault
    return provider


def suite_of(fault: type[MemoryStore]) -> type[VectorStoreSuite]:
    """The suite against one faulty store."""

    @pytest.fixture
    def provider(self: VectorStoreSuite) -> VectorStoreProvider:
        return provider_of(fault)

    return type(f"Test{fault.__name__}", (VectorStoreSuite,), {"provider": provider})


globals().update({f"Test{fault.__name__}": suite_of(fault) for fault in FAULTS})
