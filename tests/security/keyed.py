"""A server with keys, a plugin whose endpoints run until they are told, and short forms to ask with any credential."""

# mypy: disable-error-code="empty-body"

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from paddock.contracts.base import Context, Endpoint, RawRequest, Reply, Socket, Upload, endpoint, hookimpl
from paddock.logs import Log
from paddock.settings import Log as LogSettings
from paddock.testing.server import Answered, RunningServer, running_server

MANAGE, INFER = "m-key-of-the-settings", "i-key-of-the-settings"
PASSWORD = "a password of the settings"
KEYS = "/api/v1/auth/keys"
UNLIMITED = {"requests_per_minute": 0, "expensive_per_minute": 0}
BOUND = 20  # seconds that nothing here may take


@endpoint("GET", "/k/stream", access="infer", kind="reply")
def k_stream(ctx: Context) -> Awaitable[Reply]:
    """Stream one event and wait."""


@endpoint("POST", "/k/whole", access="infer")
def k_whole(ctx: Context, data: dict[str, Any]) -> Awaitable[str]:
    """Wait, and never answer."""


@endpoint("GET", "/k/look", access="read")
def k_look(ctx: Context) -> Awaitable[str]:
    """Answer when the test says so."""


@endpoint("POST", "/k/upload", access="write", kind="upload")
def k_upload(ctx: Context, data: Upload) -> Awaitable[int]:
    """Count bytes."""


@endpoint("*", "/k/proxy/{rest:path}", access="manage", kind="proxy")
def k_proxy(ctx: Context, data: RawRequest) -> Awaitable[Reply]:
    """Wait, and never answer."""


@endpoint("GET", "/k/socket", access="read", kind="websocket")
def k_socket(ctx: Context, data: Socket) -> Awaitable[None]:
    """Say who it is and echo."""


@endpoint("GET", "/k/late", access="manage", kind="websocket", late_credential=True)
def k_late(ctx: Context, data: Socket) -> Awaitable[None]:
    """Say who it is and echo."""


class Waiting:
    """The implementations. `begun` is set by each call, `ended` when one was ended from outside."""

    paddock_contracts = (sys.modules[__name__],)

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = asyncio.Event()
        self.go_on = asyncio.Event()

    async def _for_ever(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    @hookimpl
    async def k_stream(self) -> Reply:
        return Reply(body=self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        await self._for_ever()

    @hookimpl
    async def k_whole(self) -> str:
        await self._for_ever()
        return ""

    @hookimpl
    async def k_look(self) -> str:
        self.begun.set()
        await self.go_on.wait()
        return "seen"

    @hookimpl
    async def k_upload(self, data: Upload) -> int:
        size = 0
        try:
            async for part in data:
                async for piece in part:
                    size += len(piece)
                    self.begun.set()
        except BaseException:
            self.ended.set()
            raise
        return size

    @hookimpl
    async def k_proxy(self, data: RawRequest) -> Reply:
        await self._for_ever()
        return Reply(body=b"")

    @hookimpl
    async def k_socket(self, ctx: Context, data: Socket) -> None:
        await self._echo(ctx, data)

    @hookimpl
    async def k_late(self, ctx: Context, data: Socket) -> None:
        await self._echo(ctx, data)

    async def _echo(self, ctx: Context, data: Socket) -> None:
        try:
            await data.send(ctx.caller.label)
            while (message := await data.receive()) is not None:
                await data.send(message)
        finally:
            self.ended.set()


class Keyed:
    """The running server; `log` is what it wrote so far."""

    def __init__(self, server: RunningServer, waiting: Waiting, out: io.StringIO) -> None:
        self.server = server
        self.waiting = waiting
        self._out = out

    def log(self) -> str:
        """Every line of the log; the server writes no more."""
        self.server.app.log.close()
        return self._out.getvalue()

    async def ask(self, key: str | None, method: str, path: str, body: Any = None, **given: Any) -> Answered:
        """Ask with a key in the Authorization header."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await self.server.ask(method, path, body, headers={**headers, **given.pop("headers", {})}, **given)

    async def make(self, by: str | None = MANAGE, **body: Any) -> dict[str, Any]:
        """Make a key; returns the reply's body with the key."""
        reply = await self.ask(by, "POST", KEYS, {"name": "made", **body})
        assert reply.status == 201, reply.body
        found: dict[str, Any] = reply.json()
        return found

    async def revoke(self, key_id: str, by: str = MANAGE) -> None:
        """Revoke a key."""
        reply = await self.ask(by, "DELETE", f"{KEYS}/{key_id}")
        assert reply.status == 204, reply.body

    async def login(self, password: str = PASSWORD, user: str = "admin") -> Answered:
        """Exchange a password for a token."""
        return await self.ask(None, "POST", "/api/auth/login", {"username": user, "password": password})

    async def token(self) -> str:
        """A good token of the admin's."""
        reply = await self.login()
        assert reply.status == 200, reply.body
        return str(reply.json()["token"])

    def socket(self, path: str, key: str | None = None, **given: Any) -> Any:
        """Open a websocket, with a key in the Authorization header."""
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.server.session.ws_connect(self.server.base_url + path, headers=headers, **given)


KeyedMaker = Callable[..., Any]


@asynccontextmanager
async def keyed_server(folder: Path, **settings: Mapping[str, Any]) -> AsyncIterator[Keyed]:
    """A server with a management key, an inference key and a password, unless the settings say otherwise."""
    auth = {"management_keys": [MANAGE], "inference_keys": [INFER], "admin_password": PASSWORD}
    given: dict[str, Any] = {"auth": auth, "rate_limit": UNLIMITED, **settings}
    waiting, out = Waiting(), io.StringIO()
    log = Log(LogSettings(level="debug", format="json"), out)
    async with running_server(folder, plugins={"waiting": waiting}, settings=given, log=log) as server:
        yield Keyed(server, waiting, out)


def path_of(item: Endpoint) -> str:
    """A path of an endpoint: every parameter is x."""
    return re.sub(r"{(\w+)(:path)?}", "x", item.path)


async def refused(opening: Any) -> int:
    """The status with which a handshake is refused."""
    try:
        async with opening:
            raise AssertionError("it was accepted")
    except aiohttp.WSServerHandshakeError as error:
        return error.status
