"""The conformance suite on the plain path."""

import pytest
from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.settings import SqliteVecSettings

from paddock.contracts.providers import VectorStoreProvider
from paddock.testing.vector_store import VectorStoreSuite


class TestPlain(VectorStoreSuite):
    """SQLite alone answers."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return SqliteVecProvider(SqliteVecSettings(fast=False))
