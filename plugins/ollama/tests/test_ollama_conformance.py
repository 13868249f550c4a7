"""The ollama plugin against the conformance suites, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from paddock_ollama import OllamaChat, OllamaEmbedder, OllamaServer, OllamaSettings, OllamaSource

from paddock.outgoing import OutgoingClient
from paddock.testing.chat import UpstreamChatSuite
from paddock.testing.embedder import EmbedderSuite
from paddock.testing.serving import UpstreamServerSuite
from paddock.testing.source import ModelSourceSuite
from paddock.testing.upstream import FakeUpstream


class TestOllama(UpstreamChatSuite):
    unknown_model = "missing-model"

    @pytest.fixture
    async def model(self, upstream: FakeUpstream) -> AsyncIterator[OllamaChat]:
        upstream.strict_models = True
        http = OutgoingClient([upstream.allow])
        yield OllamaChat(http, OllamaSettings(base_url=upstream.root))
        await http.close()


class TestOllamaServer(UpstreamServerSuite):
    credential = "proxy-key"
    unknown_model = "missing-model"

    @pytest.fixture
    async def server(self, upstream: FakeUpstream) -> AsyncIterator[OllamaServer]:
        upstream.strict_models = True
        http = OutgoingClient([upstream.allow])
        yield OllamaServer(http, OllamaSettings(base_url=upstream.root, api_key="proxy-key"))
        await http.close()


class TestOllamaSource(ModelSourceSuite):
    model = "tiny:latest"
    unknown_model = "there-is-none"

    @pytest.fixture
    async def source(self) -> AsyncIterator[OllamaSource]:
        async with FakeUpstream(models={}) as upstream:
            upstream.registry["tiny:latest"] = 1000
            upstream.plan.between = 0.05  # no pull is over before its first progress was read
            http = OutgoingClient([upstream.allow])
            yield OllamaSource(http, OllamaSettings(base_url=upstream.root))
            await http.close()


class TestOllamaEmbedder(EmbedderSuite):
    raw_config: ClassVar = {"model": "fake-model", "batch_size": 7, "dimension": 128}

    @pytest.fixture
    async def embedder(self) -> AsyncIterator[OllamaEmbedder]:
        async with FakeUpstream() as upstream:
            upstream.dimension = 128
            http = OutgoingClient([upstream.allow])
            yield OllamaEmbedder(http, OllamaSettings(base_url=upstream.root))
            await http.close()
