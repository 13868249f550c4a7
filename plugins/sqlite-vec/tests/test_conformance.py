"""The conformance suite on the plain path."""

import pytest
from paddock.contracts.providers import VectorStoreProvider
from paddock.testing.vector_store import VectorStoreSuite
from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.settings import SqliteVecSettings


class TestPlain(VectorStoreSuite):
    """SQLite alone answers."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return SqliteVecProvider(SqliteVecSettings(fast=False))
