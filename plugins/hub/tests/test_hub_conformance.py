"""The hub plugin against the conformance suite, on the fake hub."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from paddock_hub import HubSource

from paddock.testing.hub import FakeHub
from paddock.testing.source import ModelSourceSuite


class TestHub(ModelSourceSuite):
    @pytest.fixture
    def source(self, hub: FakeHub, make_source: Callable[..., HubSource]) -> HubSource:
        hub.add("org/tiny", {"tiny-Q8_0.gguf": b"8" * 200_000, "tiny-Q4_K_M.gguf": b"4" * 100_000})
        return make_source()
