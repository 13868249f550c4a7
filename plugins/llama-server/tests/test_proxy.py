"""The raw proxy against a real server that notes what it gets: paths, headers, streams, uploads, leaving, websockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yarl
from aiohttp import WSMsgType, web
from paddock_llama_server.proxy import target
from paddock_llama_server.spec import Address, Spec, Status
from paddock_llama_server.testing import FakeInstances, FakePlugin

from paddock.errors import BadRequest, NotFound
from paddock.testing.server import RunningServer, running_server

PREFIX = "/api/v1/instances/one/proxy"


class Child:
    """What stands where llama-server would."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.reached = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()
        self.sizes: list[int] = []
        self.closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def any(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/socket":
            return await self.socket(request)
        if request.path in ("/hang", "/stream"):
            return await self.slow(request)
        if request.path == "/upload":
            async for piece in request.content.iter_any():
                self.sizes.append(len(piece))
                self.reached.set()
            return web.Response(text=str(sum(self.sizes)))
        self.requests.append((request.method, request.raw_path, dict(request.headers), await request.read()))
        headers = {
            "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "X-Mine": "1", "Set-Cookie": "a=b",
            "Connection": "x-secret", "X-Secret": "1", "Server": "llama",
        }  # fmt: skip
        return web.Response(status=418, body=b"tea", headers=headers, content_type="text/x-tea")

    async def slow(self, request: web.Request) -> web.StreamResponse:
        self.reached.set()
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            if request.path == "/stream":
                await reply.prepare(request)
                await reply.write(b"data: 1\n\n")
            await self.go_on.wait()
            await reply.prepare(request)
            await reply.write(b"data: 2\n\n")
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        self.ended.set()
        return reply

    async def socket(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path, dict(request.headers), b""))
        socket = web.WebSocketResponse(protocols=("chat.v2",))
        await socket.prepare(request)
        async for message in socket:
            if message.data == "leave":
                await socket.close(code=4001, message=b"enough")
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        self.closed.set_result(socket.close_code)
        return socket


class Proxied:
    """A server, the instance ``one`` behind it, and the child behind that."""

    def __init__(self, server: RunningServer, fake: FakeInstances, child: Child) -> None:
        self.server = server
        self.fake = fake
        self.child = child

    def request(self, method: str, path: str, **given: Any) -> Any:
        url = yarl.URL(self.server.base_url + path, encoded=True)
        return self.server.session.request(method, url, **given)

    async def idle(self) -> None:
        """Wait until no lease is held."""
        while self.fake.leased:
            self.fake.lease_ended.clear()
            await asyncio.wait_for(self.fake.lease_ended.wait(), 10)


@pytest.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[Proxied]:
    child = Child()
    app = web.Application(client_max_size=2**30)
    app.router.add_route("*", "/{rest:.*}", child.any)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    plugin = FakePlugin()
    plugin.instances.where = Address(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}", api_key="child-key")
    await plugin.instances.create("one", Spec(), start=False)
    plugin.instances.become("one", "running")
    async with running_server(tmp_path / "data", plugins={"llama-server": plugin}, installed=False) as server:
        yield Proxied(server, plugin.instances, child)
    child.go_on.set()
    await runner.cleanup()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_passes_with_its_body_and_reply(proxied: Proxied, method: str) -> None:
    async with proxied.request(method, f"{PREFIX}/x", data=b"body") as reply:
        assert (reply.status, await reply.read(), reply.headers["Content-Type"]) == (418, b"tea", "text/x-tea")
    seen = proxied.child.requests[0]
    assert (seen[0], seen[1], seen[3]) == (method, "/x", b"body")


async def test_head_passes_without_a_body(proxied: Proxied) -> None:
    async with proxied.request("HEAD", f"{PREFIX}/x") as reply:
        assert (reply.status, await reply.read()) == (418, b"")
    assert proxied.child.requests[0][0] == "HEAD"


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ("", "/"), ("/", "/"), ("?a=1", "/?a=1"), ("/health", "/health"), ("/health/", "/health/"),
        ("/a%2Fb", "/a%2Fb"), ("/a//b", "/a//b"),
        ("//", "//"), ("/a%20b?q=%2F&q=a+b", "/a%20b?q=%2F&q=a+b"), ("/x?api_key=k&a=1", "/x?a=1"),
        ("/x?a=1&api_key=k", "/x?a=1"),
        ("/x?api_key=k", "/x"), ("/%2e%2e/x", "/%2e%2e/x"), ("/api/v1/instances/one/proxy/y", "/api/v1/instances/one/proxy/y"),
    ],
)  # fmt: skip
async def test_paths_and_queries_survive_as_they_were_sent(proxied: Proxied, asked: str, seen: str) -> None:
    async with proxied.request("GET", PREFIX + asked) as reply:
        assert reply.status == 418, await reply.read()
    assert proxied.child.requests[0][1] == seen


async def test_credentials_and_what_belongs_to_a_connection_stay_behind(proxied: Proxied) -> None:
    headers = {
        "Authorization": "Bearer caller", "X-API-Key": "caller", "Cookie": "caller=1", "Connection": "keep-alive, x-hop",
        "X-Hop": "1",
        "TE": "trailers", "X-Kept": "1", "Accept": "a/b",
    }  # fmt: skip
    async with proxied.request("POST", f"{PREFIX}/x", headers=headers, data=b"") as reply:
        told = reply.headers
    sent = {name.lower(): value for name, value in proxied.child.requests[0][2].items()}
    assert sent["authorization"] == "Bearer child-key"
    assert "caller" not in str(sent)
    assert not {"x-api-key", "cookie", "x-hop", "te", "origin"} & set(sent)
    assert (sent["x-kept"], sent["accept"]) == ("1", "a/b")
    assert told["X-Mine"] == "1"
    assert not [name for name in told if name.lower().startswith(("access-control", "set-cookie", "x-secret"))]


async def test_an_instance_that_does_not_run_is_503_and_is_not_started(proxied: Proxied) -> None:
    down: list[Status] = ["stopped", "starting", "failed"]
    for status in down:
        proxied.fake.become("one", status)
        async with proxied.request("GET", f"{PREFIX}/health") as reply:
            assert (reply.status, set(await reply.json())) == (503, {"error"})
    assert not [order for order in proxied.fake.orders if order[0] == "start"]
    assert proxied.child.requests == []


async def test_a_child_that_is_gone_is_503(proxied: Proxied) -> None:
    proxied.fake.where = Address(base_url="http://127.0.0.1:1", api_key="k")
    async with proxied.request("GET", f"{PREFIX}/health") as reply:
        assert reply.status == 503
    await proxied.idle()


async def test_a_stream_comes_as_it_is_made(proxied: Proxied) -> None:
    async with proxied.request("GET", f"{PREFIX}/stream") as reply:
        assert reply.headers["X-Accel-Buffering"] == "no"
        assert await reply.content.readline() == b"data: 1\n"
        proxied.child.go_on.set()
        assert await reply.content.read() == b"\ndata: 2\n\n"
    await proxied.idle()


@pytest.mark.parametrize("path", ["/hang", "/stream"])
async def test_a_client_that_leaves_ends_the_work_of_the_child(proxied: Proxied, path: str) -> None:
    asking = asyncio.ensure_future(proxied.request("POST", PREFIX + path, data=b"x").__aenter__())
    await asyncio.wait_for(proxied.child.reached.wait(), 10)
    if path == "/stream":
        reply = await asking
        await reply.content.readline()
        reply.close()
    else:
        asking.cancel()
    await asyncio.wait_for(proxied.child.cancelled.wait(), 10)
    await proxied.idle()


@pytest.mark.parametrize("path", ["/hang", "/stream"])
async def test_an_instance_that_must_not_be_cut_off_ends_its_work_without_the_client(
    proxied: Proxied, path: str
) -> None:
    await proxied.fake.update("one", Spec(on_client_disconnect="drain"))
    asking = asyncio.ensure_future(proxied.request("POST", PREFIX + path, data=b"x").__aenter__())
    await asyncio.wait_for(proxied.child.reached.wait(), 10)
    if path == "/stream":
        reply = await asking
        await reply.content.readline()
        reply.close()
    else:
        asking.cancel()
    proxied.child.go_on.set()
    await asyncio.wait_for(proxied.child.ended.wait(), 10)
    await proxied.idle()
    assert not proxied.child.cancelled.is_set()


async def test_a_large_upload_arrives_while_it_is_sent(proxied: Proxied) -> None:
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 200_000
        await held.wait()
        yield b"end"

    sending = asyncio.ensure_future(proxied.request("POST", f"{PREFIX}/upload", data=body()).__aenter__())
    await asyncio.wait_for(proxied.child.reached.wait(), 10)
    held.set()
    reply = await sending
    assert await reply.read() == b"4000003"
    reply.release()


async def test_a_client_that_leaves_in_the_middle_of_an_upload_ends_it(proxied: Proxied) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 200_000
        await asyncio.Event().wait()

    sending = asyncio.ensure_future(proxied.request("POST", f"{PREFIX}/upload", data=body()).__aenter__())
    await asyncio.wait_for(proxied.child.reached.wait(), 10)
    sending.cancel()
    await proxied.idle()


class TestSocket:
    async def test_text_and_bytes_pass_under_the_childs_protocol(self, proxied: Proxied) -> None:
        url = f"{proxied.server.base_url}{PREFIX}/socket?a=%2F"
        headers = {"Authorization": "Bearer caller"}
        async with proxied.server.session.ws_connect(
            yarl.URL(url, encoded=True), protocols=["chat.v1", "chat.v2"], headers=headers
        ) as socket:
            assert socket.protocol == "chat.v2"
            await socket.send_str("moo")
            await socket.send_bytes(b"\x00" * 100_000)
            assert await socket.receive_str() == "moo"
            assert await socket.receive_bytes() == b"\x00" * 100_000
            await socket.close(code=4002)
        assert await asyncio.wait_for(proxied.child.closed, 10) == 4002
        _, path, sent, _ = proxied.child.requests[0]
        assert path == "/socket?a=%2F"
        assert [value for name, value in sent.items() if name.lower() == "authorization"] == ["Bearer child-key"]
        await proxied.idle()

    async def test_a_child_that_closes_closes_the_client_with_its_code(self, proxied: Proxied) -> None:
        async with proxied.server.session.ws_connect(f"{proxied.server.base_url}{PREFIX}/socket") as socket:
            await socket.send_str("leave")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "enough")
        await proxied.idle()

    @pytest.mark.parametrize(
        ("status", "path", "words"),
        [("stopped", "/socket", "not running"), ("running", "/x", "refused the websocket"), ("running", "", "refused")],
    )
    async def test_one_that_can_not_be_passed_on_closes_with_the_reason(
        self, proxied: Proxied, status: Any, path: str, words: str
    ) -> None:
        proxied.fake.become("one", status)
        async with proxied.server.session.ws_connect(f"{proxied.server.base_url}{PREFIX}{path}") as socket:
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
            assert words in str(message.extra)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"/api/v1/instances/one%2Fproxy/x", "one"), (b"/api/v1/instances/two/proxy/x", "one"), (b"/other", "one"),
        (b"/api/v1/instances/one/prox/x", "one"),
    ],
)  # fmt: skip
def test_a_raw_path_that_means_something_else_is_not_passed(raw: bytes, name: str) -> None:
    with pytest.raises(NotFound, match="proxy"):
        target(raw, b"", name)


def test_a_prefix_in_another_spelling_is_the_same() -> None:
    assert target(b"//api/v1//instances/o%6Ee/pro%78y//a", b"", "one") == "//a"


@pytest.mark.parametrize("path", ["é".encode(), b"\x01", b"a b", b"#x"])
def test_bytes_that_no_url_holds_are_refused(path: bytes) -> None:
    with pytest.raises(BadRequest, match="percent-encoded"):
        target(b"/api/v1/instances/one/proxy/" + path, b"", "one")
