"""The conformance suite: SQLite alone, derived indexes that are behind, and derived indexes that are level."""

from collections.abc import Sequence

import pytest
from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.settings import SqliteVecSettings
from paddock_sqlite_vec.store import SqliteVecStore

from paddock.contracts.providers import StoredChunk, StoredFile, Vectors, VectorStoreProvider
from paddock.testing.vector_store import VectorStoreSuite


class PatientStore(SqliteVecStore):
    """Lets the indexes catch up after every write, so that it is they who answer."""

    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors_: Vectors) -> None:
        await super().replace(file, chunks, vectors_)
        await self.level()

    async def delete(self, dataset: str, file_hash: str | None = None) -> int:
        count = await super().delete(dataset, file_hash)
        await self.level()
        return count


class PatientProvider(SqliteVecProvider):
    store = PatientStore


class TestPlain(VectorStoreSuite):
    """SQLite alone answers."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return SqliteVecProvider(SqliteVecSettings(fast=False))


class TestFast(VectorStoreSuite):
    """Derived indexes from the first chunk on; they are behind most of the time, because nothing waits for them."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return SqliteVecProvider(SqliteVecSettings(fast=True, fast_above=0))


class TestFastAndLevel(VectorStoreSuite):
    """Derived indexes answer everything that they can."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return PatientProvider(SqliteVecSettings(fast=True, fast_above=0))
