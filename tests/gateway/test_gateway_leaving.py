"""A client that goes away cancels the work upstream: while it waits, before the first byte, in the middle, whole replies too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest

from paddock.builtin.serving import MadeReply
from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Environment, GatewayCall, HttpReply, ModelInfo, ModelServer, TypeName
from paddock.testing.upstream import Plan
from tests.gateway.conftest import BODIES, LONG, STREAMING, Gate


class LoadingServer(ModelServer):
    """A server whose model takes for ever to load. `left` is set when the request that waits for it is cancelled."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("loading"),)
    operations = frozenset(
        {"chat/completions", "completions", "embeddings", "rerank", "responses", "messages", "messages/count_tokens"}
    )

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.left = asyncio.Event()

    @asynccontextmanager
    async def serve(self, call: GatewayCall) -> AsyncIterator[HttpReply]:
        self.entered.set()
        try:
            await asyncio.Event().wait()
            yield MadeReply(b"{}")
        finally:
            self.left.set()

    async def models(self) -> list[ModelInfo]:
        return []


class LoadingPlugin:
    def __init__(self, server: LoadingServer) -> None:
        self._server = server

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        return [self._server]


@pytest.fixture
def loading() -> LoadingServer:
    return LoadingServer()


@pytest.fixture
def plugins(loading: LoadingServer) -> Mapping[str, object]:
    return {"loading": LoadingPlugin(loading)}


async def check_left(gate: Gate) -> None:
    """The event tells it, and nothing is held any more."""
    event = await gate.event()
    assert event["status"] == "failed"
    assert "the client left" in event["error"]
    assert gate.server.app.services.gateway.limits.models.held == {}
    assert gate.server.app.core.meter.waiting == 0


@pytest.mark.parametrize("operation", BODIES)
async def test_while_the_model_is_loaded(gate: Gate, loading: LoadingServer, operation: str) -> None:
    async with asyncio.timeout(LONG):
        async with gate.asking(operation, {**BODIES[operation], "model": "loading/x"}):
            await loading.entered.wait()
        await loading.left.wait()
        await check_left(gate)


@pytest.mark.parametrize("operation", BODIES)
async def test_while_a_whole_reply_is_made(gate: Gate, operation: str) -> None:
    gate.one.plan = gate.one.embedding_plan = Plan(before_headers=asyncio.Event())
    async with asyncio.timeout(LONG):
        async with gate.asking(operation, BODIES[operation]):
            request = await gate.one.request()
        await request.gone.wait()
        await check_left(gate)


@pytest.mark.parametrize("operation", STREAMING)
async def test_before_the_first_piece_of_a_stream(gate: Gate, operation: str) -> None:
    gate.one.plan = Plan(before_first=asyncio.Event())
    async with asyncio.timeout(LONG):
        async with gate.asking(operation, {**BODIES[operation], "stream": True}):
            request = await gate.one.request()
            await request.reached["first token"].wait()
        await request.gone.wait()
        await check_left(gate)


@pytest.mark.parametrize("operation", STREAMING)
async def test_in_the_middle_of_a_stream(gate: Gate, operation: str) -> None:
    gate.one.plan = Plan(hold_after=2)
    async with asyncio.timeout(LONG):
        async with gate.asking(operation, {**BODIES[operation], "stream": True}) as asking:
            request = await gate.one.request()
            await request.reached["stream"].wait()
            await (await asking).content.readany()
        await request.gone.wait()
        await check_left(gate)


async def test_while_it_waits_for_a_retry(gate: Gate) -> None:
    gate.one.plan = Plan(status=503, error={"message": "busy"}, headers={"Retry-After": "5"})
    async with asyncio.timeout(LONG):
        async with gate.asking("chat/completions", BODIES["chat/completions"]):
            request = await gate.one.request()
            await request.finished.wait()
        await check_left(gate)
    assert len([one for one in gate.one.requests if one.method == "POST"]) == 1


async def test_a_shutdown_ends_a_stream_with_an_error_event(gate: Gate) -> None:
    gate.one.plan = Plan(hold_after=2)
    body: dict[str, Any] = {**BODIES["chat/completions"], "stream": True}
    async with asyncio.timeout(LONG), gate.asking("chat/completions", body) as asking:
        reply = await asking
        await reply.content.readany()
        gate.server.app.stop()
        assert b"shutting down" in await reply.read()
        await gate.one.requests[-1].gone.wait()
