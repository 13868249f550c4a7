"""A real server with two named upstreams, `one` and `two`, which are fakes; and what a test asks of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from paddock.contracts.base import Json
from paddock.testing.server import Answered, RunningServer, running_server
from paddock.testing.upstream import FakeUpstream

LONG = 20  # seconds that a test waits for what must come
CHAT: dict[str, Any] = {"model": "one/m", "messages": [{"role": "user", "content": "Hello?"}]}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "completions": {"model": "one/m", "prompt": "Hello"},
    "embeddings": {"model": "one/m", "input": "Hello"},
    "rerank": {"model": "one/m", "query": "x", "documents": ["a", "b"]},
    "reranking": {"model": "one/m", "query": "x", "documents": ["a", "b"]},
    "responses": {"model": "one/m", "input": "Hello"},
    "messages": {"model": "one/m", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]},
    "messages/count_tokens": {"model": "one/m", "messages": [{"role": "user", "content": "Hello"}]},
}
STREAMING = ("chat/completions", "completions", "responses", "messages")


@dataclass
class Gate:
    """The server, and the upstreams behind it."""

    server: RunningServer
    one: FakeUpstream
    two: FakeUpstream
    headers: dict[str, str] = field(default_factory=dict)

    async def post(self, operation: str, body: Json = None, **given: Any) -> Answered:
        """Ask under /v1; without a body the usual one."""
        if body is None and "data" not in given:
            body = BODIES[operation]
        return await self.server.ask("POST", f"/v1/{operation}", body, headers=self.headers, **given)

    async def chat(self, model: str = "one/m", **fields: Any) -> Answered:
        """A chat with a model."""
        return await self.post("chat/completions", {**CHAT, "model": model, **fields})

    @asynccontextmanager
    async def asking(self, operation: str, body: Json) -> AsyncIterator[asyncio.Future[Any]]:
        """A request on the way, whose client leaves at the end of the block."""
        async with aiohttp.ClientSession() as http:
            asking = asyncio.ensure_future(http.post(f"{self.server.base_url}/v1/{operation}", json=body))
            try:
                yield asking
            finally:
                asking.cancel()
                await asyncio.wait((asking,))
                if not asking.cancelled():
                    asking.result().close()

    async def event(self) -> dict[str, Any]:
        """The event that ended last, in full, as soon as there is one."""
        async with asyncio.timeout(LONG):
            while True:
                events = (await self.server.ask("GET", "/v1/system/event_logs")).json()["events"]
                if events:
                    found = await self.server.ask("GET", f"/v1/system/event_logs/{events[0]['event_id']}")
                    return dict(found.json())

    async def models(self, query: str = "") -> list[dict[str, Any]]:
        """The items of /v1/models."""
        reply = await self.server.ask("GET", f"/v1/models{query}", headers=self.headers)
        assert reply.status == 200, reply.body
        return list(reply.json()["data"])


@pytest.fixture
def gateway_settings() -> Mapping[str, Any]:
    """Keys of the section gateway besides the upstreams. Override it."""
    return {}


@pytest.fixture
def upstream_settings() -> Mapping[str, Any]:
    """Keys of the upstream `one` besides its address. Override it."""
    return {}


@pytest.fixture
def other_settings() -> Mapping[str, Any]:
    """Other sections. Override it."""
    return {}


@pytest.fixture
def plugins() -> Mapping[str, object]:
    """Plugins by name. The installed ones are left out. Override it."""
    return {}


@pytest.fixture
async def gate(
    tmp_path: Path,
    gateway_settings: Mapping[str, Any],
    upstream_settings: Mapping[str, Any],
    other_settings: Mapping[str, Any],
    plugins: Mapping[str, object],
) -> AsyncIterator[Gate]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(FakeUpstream(models={"m": 1, "shared": 1}))
        two = await stack.enter_async_context(FakeUpstream(models={"n:latest": 1, "shared": 1, "org/deep": 1}))
        upstreams = {
            "one": {"base_url": one.base_url, **upstream_settings},
            "two": {"base_url": two.base_url},
        }
        settings = {"gateway": {"upstreams": upstreams, **gateway_settings}, **other_settings}
        server = await stack.enter_async_context(
            running_server(tmp_path / "data", plugins=plugins, settings=settings, installed=False)
        )
        yield Gate(server, one, two)
