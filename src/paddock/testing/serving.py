"""The kit for model servers: calls to make, and the conformance suites.

A server's whole test file::

    class TestMine(ModelServerSuite):
        @pytest.fixture
        def server(self):
            return Mine()

One that passes requests on to somebody else's server runs `UpstreamServerSuite` instead, with a fixture `upstream` (a
`FakeUpstream`), and `credential` when it sends one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from paddock.builtin.serving import EVERYTHING
from paddock.contracts.base import Json
from paddock.contracts.providers import GatewayCall, ModelServer, Operation
from paddock.errors import ModelNotFound, PaddockError, ProviderUnavailable, UpstreamTimeout
from paddock.testing.upstream import FakeUpstream, Plan

PATIENCE = 10.0  # seconds after which a test has failed rather than waited
MESSAGES = [{"role": "user", "content": "What is a cow?"}]
FIELDS: dict[Operation, dict[str, Json]] = {
    "chat/completions": {"messages": MESSAGES},
    "completions": {"prompt": "A cow is"},
    "embeddings": {"input": ["a cow", "a gate"]},
    "rerank": {"query": "a cow", "documents": ["a gate", "a cow"]},
    "responses": {"input": "What is a cow?"},
    "messages": {"max_tokens": 8, "messages": MESSAGES},
    "messages/count_tokens": {"messages": MESSAGES},
}
STREAMED: tuple[Operation, ...] = ("chat/completions", "completions", "responses", "messages")


def serve_call(operation: Operation, model: str, *, stream: bool = False, **fields: Any) -> GatewayCall:
    """A call as the gateway makes it; `fields` are the call's own."""
    body = {"model": model, **FIELDS[operation], **({"stream": True} if stream else {})}
    return GatewayCall(operation=operation, model=model, stream=stream, **{"body": msgspec.json.encode(body), **fields})


async def served(server: ModelServer, call: GatewayCall, patience: float = PATIENCE) -> tuple[int, bytes]:
    """Status and whole body; TimeoutError after `patience` seconds."""
    async with asyncio.timeout(patience), server.serve(call) as reply:
        return reply.status, b"".join([piece async for piece in reply.chunks()])


class ModelServerSuite:
    """What every model server does. Set `model`, and `unknown_model` (None when it takes every name)."""

    model = "fake-model"
    unknown_model: str | None = None

    async def test_its_name_can_stand_before_a_slash(self, server: ModelServer) -> None:
        """If this fails, ``NAME/model`` can't lead to it."""
        assert server.name
        assert "/" not in server.name

    async def test_it_serves_known_operations(self, server: ModelServer) -> None:
        """If this fails, it names a path that the gateway does not have, or none."""
        assert server.operations
        assert server.operations <= EVERYTHING

    async def test_the_catalogue_has_the_model_once(self, server: ModelServer) -> None:
        """If this fails, the model's bare name does not lead to it."""
        assert [one.id for one in await server.models()].count(self.model) == 1

    async def test_it_claims_no_name_that_is_not_its_own(self, server: ModelServer) -> None:
        """If this fails, it takes the models of others."""
        assert server.claims("somebody-elses/model") is None
        assert server.claims("") is None

    async def test_it_answers_whole(self, server: ModelServer) -> None:
        """If this fails, look at the operation in the message: the reply is no JSON object, or an error."""
        for operation in server.operations:
            status, body = await served(server, serve_call(operation, self.model))
            assert status == 200, (operation, body)
            assert isinstance(msgspec.json.decode(body), dict), operation

    async def test_it_answers_as_a_stream_of_events(self, server: ModelServer) -> None:
        """If this fails, a stream has another type than text/event-stream, or is cut."""
        for operation in sorted(server.operations.intersection(STREAMED)):
            async with server.serve(serve_call(operation, self.model, stream=True)) as reply:
                assert reply.headers["Content-Type"].startswith("text/event-stream"), operation
                body = b"".join([piece async for piece in reply.chunks()])
            assert b"data: " in body, operation
            if operation in ("chat/completions", "completions"):
                assert body.endswith(b"data: [DONE]\n\n"), operation

    async def test_an_unknown_model_is_not_found(self, server: ModelServer) -> None:
        """If this fails, the caller can't tell a wrong name from a fault."""
        if self.unknown_model is None:
            return
        for operation in server.operations:
            try:
                status, _ = await served(server, serve_call(operation, self.unknown_model))
            except ModelNotFound:
                continue
            assert status == 404, operation

    async def test_a_call_may_be_left_before_its_end(self, server: ModelServer) -> None:
        """If this fails, a client that goes away leaves something behind that breaks the next call."""
        for operation in server.operations:
            async with server.serve(serve_call(operation, self.model, stream=operation in STREAMED)) as reply:
                await anext(aiter(reply.chunks()))
            assert (await served(server, serve_call(operation, self.model)))[0] == 200, operation

    async def test_health_never_raises(self, server: ModelServer) -> None:
        """If this fails, /health breaks with it."""
        assert (await server.health()).status in ("healthy", "degraded", "unhealthy")

    async def test_its_figures_can_be_told(self, server: ModelServer) -> None:
        """If this fails, its lines are missing in /metrics."""
        labels: dict[str, set[str]] = {}
        for sample in server.metrics():
            assert labels.setdefault(sample.name, set(sample.labels)) == set(sample.labels), sample.name


class UpstreamServerSuite(ModelServerSuite):
    """And one that passes requests on. `credential` is what it sends, and must never come back."""

    credential: str | None = None

    @pytest.fixture
    async def upstream(self) -> AsyncIterator[FakeUpstream]:
        """The server behind it."""
        async with FakeUpstream() as upstream:
            yield upstream

    async def test_bytes_pass_unchanged_both_ways(self, server: ModelServer, upstream: FakeUpstream) -> None:
        """If this fails, large numbers, the order of keys or white space are lost."""
        upstream.plan = upstream.embedding_plan = Plan(body=b'{ "n":  12345678901234567890 }')
        for operation in server.operations:
            body = b'{ "model": "fake-model",  "n":12345678901234567890 }'
            found = await served(server, serve_call(operation, self.model, body=body))
            assert found == (200, b'{ "n":  12345678901234567890 }'), operation
            assert upstream.requests[-1].raw == body, operation

    async def test_an_error_of_the_upstream_is_returned(self, server: ModelServer, upstream: FakeUpstream) -> None:
        """If this fails, its status or its words are lost."""
        upstream.plan = upstream.embedding_plan = Plan(status=418, error={"message": "told"})
        for operation in server.operations:
            status, body = await served(server, serve_call(operation, self.model))
            assert (status, msgspec.json.decode(body)) == (418, {"error": {"message": "told"}}), operation

    @pytest.mark.parametrize("stream", [False, True])
    async def test_its_credential_is_sent_and_never_comes_back(
        self, server: ModelServer, upstream: FakeUpstream, stream: bool
    ) -> None:
        """If this fails, a caller can read the key out of an error."""
        if self.credential is None:
            return
        error = {"message": f"not allowed: {self.credential}"}
        upstream.plan = Plan(error=error, fail_after=1) if stream else Plan(status=401, error=error)
        _, body = await served(server, serve_call("chat/completions", self.model, stream=stream))
        assert b"not allowed" in body
        assert self.credential.encode() not in body
        assert self.credential in str(upstream.requests[-1].headers)

    async def test_down_is_unavailable(self, server: ModelServer, upstream: FakeUpstream) -> None:
        """If this fails, a server that is down looks like one without models, or a request is not known to be unsent."""
        await upstream.stop()
        with pytest.raises(ProviderUnavailable):
            await server.models()
        with pytest.raises(ProviderUnavailable) as caught:
            await served(server, serve_call("chat/completions", self.model))
        assert caught.value.unsent
        assert (await server.health()).status == "unhealthy"

    async def test_the_times_of_the_call_hold(self, server: ModelServer, upstream: FakeUpstream) -> None:
        """If this fails, the settings of the gateway have no effect on it."""
        upstream.plan = Plan(before_headers=asyncio.Event())
        for call in (
            serve_call("chat/completions", self.model, stream=True, first_token_timeout=0.1),
            serve_call("chat/completions", self.model, timeout=0.1),
        ):
            with pytest.raises(UpstreamTimeout):
                await served(server, call)

    async def test_leaving_closes_the_request_upstream(self, server: ModelServer, upstream: FakeUpstream) -> None:
        """If this fails, a model goes on working for nobody."""
        upstream.plan = Plan(hold_after=1)
        async with asyncio.timeout(PATIENCE):
            async with server.serve(serve_call("chat/completions", self.model, stream=True)) as reply:
                await anext(aiter(reply.chunks()))
            await upstream.requests[-1].gone.wait()

    async def test_only_the_headers_of_the_call_travel(self, server: ModelServer, upstream: FakeUpstream) -> None:
        """If this fails, a header that the caller may send is lost, or overwrites the server's own."""
        headers = {"openai-beta": "x=1", "authorization": "Bearer callers"}
        try:
            await served(server, serve_call("chat/completions", self.model, headers=headers))
        except PaddockError as error:
            pytest.fail(error.message)
        assert upstream.requests[-1].headers["openai-beta"] == "x=1"
        if self.credential is not None:
            assert "callers" not in str(upstream.requests[-1].headers)
