"""A GGUF model of the hub that is not cached: fetched by the core if the settings say so."""

from __future__ import annotations

from pathlib import Path

import pytest
from paddock_llama_server import LlamaServer, LlamaServerSettings, Manager

from paddock.contracts.providers import Environment
from paddock.errors import ModelNotFound
from paddock.outgoing import OutgoingClient
from paddock.testing.host import MemoryHost
from paddock.testing.hub_cache import cache_model


class Fetching(MemoryHost):
    """Puts what is asked for into the cache."""

    def __init__(self, cache: Path) -> None:
        super().__init__()
        self._cache = cache

    async def fetch_model(self, model: str, *, gguf: bool = False) -> None:
        await super().fetch_model(model, gguf=gguf)
        if "none" in model:
            raise ModelNotFound("there is none")
        cache_model(self._cache, model.partition(":")[0], {"t-Q8_0.gguf": b"8"})


@pytest.fixture
def host(tmp_path: Path) -> Fetching:
    return Fetching(tmp_path / "hub")


@pytest.fixture
def server(tmp_path: Path, host: Fetching) -> LlamaServer:
    env = Environment(LlamaServerSettings(), tmp_path, OutgoingClient(), host, tmp_path / "hub")
    return LlamaServer(env, Manager(env))


async def test_a_repository_that_is_not_cached_is_asked_for(server: LlamaServer, host: Fetching) -> None:
    assert (await server._file("org/new:Q8_0")).name == "t-Q8_0.gguf"
    assert host.fetched == ["org/new:Q8_0"]


@pytest.mark.parametrize("model", ["plain", "/etc/passwd", "../x", "a/b/c"])
async def test_what_is_no_repository_is_not_asked_for(server: LlamaServer, host: Fetching, model: str) -> None:
    with pytest.raises(ModelNotFound):
        await server._file(model)
    assert host.fetched == []


async def test_what_the_hub_does_not_have_is_told(server: LlamaServer) -> None:
    with pytest.raises(ModelNotFound, match="there is none"):
        await server._file("org/none")
