"""MemoryStore holds to the contract, and the suite finds stores that do not."""

import pytest
from paddock.contracts.providers import VectorStoreProvider
from paddock.testing.vector_store import MemoryStoreProvider, VectorStoreSuite


class TestMemoryStore(VectorStoreSuite):
    """The reference."""

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        return MemoryStoreProvider()
