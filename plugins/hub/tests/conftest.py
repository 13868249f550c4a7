"""What the tests of the hub plugin share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paddock_hub import HubSettings, HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.outgoing import OutgoingClient
from paddock.testing.hub import FakeHub


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.add("org/model", {"config.json": b"{}", "model.safetensors": b"w" * 300_000, "sub/vocab.txt": b"a\nb"})
        yield hub


@pytest.fixture
async def make_source(hub: FakeHub, tmp_path: Path) -> AsyncIterator[Callable[..., HubSource]]:
    """A source on the fake hub; arguments change its settings."""
    http = OutgoingClient(hub.allow)

    def make(**given: Any) -> HubSource:
        settings = msgspec.convert({**hub.settings()["hub"], **given}, HubSettings)
        return HubSource(http, settings, tmp_path / "hub")

    yield make
    await http.close()


@pytest.fixture
def source(make_source: Callable[..., HubSource]) -> HubSource:
    return make_source()


@pytest.fixture
def cache(tmp_path: Path) -> HubCache:
    return HubCache(tmp_path / "hub")


@pytest.fixture
def ggufs() -> dict[str, bytes]:
    """A repository with one quantization in a file, another in two."""
    return {
        "tiny-Q4_K_M.gguf": b"4" * 1000,
        "tiny-Q8_0-00001-of-00002.gguf": b"8" * 1500,
        "tiny-Q8_0-00002-of-00002.gguf": b"9" * 500,
        "README.md": b"# Tiny",
    }
