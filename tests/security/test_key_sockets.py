"""Keys and tokens of websockets: with the handshake, or late, as a subprotocol or the first message."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest

from paddock.access import Gatekeeper
from paddock.contracts.base import Endpoint, endpoints_of
from paddock.errors import Unauthenticated
from paddock.proxying import WebSocketSession
from paddock.services import CONTRACTS
from paddock.settings import Auth
from paddock.sockets import late_caller
from tests.security import keyed as keyed_contracts
from tests.security.keyed import BOUND, INFER, MANAGE, Keyed, keyed_server, path_of, refused

SOCKETS = [
    item for module in (*CONTRACTS, keyed_contracts) for item in endpoints_of(module) if item.kind == "websocket"
]


@pytest.mark.parametrize("key", [None, "wrong", INFER])
@pytest.mark.parametrize("carrier", ["header", "query"])
async def test_a_websocket_without_a_good_key_is_refused_before_the_handshake(
    keyed: Keyed, key: str | None, carrier: str
) -> None:
    asked = f"?api_key={key}" if carrier == "query" and key else ""
    opening = keyed.socket(f"/k/socket{asked}", key if carrier == "header" else None)
    assert await refused(opening) == 403


@pytest.mark.parametrize("item", SOCKETS, ids=[item.name for item in SOCKETS])
async def test_no_websocket_of_the_table_talks_to_who_may_not(keyed: Keyed, item: Endpoint) -> None:
    path = path_of(item)
    ended = await keyed.make(kind="management")
    await keyed.revoke(ended["id"])
    for key in (INFER, ended["key"], "wrong"):
        assert await refused(keyed.socket(path, key)) == 403
    if not item.late_credential:
        assert await refused(keyed.socket(path)) == 403
        return
    async with asyncio.timeout(BOUND):
        for asked in ("", f"?api_key={MANAGE}"):
            async with keyed.socket(path + asked) as socket:
                await socket.send_json({"type": "auth", "token": "wrong"})
                assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
                assert socket.close_code == 1008


@pytest.mark.parametrize("carrier", ["header", "protocol", "message"])
@pytest.mark.parametrize("path", [item.path for item in SOCKETS if item.late_credential])
async def test_a_websocket_closes_with_the_key_that_opened_it_late(keyed: Keyed, path: str, carrier: str) -> None:
    made = await keyed.make(kind="management")
    header = made["key"] if carrier == "header" else None
    protocols = [f"bearer.{made['key']}"] if carrier == "protocol" else []
    async with asyncio.timeout(BOUND), keyed.socket(path, header, protocols=protocols) as socket:
        if carrier == "message":
            await socket.send_json({"type": "auth", "token": made["key"]})
        while not keyed.server.app.gatekeeper.running(made["id"]):  # noqa: ASYNC110  a moment, until the talk has begun
            await asyncio.sleep(0)
        await keyed.revoke(made["id"])
        while (await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
            continue
        assert socket.close_code == 1008


async def test_a_late_credential_is_a_subprotocol_or_the_first_message_and_never_in_the_query(keyed: Keyed) -> None:
    token = await keyed.token()
    async with asyncio.timeout(BOUND):
        for key, label in ((MANAGE, "key "), (token, "user admin")):
            async with keyed.socket("/k/late", protocols=["paddock", f"bearer.{key}"]) as socket:
                assert socket.protocol == "paddock"
                assert (await socket.receive_str()).startswith(label)
            async with keyed.socket("/k/late") as socket:
                await socket.send_json({"type": "auth", "token": key})
                assert (await socket.receive_str()).startswith(label)
            async with keyed.socket("/k/late", key) as socket:
                assert (await socket.receive_str()).startswith(label)
            async with keyed.socket(f"/k/late?api_key={key}") as socket:
                await socket.send_str("hello")
                assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
                assert socket.close_code == 1008


@pytest.mark.parametrize(
    "first", ["{}", '{"type": "auth", "token": "wrong"}', f'{{"type": "auth", "token": "{INFER}"}}', "\x00"]
)
async def test_a_wrong_first_message_closes_the_websocket(keyed: Keyed, first: str) -> None:
    async with asyncio.timeout(BOUND), keyed.socket("/k/late") as socket:
        await socket.send_str(first)
        message = await socket.receive()
        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
    assert await refused(keyed.socket("/k/late", "wrong")) == 403
    assert await refused(keyed.socket("/k/late", protocols=["bearer.wrong"])) == 403
    assert not keyed.waiting.ended.is_set()


async def test_a_client_that_never_says_who_it_is_is_not_waited_for() -> None:
    class Silent:
        """A client that connects and says nothing."""

        scope: ClassVar = {"path": "/k/late", "query_string": b""}
        accepted = False

        async def accept(self, **_: Any) -> None:
            self.accepted = True

        async def receive(self) -> Any:
            await asyncio.Event().wait()

    client: Any = Silent()
    item = next(one for one in SOCKETS if one.path == "/k/late")
    scope: Any = {"paddock.headers": {}, "path_params": {}}
    with pytest.raises(Unauthenticated, match=r"within 0\.05 seconds"):
        await late_caller(Gatekeeper(Auth(management_keys=(MANAGE,))), item, scope, WebSocketSession(client), 0.05)
    assert client.accepted


async def test_a_websocket_needs_no_credential_where_nobody_does(tmp_path: Path) -> None:
    async with (
        keyed_server(tmp_path / "data", auth={}) as keyed,
        keyed.socket("/k/late", protocols=["paddock"]) as socket,
    ):
        assert socket.protocol == "paddock"
        assert await socket.receive_str() == "anonymous"
