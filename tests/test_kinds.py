"""Every wire kind, through a plugin that adds endpoints of its own."""

# mypy: disable-error-code="empty-body"

import asyncio
import io
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import msgspec
import pytest
import yarl

from paddock.contracts.base import Context, Download, In, RawRequest, Reply, Socket, Upload, endpoint, hookimpl
from paddock.errors import ModelNotFound, ProviderUnavailable
from paddock.testing.server import RunningServer, running_server


class Params(msgspec.Struct, kw_only=True):
    """Of all three sources."""

    name: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=10)] = 5
    tags: list[str] = []
    session: Annotated[str | None, In("X-Session-ID")] = None


class Body(msgspec.Struct):
    """A body."""

    n: int


@endpoint("POST", "/t/json/{name}", access="write")
def t_json(ctx: Context, params: Params, data: Body) -> Awaitable[dict[str, Any]]:
    """Echo what was understood."""


@endpoint("GET", "/t/text", access="read", kind="text")
def t_text(ctx: Context) -> Awaitable[str]:
    """Return text."""


@endpoint("GET", "/t/stream/{name}", access="read", kind="reply")
def t_stream(ctx: Context, params: Params) -> Awaitable[Reply]:
    """Stream events."""


@endpoint("POST", "/t/upload", access="write", kind="upload")
def t_upload(ctx: Context, data: Upload) -> Awaitable[dict[str, Any]]:
    """Take files."""


@endpoint("GET", "/t/download", access="read", kind="download")
def t_download(ctx: Context) -> Awaitable[Download]:
    """Send a file."""


@endpoint("*", "/t/proxy/{rest:path}", access="manage", kind="proxy")
def t_proxy(ctx: Context, data: RawRequest) -> Awaitable[Reply]:
    """Pass on."""


@endpoint("GET", "/t/socket", access="read", kind="websocket")
def t_socket(ctx: Context, data: Socket) -> Awaitable[None]:
    """Echo messages."""


class RestPath(msgspec.Struct, kw_only=True):
    """A name with slashes."""

    rest: str


@endpoint("GET", "/t/things/{rest:path}", access="infer", api="openai")
def t_thing(ctx: Context, params: RestPath) -> Awaitable[list[str]]:
    """Echo the name."""


@endpoint("GET", "/t/things/{rest:path}/parts", access="manage")
def t_thing_parts(ctx: Context, params: RestPath) -> Awaitable[list[str]]:
    """Echo the name of the thing whose parts are wanted."""


@endpoint("GET", "/t/lonely/{rest:path}/parts", access="manage")
def t_lonely_parts(ctx: Context, params: RestPath) -> Awaitable[list[str]]:
    """Have no sibling without the suffix."""


@endpoint("GET", "/t/nobody", access="read")
def t_nobody(ctx: Context) -> Awaitable[None]:
    """Have no implementation."""


class Kinds:
    """The implementations."""

    paddock_contracts = (sys.modules[__name__],)

    def __init__(self, file: Path) -> None:
        self.file = file
        self.closed = asyncio.Event()

    @hookimpl
    async def t_json(self, ctx: Context, params: Params, data: Body) -> dict[str, Any]:
        return {"params": msgspec.to_builtins(params), "n": data.n}

    @hookimpl
    async def t_thing(self, params: RestPath) -> list[str]:
        if params.rest == "missing":
            raise ModelNotFound("no such thing")
        return ["thing", params.rest]

    @hookimpl
    async def t_thing_parts(self, params: RestPath) -> list[str]:
        if params.rest == "missing":
            raise ModelNotFound("no such thing")
        return ["parts", params.rest]

    @hookimpl
    async def t_lonely_parts(self, params: RestPath) -> list[str]:
        return ["lonely", params.rest]

    @hookimpl
    async def t_text(self) -> str:
        return "héllo"

    @hookimpl
    async def t_stream(self, params: Params) -> Reply:
        return Reply(body=self._events(params.name), media_type="text/event-stream")

    async def _events(self, name: str) -> AsyncIterator[bytes]:
        if name == "missing":
            raise ModelNotFound("no such model")
        try:
            yield b"data: 1\n\n"
            if name == "breaks":
                raise ProviderUnavailable("the upstream broke")
            if name == "endless":
                await asyncio.Event().wait()
        finally:
            self.closed.set()

    @hookimpl
    async def t_upload(self, data: Upload) -> dict[str, Any]:
        parts = [[part.field, part.filename, sum([len(piece) async for piece in part])] async for part in data]
        return {"parts": parts, "fields": data.fields}

    @hookimpl
    async def t_download(self) -> Download:
        return Download(path=self.file, filename='r"é.html', media_type="text/html")

    @hookimpl
    async def t_proxy(self, data: RawRequest) -> Reply:
        body = b"".join([piece async for piece in data])
        return Reply(body=b" ".join((data.method.encode(), data.raw_path, data.query, body)), media_type="text/plain")

    @hookimpl
    async def t_socket(self, data: Socket) -> None:
        await data.accept("echo" if "echo" in data.protocols else None)
        while (message := await data.receive()) is not None:
            await data.send(message)


@pytest.fixture
def kinds(tmp_path: Path) -> Kinds:
    file = tmp_path / "file"
    file.write_bytes(b"<script>" * 1000)
    return Kinds(file)


@pytest.fixture
async def server(tmp_path: Path, kinds: Kinds) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", plugins={"kinds": kinds}, installed=False) as running:
        yield running


async def test_parameters_come_from_path_query_and_headers(server: RunningServer) -> None:
    reply = await server.ask("POST", "/t/json/a?limit=3&tags=x&tags=y", {"n": 1}, headers={"X-Session-ID": "s"})
    assert reply.json() == {"params": {"name": "a", "limit": 3, "tags": ["x", "y"], "session": "s"}, "n": 1}


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/t/json/a?limit=11", b'{"n": 1}', "limit"),
        ("/t/json/a", b'{"n": "1"}', "n"),
        ("/t/json/a", b"{}", "n"),
        ("/t/json/a", b"", "n"),
        ("/t/json/a", b"{bad", "body"),
        ("/t/json/a", b'{"n": 1, "x": ' + b"[" * 100_000, "body"),
        ("/t/json/a", b"\xff", "body"),
    ],
)
async def test_bad_input_is_422_with_field_and_reason(
    server: RunningServer, path: str, body: bytes, field: str
) -> None:
    reply = await server.ask("POST", path, data=body)
    assert reply.status == 422
    assert reply.json()["errors"][0]["field"] == field
    assert reply.json()["errors"][0]["reason"] in reply.json()["detail"]


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/t/things/a", ["thing", "a"]),
        ("/t/things/a/b", ["thing", "a/b"]),
        ("/t/things/a%2Fb", ["thing", "a/b"]),
        ("/t/things/a/b/", ["thing", "a/b"]),
        ("/t/things/a/parts", ["parts", "a"]),
        ("/t/things/a/b/parts/", ["parts", "a/b"]),
        ("/t/things/a%2Fb/parts", ["parts", "a/b"]),
        ("/t/things/a%2Fb%2Fparts", ["parts", "a/b"]),
        ("/t/things/parts", ["thing", "parts"]),
        ("/t/lonely/a/b/parts", ["lonely", "a/b"]),
    ],
)
async def test_a_name_with_slashes_may_have_a_suffix_behind_it(
    server: RunningServer, path: str, answer: list[str]
) -> None:
    url = yarl.URL(server.base_url + path, encoded=True)
    async with server.session.get(url) as reply:
        assert await reply.json() == answer


async def test_the_contract_behind_the_suffix_decides_who_may_ask_and_how_errors_look(
    tmp_path: Path, kinds: Kinds
) -> None:
    keys = {"auth": {"inference_keys": ["i"]}}
    async with running_server(tmp_path / "d", plugins={"kinds": kinds}, settings=keys, installed=False) as server:
        whole, parts = [await server.ask("GET", f"/t/things/missing{end}?api_key=i") for end in ("", "/parts")]
        assert (whole.status, set(whole.json())) == (404, {"error"})
        assert (parts.status, set(parts.json())) == (403, {"detail"})


async def test_a_name_without_its_only_suffix_is_nobodys(server: RunningServer) -> None:
    assert (await server.ask("GET", "/t/lonely/a/b")).status == 404


async def test_text_is_sent_as_utf8(server: RunningServer) -> None:
    reply = await server.ask("GET", "/t/text")
    assert (reply.body.decode(), reply.headers["content-type"]) == ("héllo", "text/plain; charset=utf-8")


async def test_a_stream_that_fails_before_its_first_event_keeps_the_status(server: RunningServer) -> None:
    reply = await server.ask("GET", "/t/stream/missing")
    assert (reply.status, reply.json()) == (404, {"detail": "no such model"})


async def test_a_stream_that_fails_later_ends_with_an_error_event(server: RunningServer, kinds: Kinds) -> None:
    reply = await server.ask("GET", "/t/stream/breaks")
    assert reply.status == 200
    assert reply.body.startswith(b'data: 1\n\ndata: {"error":{"message":"the upstream broke"')
    assert kinds.closed.is_set()


async def test_a_client_that_leaves_closes_the_stream(server: RunningServer, kinds: Kinds) -> None:
    async with server.session.get(server.base_url + "/t/stream/endless") as reply:
        assert await reply.content.readuntil(b"\n\n") == b"data: 1\n\n"
    await asyncio.wait_for(kinds.closed.wait(), 10)


async def test_a_shutdown_ends_open_streams_with_an_error_event(tmp_path: Path, kinds: Kinds) -> None:
    async with running_server(tmp_path / "d", plugins={"kinds": kinds}, installed=False) as server:
        reply = await server.session.get(server.base_url + "/t/stream/endless")
        assert await reply.content.readuntil(b"\n\n") == b"data: 1\n\n"
        server.app.stop()
        assert b"shutting down" in await reply.read()
    assert kinds.closed.is_set()


async def test_a_download_is_an_attachment_that_no_browser_runs(server: RunningServer, kinds: Kinds) -> None:
    reply = await server.ask("GET", "/t/download")
    assert reply.body == kinds.file.read_bytes()
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''r%22%C3%A9.html"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in reply.headers["content-security-policy"]


async def test_a_proxied_request_keeps_its_path_as_it_was_sent(server: RunningServer) -> None:
    host, port = server.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"PUT /t/proxy/a%2Fb//c?x=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"
    )
    reply = await reader.read()
    writer.close()
    assert reply.endswith(b"PUT /t/proxy/a%2Fb//c x=1 hi")


async def test_a_websocket_carries_text_and_bytes(server: RunningServer) -> None:
    async with server.session.ws_connect(server.base_url + "/t/socket") as socket:
        await socket.send_str("hi")
        assert await socket.receive_str() == "hi"
        await socket.send_bytes(b"\x00" * 100_000)
        assert await socket.receive_bytes() == b"\x00" * 100_000


async def test_a_websocket_gets_the_protocol_that_the_endpoint_chooses(server: RunningServer) -> None:
    url = server.base_url + "/t/socket"
    async with server.session.ws_connect(url, protocols=["other", "echo"]) as socket:
        assert socket.protocol == "echo"
    async with server.session.ws_connect(url, protocols=["other"]) as socket:
        assert socket.protocol is None


async def test_a_websocket_of_a_foreign_page_is_refused(server: RunningServer) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await server.session.ws_connect(server.base_url + "/t/socket", headers={"Origin": "http://elsewhere.example"})


async def test_an_endpoint_that_nobody_implements_says_so(server: RunningServer) -> None:
    reply = await server.ask("GET", "/t/nobody")
    assert reply.status == 503
    assert "t_nobody" in reply.json()["detail"]


async def test_an_upload_gives_files_and_fields(server: RunningServer) -> None:
    form = aiohttp.FormData({"note": "n"}, quote_fields=False)
    form.add_field("file", b"x" * 300_000, filename="../a.txt")
    reply = await server.ask("POST", "/t/upload", data=form)
    assert reply.json() == {"parts": [["file", "../a.txt", 300_000]], "fields": {"note": "n"}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x", 422),
        (b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\nhalf', 422),
        (b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\nx\r\n' * 2000 + b"--b--\r\n", 413),
        (b"--b\r\n" + b"X-Y: " + b"z" * 100_000 + b"\r\n\r\n\r\n--b--\r\n", 413),
        (b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + b"x" * 2_000_000 + b"\r\n--b--\r\n", 413),
    ],
)
async def test_a_hostile_multipart_body_is_refused(server: RunningServer, body: bytes, status: int) -> None:
    reply = await server.ask(
        "POST", "/t/upload", data=io.BytesIO(body), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert reply.status == status, reply.body
