"""The wire at its edges: bodies that are refused while they arrive, sockets and streams at a shutdown, clients that leave."""

# mypy: disable-error-code="empty-body"

import asyncio
import http.client
import io
import json
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from paddock.access import Gatekeeper
from paddock.contracts.base import Context, Download, RawRequest, Reply, Socket, Upload, endpoint, hookimpl
from paddock.errors import ModelNotFound
from paddock.gate import Gate, host_name, same_origin
from paddock.limits import RateLimits
from paddock.logs import Log
from paddock.meter import Meter
from paddock.replies import api_of
from paddock.settings import Auth, RateLimit, Server
from paddock.settings import Log as LogSettings
from paddock.streams import ClientGone, Hold, Message, Streamed, Streaming, while_client_stays
from paddock.testing.server import RunningServer, running_server


class Question(msgspec.Struct, kw_only=True):
    """Optional things of a query."""

    text: str | None = None
    flag: bool | None = None


@endpoint("GET", "/w/query", access="read")
def w_query(ctx: Context, params: Question) -> Awaitable[dict[str, Any]]:
    """Echo the query."""


@endpoint("POST", "/w/upload", access="write", kind="upload", body_limit=0)
def w_upload(ctx: Context, data: Upload) -> Awaitable[int]:
    """Count the bytes of all files, without a limit."""


@endpoint("POST", "/w/refuse", access="write", kind="upload", body_limit=0)
def w_refuse(ctx: Context, data: Upload) -> Awaitable[int]:
    """Refuse before a byte of the body is read."""


@endpoint("GET", "/w/endless", access="read", kind="reply")
def w_endless(ctx: Context) -> Awaitable[Reply]:
    """Stream for ever."""


@endpoint("GET", "/w/file", access="read", kind="download")
def w_file(ctx: Context) -> Awaitable[Download]:
    """Send a file."""


@endpoint("GET", "/w/socket", access="read", kind="websocket")
def w_socket(ctx: Context, data: Socket) -> Awaitable[None]:
    """Wait for messages; 'crash' and 'refuse' end badly."""


@endpoint("*", "/w/proxy/{rest:path}", access="manage", kind="proxy")
def w_proxy(ctx: Context, data: RawRequest) -> Awaitable[Reply]:
    """Pass on."""


class Wire:
    """The implementations."""

    paddock_contracts = (sys.modules[__name__],)

    def __init__(self, file: Path) -> None:
        self.file = file

    @hookimpl
    async def w_query(self, params: Question) -> dict[str, Any]:
        return {"text": params.text, "flag": params.flag}

    @hookimpl
    async def w_upload(self, data: Upload) -> int:
        return sum([len(piece) async for part in data async for piece in part])

    @hookimpl
    async def w_refuse(self, data: Upload) -> int:
        raise ModelNotFound("there is no such thing")

    @hookimpl
    async def w_endless(self) -> Reply:
        async def events() -> AsyncIterator[bytes]:
            while True:
                yield b"data: 1\n\n"
                await asyncio.sleep(0)

        return Reply(body=events(), media_type="text/event-stream")

    @hookimpl
    async def w_file(self) -> Download:
        return Download(path=self.file, filename="f")

    @hookimpl
    async def w_socket(self, data: Socket) -> None:
        while (message := await data.receive()) is not None:
            if message == "crash":
                raise KeyError("our bug")
            if message == "refuse":
                raise ModelNotFound("there is no such thing")
        assert await data.receive() is None


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1_000_000)
    return Wire(file)


@pytest.fixture
async def server(tmp_path: Path, wire: Wire) -> AsyncIterator[RunningServer]:
    settings = {"server": {"max_body_bytes": 1000, "allowed_origins": ["http://app.example"]}}
    async with running_server(tmp_path / "data", plugins={"wire": wire}, settings=settings, installed=False) as running:
        yield running


async def test_an_endpoint_without_a_limit_takes_more_than_the_setting(server: RunningServer) -> None:
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(b"x" * 3_000_000), filename="a")
    assert (await server.ask("POST", "/w/upload", data=form)).json() == 3_000_000


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("text=%C3%A9", {"text": "é", "flag": None}),
        ("text=é", {"text": "é", "flag": None}),
        ("text=", {"text": "", "flag": None}),
        ("text=a+b&flag=true", {"text": "a b", "flag": True}),
        ("flag=1", {"text": None, "flag": True}),
        ("flag=False", {"text": None, "flag": False}),
        ("text=null", {"text": "null", "flag": None}),
    ],
)
async def test_a_query_is_understood_however_it_is_encoded(
    server: RunningServer, query: str, found: dict[str, Any]
) -> None:
    host, port = server.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /w/query?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    reply = await reader.read()
    writer.close()
    assert json.loads(reply.rpartition(b"\r\n\r\n")[2]) == found


@pytest.mark.parametrize(("path", "status"), [("/w/refuse", 404), ("/w/nowhere", 404), ("/v1/projects/x", 413)])
async def test_a_client_that_still_sends_gets_the_refusal(server: RunningServer, path: str, status: int) -> None:
    host = server.base_url.removeprefix("http://")

    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1_000_000

    def send() -> int:
        connection = http.client.HTTPConnection(host, timeout=20)
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "100000000"}
        connection.request("POST", path, body=pieces(), headers=headers)
        reply = connection.getresponse()
        reply.read()
        connection.close()
        return reply.status

    assert await asyncio.to_thread(send) == status


async def test_all_plain_fields_of_a_form_together_are_bounded(server: RunningServer) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n' + b"x" * 300_000 + b"\r\n"
    body = b"".join(part.replace(b"%d", b"%d" % number) for number in range(5)) + b"--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert (await server.ask("POST", "/w/upload", data=io.BytesIO(body), headers=headers)).status == 413


async def test_head_answers_at_once_and_without_a_body(server: RunningServer) -> None:
    reply = await asyncio.wait_for(server.ask("HEAD", "/w/endless"), 10)
    assert (reply.status, reply.body) == (200, b"")
    reply = await server.ask("HEAD", "/w/file")
    assert (reply.headers["content-length"], reply.body) == ("1000000", b"")
    reply = await server.ask("HEAD", "/info")
    assert int(reply.headers["content-length"]) > 0


async def test_a_shutdown_ends_open_websockets(tmp_path: Path, wire: Wire) -> None:
    settings = {"server": {"shutdown_grace": 30}}
    async with running_server(tmp_path / "d", plugins={"wire": wire}, settings=settings, installed=False) as server:
        socket = await server.session.ws_connect(server.base_url + "/w/socket")
        server.app.stop()
        message = await asyncio.wait_for(socket.receive(), 10)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await socket.close()


@pytest.mark.parametrize(("say", "code", "reason"), [("crash", 1011, "internal error"), ("refuse", 1011, "no such")])
async def test_a_websocket_that_fails_says_why(server: RunningServer, say: str, code: int, reason: str) -> None:
    socket = await server.session.ws_connect(server.base_url + "/w/socket")
    await socket.send_str(say)
    message = await asyncio.wait_for(socket.receive(), 10)
    assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, code)
    assert reason in str(message.extra)
    await socket.close()


async def test_a_websocket_without_a_key_is_refused(tmp_path: Path, wire: Wire) -> None:
    settings = {"auth": {"management_keys": ["k"]}}
    async with running_server(tmp_path / "d", plugins={"wire": wire}, settings=settings, installed=False) as server:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await server.session.ws_connect(server.base_url + "/w/socket")
        socket = await server.session.ws_connect(server.base_url + "/w/socket", headers={"X-API-Key": "k"})
        await socket.close()


async def test_a_preflight_is_answered_for_an_allowed_page_only(server: RunningServer) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-stainless-os"}
    reply = await server.ask("OPTIONS", "/v1/projects/x", headers={"Origin": "http://app.example", **ask})
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == "http://app.example"
    assert reply.headers["access-control-allow-headers"] == "content-type,x-stainless-os"
    assert "DELETE" in reply.headers["access-control-allow-methods"]
    assert reply.headers["vary"] == "Origin"
    reply = await server.ask("OPTIONS", "/v1/projects/x", headers={"Origin": "http://other.example", **ask})
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]
    assert reply.headers["vary"] == "Origin"


async def test_options_that_is_no_preflight_reaches_the_routes(server: RunningServer) -> None:
    reply = await server.ask("OPTIONS", "/info", headers={"Origin": "http://app.example"})
    assert "GET" in reply.headers["allow"]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("localhost:8000", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("[::1]:8000", "::1"),
        ("[::1]", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("", ""),
        (":80", ""),
        ("[", ""),
    ],
)
def test_the_name_in_a_host_header(value: str, name: str) -> None:
    assert host_name(value) == name


def test_a_page_without_an_origin_is_nobodys() -> None:
    assert not same_origin("null", "")
    assert not same_origin("null", "localhost")
    assert same_origin("http://localhost:8000", "localhost:8000")


@pytest.mark.parametrize(
    ("path", "api"),
    [("/api/v1/x", "llamactl"), ("/api", "llamactl-old"), ("/api/v12", "llamactl-old"), ("/apiary", "llamafarm")],
)
def test_an_unknown_path_belongs_to_the_api_it_stands_in(path: str, api: str) -> None:
    assert api_of(path) == api


async def test_a_request_that_crashes_after_its_reply_began_is_logged() -> None:
    async def crashing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    async def send(_: Message) -> None:
        return

    out = io.StringIO()
    log = Log(LogSettings(format="json"), out)
    gate = Gate(crashing, Server(), log, Meter(), RateLimits(RateLimit(), Gatekeeper(Auth())))
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"localhost")]}
    with pytest.raises(KeyError):
        await gate(scope, send, send)  # type: ignore[arg-type]  # nothing is received
    log.close()
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["crash", "request"]


async def test_the_api_document_declares_every_parameter_of_every_path(server: RunningServer) -> None:
    document = (await server.ask("GET", "/openapi.json")).json()
    assert "/w/proxy/{rest}" in document["paths"]
    for path, operations in document["paths"].items():
        names = set(re.findall(r"{([^}]*)}", path))
        for operation in operations.values():
            declared = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
            assert declared == names, path
    reply = document["paths"]["/w/upload"]["post"]["responses"]["200"]
    assert reply["content"]["application/json"]["schema"] == {"type": "integer"}


async def left() -> Message:
    """A client that is gone."""
    return {"type": "http.disconnect"}


async def staying() -> Message:
    """A client that waits."""
    await asyncio.Event().wait()
    raise AssertionError


async def test_what_goes_wrong_while_a_left_clients_work_is_cancelled_is_not_lost() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("in the end")

    with pytest.raises(KeyError):
        await while_client_stays(stubborn(), left, Hold(Streaming(Meter())))


async def test_a_cancellation_from_outside_is_not_swallowed() -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            ended.append(1)
            raise

    waiting = asyncio.ensure_future(while_client_stays(slow(), staying, Hold(Streaming(Meter()))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == [1]
    with pytest.raises(ClientGone):
        await while_client_stays(slow(), left, Hold(Streaming(Meter())))


async def test_a_stream_is_closed_also_when_its_end_fails() -> None:
    closed = []

    class Rest:
        def __aiter__(self) -> "Rest":
            return self

        async def __anext__(self) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                raise KeyError("in the end")
            raise AssertionError

        async def aclose(self) -> None:
            closed.append(1)

    async def send(_: Message) -> None:
        return

    streamed = Streamed(Reply(body=b""), b"first", Rest(), Hold(Streaming(Meter())))
    before = asyncio.all_tasks()
    with pytest.raises(KeyError):
        await streamed({"method": "GET"}, left, send)
    assert closed == [1]
    assert asyncio.all_tasks() == before
