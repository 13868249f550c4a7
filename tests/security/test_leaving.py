"""Clients that go away or read slowly, and a shutdown in the middle of everything."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from paddock.testing.process import ServerProcess, server_process
from paddock.testing.server import running_server
from paddock.testing.upstream import FakeUpstream, Plan
from tests.security.conftest import PROJECT, Target

BASE = "/v1/projects/n/p"
LONG = 20
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "What of herons?"}]}


@dataclass
class Pond:
    """A server whose project embeds and chats through the upstream; one file is searchable."""

    target: Target
    upstream: FakeUpstream

    @asynccontextmanager
    async def asking(self, path: str, body: Any, **headers: str) -> AsyncIterator[asyncio.Future[Any]]:
        """A request on the way, whose client leaves at the end of the block."""
        async with aiohttp.ClientSession(headers=headers) as http:
            asking = asyncio.ensure_future(http.post(self.target.server.base_url + path, json=body))
            try:
                yield asking
            finally:
                asking.cancel()
                await asyncio.wait((asking,))


@pytest.fixture
async def pond(tmp_path: Path) -> AsyncIterator[Pond]:
    async with FakeUpstream() as upstream:
        settings: dict[str, Any] = {"outgoing": {"allow": [upstream.allow]}, "server": {"shutdown_grace": 5}}
        async with running_server(tmp_path / "data", settings=settings) as server:
            target = Target(server)
            config = {"model": "fake-model", "base_url": upstream.base_url, "api_key": "k"}
            database = {
                "name": "main",
                "type": "SqliteVecStore",
                "embedding_strategies": [{"name": "h", "type": "OpenAIEmbedder", "config": config}],
                "retrieval_strategies": [{"name": "r", "type": "BasicSimilarityStrategy"}],
            }
            model = {"name": "m", "provider": "openai", "model": "fake-model", "base_url": upstream.base_url}
            rag = {**PROJECT["rag"], "databases": [database]}
            await target.project(runtime={"models": [model]}, rag=rag)
            assert (await target.upload("a.txt", b"Herons wait at the weir.")).status == 200
            assert (await target.process()).state == "SUCCESS"
            upstream.requests.clear()
            yield Pond(target, upstream)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (f"{BASE}/rag/query", {"query": "herons"}),
        (f"{BASE}/chat/completions", ASK),
        (f"{BASE}/chat/completions", {**ASK, "stream": True}),
        (f"{BASE}/chat/completions", {**ASK, "rag_queries": ["one", "two"]}),
    ],
    ids=["query", "chat", "stream", "queries"],
)
async def test_a_client_that_leaves_while_its_question_is_embedded_cancels_the_embedding(
    pond: Pond, path: str, body: Any
) -> None:
    pond.upstream.embedding_plan = Plan(before_headers=asyncio.Event())
    async with asyncio.timeout(LONG):
        async with pond.asking(path, body):
            request = await pond.upstream.request()
            assert request.path == "/v1/embeddings"
        await request.gone.wait()
        pond.upstream.embedding_plan = Plan()
        assert (await pond.target.ask("POST", path, body)).status == 200


async def test_the_query_of_a_client_that_left_is_in_the_event_log_as_failed(pond: Pond) -> None:
    pond.upstream.embedding_plan = Plan(before_headers=asyncio.Event())
    async with asyncio.timeout(LONG):
        async with pond.asking(f"{BASE}/rag/query", {"query": "herons"}):
            request = await pond.upstream.request()
        await request.gone.wait()
        statuses: list[str] = []
        while not statuses:
            reply = await pond.target.ask("GET", f"{BASE}/event_logs?type=rag_query")
            statuses = [event["status"] for event in reply.json()["events"]]
    assert statuses == ["failed"]


async def test_many_clients_that_leave_use_up_no_memory_and_no_session(pond: Pond) -> None:
    process = psutil.Process()
    sizes = []
    async with asyncio.timeout(60):
        for _ in range(3):
            for number in range(60):
                plan = (Plan(before_headers=asyncio.Event()), Plan(hold_after=1), Plan(before_first=asyncio.Event()))[
                    number % 3
                ]
                pond.upstream.requests.clear()
                pond.upstream.plan = plan
                body = {**ASK, "stream": number % 3 > 0, "rag_enabled": False, "metadata": {"x": "y" * 100_000}}
                async with pond.asking(f"{BASE}/chat/completions", body):
                    request = await pond.upstream.request()
                await request.gone.wait()
            pond.upstream.requests.clear()
            gc.collect()
            sizes.append(process.memory_info().rss)
    assert sizes[2] - sizes[1] < 8 * 1024 * 1024
    assert pond.target.server.app.services.chat.sessions._active == {}


async def test_a_reader_that_does_not_read_holds_the_stream_back_instead_of_filling_memory(pond: Pond) -> None:
    """A stream of 200 MB to somebody who reads nothing: the upstream is not read either."""
    text = "x" * 100_000
    pond.upstream.plan = Plan(texts=[text] * 2000)
    before = psutil.Process().memory_info().rss
    body = json.dumps({**ASK, "stream": True, "rag_enabled": False}).encode()
    _, writer = await asyncio.open_connection(pond.target.host, pond.target.port, limit=1000)
    async with asyncio.timeout(LONG):
        writer.write(
            b"POST " + f"{BASE}/chat/completions".encode() + b" HTTP/1.1\r\nHost: localhost\r\nX-No-Session: 1\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )  # fmt: skip
        request = await pond.upstream.request()
        await request.reached["stream"].wait()
        for _ in range(200):  # other requests go on meanwhile
            assert (await pond.target.ask("GET", "/health/liveness")).status == 200
        assert request.phase == "stream"  # it would be done by now if somebody took it all in
        assert psutil.Process().memory_info().rss - before < 64 * 1024 * 1024
        writer.transport.abort()
        await request.gone.wait()


async def test_a_shutdown_with_streams_uploads_and_an_ingest_under_way_ends_by_itself(tmp_path: Path) -> None:
    async with (
        FakeUpstream() as upstream,
        server_with(tmp_path, upstream) as server,
        aiohttp.ClientSession() as http,
    ):
        url = server.url
        upstream.plan = Plan(hold_after=1)
        upstream.embedding_plan = Plan(before_headers=asyncio.Event())
        form = aiohttp.FormData()
        form.add_field("file", b"Herons wait at the weir. " * 1000, filename="a.txt")
        async with http.post(f"{url}{BASE}/datasets/d/data", data=form) as reply:
            assert reply.status == 200
        async with http.post(f"{url}{BASE}/datasets/d/actions", json={"action_type": "process"}) as reply:
            task = (await reply.json())["task_id"]
        await upstream.request()  # the ingest waits for its vectors
        body = {**ASK, "stream": True, "rag_enabled": False}
        stream = await http.post(f"{url}{BASE}/chat/completions", json=body)
        assert stream.status == 200
        whole = asyncio.ensure_future(http.post(f"{url}{BASE}/chat/completions", json={**body, "stream": False}))
        watching = await http.get(f"{url}{BASE}/tasks/{task}/events")
        host, _, port = url.removeprefix("http://").partition(":")
        _, upload = await asyncio.open_connection(host, int(port))
        upload.write(
            f"POST {BASE}/datasets/d/data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n".encode()
            + b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\nhalf of it'
        )
        await upload.drain()
        await upstream.request(2)
        server.process.terminate()
        async with asyncio.timeout(LONG):
            status = await server.process.wait()
        await asyncio.wait((whole,))
        whole.exception()
        for reply in (stream, watching):
            reply.close()
        upload.close()
        assert status == 0
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


@asynccontextmanager
async def server_with(folder: Path, upstream: FakeUpstream) -> AsyncIterator[ServerProcess]:
    """A server as a process, whose project uses the upstream."""
    config = {"model": "fake-model", "base_url": upstream.base_url, "api_key": "k"}
    database = {**PROJECT["rag"]["databases"][0]}
    database["embedding_strategies"] = [{"name": "h", "type": "OpenAIEmbedder", "config": config}]
    project = folder / "projects" / "n" / "p"
    project.mkdir(parents=True)
    model = {"name": "m", "provider": "openai", "model": "fake-model", "base_url": upstream.base_url}
    content = {
        **PROJECT, "name": "p", "namespace": "n", "runtime": {"models": [model]},
        "rag": {**PROJECT["rag"], "databases": [database]},
    }  # fmt: skip
    (project / "llamafarm.yaml").write_text(json.dumps(content))
    async with server_process(
        folder, PADDOCK_OUTGOING__ALLOW=upstream.allow, PADDOCK_SERVER__SHUTDOWN_GRACE="2"
    ) as running:
        yield running
