"""The openai plugin against the conformance suites, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from paddock_openai import LemonadeChat, LemonadeServer, OpenAIChat, OpenAIEmbedder, OpenAIServer, OpenAISettings

from paddock.outgoing import OutgoingClient
from paddock.testing.chat import UpstreamChatSuite
from paddock.testing.embedder import EmbedderSuite
from paddock.testing.serving import UpstreamServerSuite
from paddock.testing.upstream import FakeUpstream


class TestOpenAI(UpstreamChatSuite):
    @pytest.fixture
    async def model(self, upstream: FakeUpstream) -> AsyncIterator[OpenAIChat]:
        http = OutgoingClient([upstream.allow])
        yield OpenAIChat(http, OpenAISettings(base_url=upstream.base_url))
        await http.close()


class TestOpenAIServer(UpstreamServerSuite):
    credential = "sk-openai"

    @pytest.fixture
    async def server(self, upstream: FakeUpstream) -> AsyncIterator[OpenAIServer]:
        http = OutgoingClient([upstream.allow])
        yield OpenAIServer(http, OpenAISettings(base_url=upstream.base_url, api_key="sk-openai"))
        await http.close()


class TestLemonadeServer(UpstreamServerSuite):
    @pytest.fixture
    async def server(self, upstream: FakeUpstream) -> AsyncIterator[LemonadeServer]:
        http = OutgoingClient([upstream.allow])
        yield LemonadeServer(http, OpenAISettings(lemonade_base_url=upstream.base_url))
        await http.close()


class TestLemonade(UpstreamChatSuite):
    @pytest.fixture
    async def model(self, upstream: FakeUpstream) -> AsyncIterator[LemonadeChat]:
        http = OutgoingClient([upstream.allow])
        yield LemonadeChat(http, OpenAISettings(lemonade_base_url=upstream.base_url))
        await http.close()


class TestOpenAIEmbedder(EmbedderSuite):
    raw_config: ClassVar = {"model": "fake-model", "batch_size": 7}

    @pytest.fixture
    async def embedder(self) -> AsyncIterator[OpenAIEmbedder]:
        async with FakeUpstream() as upstream:
            http = OutgoingClient([upstream.allow])
            yield OpenAIEmbedder(http, OpenAISettings(base_url=upstream.base_url))
            await http.close()
