"""Websockets and streamed bodies to upstreams, against a real server on the loopback."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import WSMsgType, web

from paddock.errors import ProviderUnavailable, UpstreamError, ValidationFailed
from paddock.outgoing import OutgoingClient


class Upstream:
    """A websocket that echoes, and does on command what upstreams do; a path that counts what it is sent."""

    def __init__(self) -> None:
        self.base = ""
        self.left: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.headers: dict[str, str] = {}

    async def socket(self, request: web.Request) -> web.StreamResponse:
        self.headers = dict(request.headers)
        socket = web.WebSocketResponse(protocols=("chat.v2",))
        await socket.prepare(request)
        async for message in socket:
            if message.data == "leave":
                await socket.close(code=4001, message=b"enough")
            elif message.data == "break":
                assert request.transport is not None
                request.transport.abort()
            elif message.data == "flood":
                await socket.send_bytes(bytes(17 * 1024 * 1024))
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            else:
                await socket.send_bytes(message.data)
        if not self.left.done():
            self.left.set_result(socket.close_code)
        return socket

    async def count(self, request: web.Request) -> web.Response:
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        told = request.headers.get("Content-Length") or request.headers.get("Transfer-Encoding")
        return web.Response(text=f"{size} {told}")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    served = Upstream()
    app = web.Application()
    app.router.add_get("/socket", served.socket)
    app.router.add_post("/count", served.count)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    served.base = f"http://{host}:{port}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[OutgoingClient]:
    client = OutgoingClient()
    yield client
    await client.close()


async def test_text_and_bytes_go_both_ways_under_the_protocol_that_the_upstream_chose(
    upstream: Upstream, http: OutgoingClient
) -> None:
    headers = {"Authorization": "Bearer k"}
    url = f"{upstream.base}/socket"
    async with http.websocket(url, headers=headers, protocols=["chat.v1", "chat.v2"], trusted=True) as socket:
        await socket.send("moo")
        await socket.send(b"\x00\xff")
        assert [await socket.receive(), await socket.receive()] == ["moo", b"\x00\xff"]
        assert socket.protocol == "chat.v2"
        await socket.close(4002, "done")
        assert await socket.receive() is None
    assert upstream.headers["Authorization"] == "Bearer k"
    assert await upstream.left == 4002


async def test_an_upstream_that_leaves_says_with_which_code(upstream: Upstream, http: OutgoingClient) -> None:
    async with http.websocket(f"{upstream.base}/socket", trusted=True) as socket:
        await socket.send("leave")
        assert await socket.receive() is None
        assert (socket.close_code, socket.close_reason) == (4001, "enough")
        assert await socket.receive() is None
        await socket.send("nobody hears this")


@pytest.mark.parametrize("command", ["break", "flood"])
async def test_an_upstream_that_breaks_off_is_an_error(upstream: Upstream, http: OutgoingClient, command: str) -> None:
    async with http.websocket(f"{upstream.base}/socket", trusted=True) as socket:
        await socket.send(command)
        with pytest.raises(ProviderUnavailable, match="broke off"):
            await socket.receive()


async def test_leaving_the_context_closes(upstream: Upstream, http: OutgoingClient) -> None:
    async with http.websocket(f"{upstream.base}/socket", trusted=True):
        pass
    assert await upstream.left == 1000


async def test_a_refused_handshake_keeps_its_status(upstream: Upstream, http: OutgoingClient) -> None:
    with pytest.raises(UpstreamError) as raised:
        async with http.websocket(f"{upstream.base}/nothing", trusted=True):
            pass
    assert raised.value.http_status == 404


async def test_the_rule_of_addresses_holds(upstream: Upstream, http: OutgoingClient) -> None:
    with pytest.raises(ValidationFailed, match=r"outgoing\.allow"):
        http.websocket(f"{upstream.base}/socket")
    with pytest.raises(ProviderUnavailable, match="connect"):
        async with http.websocket("http://127.0.0.1:1/x", trusted=True):
            pass


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield b"x" * 1000


async def test_a_body_may_come_in_pieces(upstream: Upstream, http: OutgoingClient) -> None:
    url = f"{upstream.base}/count"
    async with http.send("POST", url, body=pieces(), trusted=True) as reply:
        assert await reply.read() == b"3000 chunked"
    async with http.send("POST", url, body=pieces(), headers={"Content-Length": "3000"}, trusted=True) as reply:
        assert await reply.read() == b"3000 3000"
