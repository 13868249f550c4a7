"""Project chat over HTTP: OpenAI's own client as the caller, a fake upstream behind the openai plugin."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from paddock_openai import plugin as openai_plugin

from paddock.testing.server import RunningServer, running_server
from paddock.testing.upstream import FakeUpstream, Plan

LONG = 10
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
ASKED: Any = [{"role": "user", "content": "Hi"}]
PATH = "/v1/projects/n/p/chat/completions"


@dataclass
class Bench:
    """A server with the project n/p, whose model is the upstream's."""

    server: RunningServer
    upstream: FakeUpstream

    @property
    def base_url(self) -> str:
        return f"{self.server.base_url}/v1/projects/n/p"

    def client(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.base_url, api_key="none", max_retries=0)

    async def post(self, body: Any, **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.server.ask("POST", PATH, body, headers=named)

    async def stores_nothing(self) -> None:
        answered = await self.server.ask("DELETE", "/v1/projects/n/p/chat/sessions")
        assert answered.json() == {"message": "Deleted 0 session(s)", "count": 0}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with FakeUpstream() as upstream:
        settings = {"outgoing": {"allow": f"127.0.0.1:{upstream.port}"}}
        async with running_server(
            tmp_path, plugins={"openai": openai_plugin}, settings=settings, installed=False
        ) as server:
            folder = tmp_path / "projects" / "n" / "p"
            folder.mkdir(parents=True)
            model = {"name": "m", "provider": "openai", "model": "fake-model", "base_url": upstream.base_url}
            config = {"version": "v1", "name": "p", "namespace": "n", "runtime": {"models": [model]}}
            (folder / "llamafarm.yaml").write_text(json.dumps(config))
            yield Bench(server, upstream)


async def test_the_official_client_gets_a_reply(bench: Bench) -> None:
    async with bench.client() as client:
        reply = await client.chat.completions.create(model="m", messages=ASKED, temperature=0.5, seed=3)
    assert reply.choices[0].message.content == "Hello from upstream"
    assert reply.usage is not None
    assert reply.usage.total_tokens == 10
    assert bench.upstream.requests[-1].body["temperature"] == 0.5
    assert bench.upstream.requests[-1].body["model"] == "fake-model"


async def test_the_official_client_streams(bench: Bench) -> None:
    async with bench.client() as client:
        stream = await client.chat.completions.create(
            model="m", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello from upstream"
    assert chunks[-1].usage is not None


def ask_in_the_old_way(base_url: str) -> tuple[str, str]:
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
        whole = client.chat.completions.create(model="m", messages=ASKED)
        stream = client.chat.completions.create(model="m", messages=ASKED, stream=True)
        return str(whole.choices[0].message.content), "".join(chunk.choices[0].delta.content or "" for chunk in stream)


async def test_the_official_client_works_without_asyncio_too(bench: Bench) -> None:
    text = "Hello from upstream"
    assert await asyncio.to_thread(ask_in_the_old_way, bench.base_url) == (text, text)


async def test_tool_calls_reach_the_official_client(bench: Bench) -> None:
    bench.upstream.plan = Plan(texts=[], tool_calls=[CALL])
    async with bench.client() as client:
        reply = await client.chat.completions.create(model="m", messages=ASKED, tools=[TOOL], tool_choice="required")
        async with client.chat.completions.stream(model="m", messages=ASKED, tools=[TOOL]) as stream:
            last = await stream.get_final_completion()
    assert bench.upstream.requests[0].body["tool_choice"] == "required"
    for completion in (reply, last):
        calls = completion.choices[0].message.tool_calls or []
        assert [call.function.arguments for call in calls if call.type == "function"] == ['{"city": "Oslo"}']


async def test_the_clients_stream_helper_survives_sources_and_thinking(bench: Bench) -> None:
    bench.upstream.plan = Plan(texts=["<thi", "nk>a", "</think>", "b"])
    async with (
        bench.client() as client,
        client.chat.completions.stream(model="m", messages=ASKED, extra_body={"include_sources": True}) as stream,
    ):
        last = await stream.get_final_completion()
    assert last.choices[0].message.content == "b"
    assert last.choices[0].finish_reason == "stop"


async def test_the_raw_response_names_the_session(bench: Bench) -> None:
    async with bench.client() as client:
        first = await client.chat.completions.with_raw_response.create(model="m", messages=ASKED)
        session = first.headers["x-session-id"]
        await client.chat.completions.create(model="m", messages=ASKED, extra_headers={"X-Session-ID": session})
        bare = await client.chat.completions.with_raw_response.create(
            model="m", messages=ASKED, extra_headers={"X-No-Session": "false", "X-Session-ID": session}
        )
    assert len(bench.upstream.requests[-2].body["messages"]) == 3
    assert "x-session-id" not in bare.headers
    found = await bench.server.ask("GET", f"/v1/projects/n/p/chat/sessions/{session}/history")
    assert [one["role"] for one in found.json()["messages"]] == ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize(("status", "kind"), [(404, openai.NotFoundError), (429, openai.RateLimitError)])
async def test_an_upstreams_error_keeps_its_status_for_the_client(
    bench: Bench, status: int, kind: type[openai.APIStatusError]
) -> None:
    bench.upstream.plan = Plan(status=status, error={"message": "no luck", "type": "t", "code": "c"})
    async with bench.client() as client:
        for stream in (False, True):
            with pytest.raises(kind, match="no luck"):
                await client.chat.completions.create(model="m", messages=ASKED, stream=stream)


async def test_an_error_in_the_middle_of_a_stream_reaches_the_client(bench: Bench) -> None:
    for plan in (Plan(fail_after=1), Plan(cut_after=1)):
        for headers in ({"X-No-Session": "1"}, {}):
            bench.upstream.plan = plan
            answered = await bench.post({"messages": ASKED, "stream": True}, **headers)
            events = answered.body.decode().split("\n\n")
            assert "error" in json.loads(events[-2].removeprefix("data: "))
            assert "[DONE]" not in answered.body.decode()
            assert sum('"error"' in event for event in events) == 1
    await bench.stores_nothing()


async def test_errors_carry_both_shapes(bench: Bench) -> None:
    for body, status in (
        ({"messages": ASKED, "model": "nobody"}, 404),
        ({"messages": 5}, 422),
        ({"messages": ASKED, "base_url": "x"}, 422),
    ):
        answered = await bench.post(body)
        assert answered.status == status
        found = answered.json()
        assert found["detail"] == found["error"]["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"", b'{"messages": [' + b"[" * 100_000, b'{"messages": "\xff"}'])
async def test_malformed_bodies_are_refused(bench: Bench, body: bytes) -> None:
    answered = await bench.server.ask("POST", PATH, data=body)
    assert answered.status == 422
    assert answered.json()["errors"][0]["reason"]


async def test_hostile_session_ids_are_refused(bench: Bench) -> None:
    for hostile in ("../../x", "%2e%2e", "a b", "x" * 5000):
        answered = await bench.post({"messages": ASKED}, X_Session_ID=hostile)
        assert answered.status == 400
    assert (await bench.server.ask("GET", "/v1/projects/n/p/chat/sessions/%2e%2e/history")).status in (400, 404)
    assert bench.upstream.requests == []


@contextlib.asynccontextmanager
async def asking(bench: Bench, *, stream: bool) -> AsyncIterator[asyncio.Task[bytes]]:
    """A caller of its own connection who may leave."""

    async def ask() -> bytes:
        async with (
            aiohttp.ClientSession() as session,
            session.post(bench.server.base_url + PATH, json={"messages": ASKED, "stream": stream}) as reply,
        ):
            return await reply.read()

    task = asyncio.ensure_future(ask())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    ("plan", "stream", "phase"),
    [
        (Plan(before_headers=asyncio.Event()), True, "headers"),
        (Plan(before_first=asyncio.Event()), True, "first token"),
        (Plan(hold_after=1), True, "stream"),
        (Plan(before_headers=asyncio.Event()), False, "headers"),
    ],
)
async def test_a_client_that_leaves_cancels_the_work_upstream(
    bench: Bench, plan: Plan, stream: bool, phase: Any
) -> None:
    bench.upstream.plan = plan
    async with asyncio.timeout(LONG):
        async with asking(bench, stream=stream):
            request = await bench.upstream.request()
            await request.reached[phase].wait()
        await request.gone.wait()
    await bench.stores_nothing()


async def test_events_of_chats_are_listed_over_http(bench: Bench) -> None:
    await bench.post({"messages": ASKED})
    found = (await bench.server.ask("GET", "/v1/projects/n/p/event_logs?type=inference")).json()
    assert found["total"] == 1
    assert found["events"][0]["summary"]["tokens"] == 10
    detail = await bench.server.ask("GET", f"/v1/projects/n/p/event_logs/{found['events'][0]['event_id']}")
    assert detail.json()["data"]["tokens"] == {"prompt": 7, "completion": 3, "total": 10}
    for query in ("limit=0", "limit=101", "limit=x", "offset=-1", "start_time=yesterday"):
        assert (await bench.server.ask("GET", f"/v1/projects/n/p/event_logs?{query}")).status == 422
    assert (await bench.server.ask("GET", "/v1/projects/n/p/event_logs/evt_nothing")).status == 404
    assert (await bench.server.ask("GET", "/v1/projects/n/nobody/event_logs")).status == 404
