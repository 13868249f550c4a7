"""The suites of model servers pass for the core's own, and find each fault of the broken ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from paddock.builtin.embedding_server import CoreServer
from paddock.builtin.serving import MadeReply
from paddock.builtin.upstreams import upstream_servers
from paddock.contracts.providers import GatewayCall, HttpReply, ModelInfo, ModelServer, TypeName
from paddock.outgoing import OutgoingClient
from paddock.services.gateway.adapters import ChatServer
from paddock.settings import Gateway, Upstream
from paddock.testing.chat import EchoModel
from paddock.testing.proof import failures_of
from paddock.testing.serving import ModelServerSuite, UpstreamServerSuite
from paddock.testing.upstream import FakeUpstream


class TestCore(ModelServerSuite):
    model = "hashing"
    unknown_model = "nothing"

    @pytest.fixture
    def server(self) -> ModelServer:
        return CoreServer()


class TestChatProvider(ModelServerSuite):
    model = "echo"
    unknown_model = "nothing"

    @pytest.fixture
    def server(self) -> ModelServer:
        return ChatServer("echo", EchoModel(known=["echo"]))


class TestNamedUpstream(UpstreamServerSuite):
    credential = "sk-upstream"

    @pytest.fixture
    async def server(self, upstream: FakeUpstream) -> AsyncIterator[ModelServer]:
        http = OutgoingClient([upstream.allow])
        settings = Upstream(base_url=upstream.base_url, api_key="sk-upstream", aliases={"a": "fake-model"})
        yield upstream_servers(http, Gateway(upstreams={"named": settings}))[0]
        await http.close()


class Good(ModelServer):
    """A server of one chat model."""

    types = (TypeName("good"),)

    def answer(self, call: GatewayCall) -> MadeReply:
        if call.stream:
            return MadeReply(b"data: {}\n\ndata: [DONE]\n\n", headers={"Content-Type": "text/event-stream"})
        return MadeReply(b"{}")

    @asynccontextmanager
    async def serve(self, call: GatewayCall) -> AsyncIterator[HttpReply]:
        yield self.answer(call)

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(id="fake-model", owned_by="good")]


class Greedy(Good):
    def claims(self, model: str) -> str | None:
        return model


class Hidden(Good):
    async def models(self) -> list[ModelInfo]:
        return []


class Plain(Good):
    def answer(self, call: GatewayCall) -> MadeReply:
        return MadeReply(b"{}")


class Cut(Good):
    def answer(self, call: GatewayCall) -> MadeReply:
        found = super().answer(call)
        return MadeReply(b"data: {}\n\n", headers=found.headers) if call.stream else found


class Listy(Good):
    def answer(self, call: GatewayCall) -> MadeReply:
        return super().answer(call) if call.stream else MadeReply(b"[]")


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Good, set()),
        (Greedy, {"it_claims_no_name_that_is_not_its_own"}),
        (Hidden, {"the_catalogue_has_the_model_once"}),
        (Plain, {"it_answers_as_a_stream_of_events"}),
        (Cut, {"it_answers_as_a_stream_of_events"}),
        (Listy, {"it_answers_whole"}),
    ],
)
async def test_a_broken_server_is_found(broken: type[ModelServer], found: set[str]) -> None:
    assert await failures_of(ModelServerSuite(), server=broken()) == found
