"""A key or token that ends: everything that runs under it stops at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.security.keyed import BOUND, Keyed


async def ended_by_revoking(keyed: Keyed, made: dict[str, Any]) -> None:
    await asyncio.wait_for(keyed.waiting.begun.wait(), BOUND)
    await keyed.revoke(made["id"])
    await asyncio.wait_for(keyed.waiting.ended.wait(), BOUND)


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_with_its_key(keyed: Keyed, how: str) -> None:
    expires: dict[str, Any] = {"expires_at": time.time() + 0.5} if how == "expired" else {}
    made = await keyed.make(scopes={"verbs": ["infer"]}, **expires)
    headers = {"Authorization": f"Bearer {made['key']}"}
    async with (
        asyncio.timeout(BOUND),
        keyed.server.session.get(keyed.server.base_url + "/k/stream", headers=headers) as reply,
    ):
        assert await reply.content.readline() == b"data: 1\n"
        if how == "revoked":
            await ended_by_revoking(keyed, made)
        rest = await reply.content.read()
    assert b"revoked or has expired" in rest
    assert keyed.waiting.ended.is_set()


@pytest.mark.parametrize("path", ["/k/whole", "/k/proxy/x"])
async def test_a_whole_reply_that_is_waited_for_ends_with_its_key(keyed: Keyed, path: str) -> None:
    made = await keyed.make(kind="management")
    waiting = asyncio.ensure_future(keyed.ask(made["key"], "POST", path, {}))
    await ended_by_revoking(keyed, made)
    reply = await asyncio.wait_for(waiting, BOUND)
    assert reply.status == 401
    assert b"revoked" in reply.body


async def test_what_was_looked_up_is_not_told_to_a_key_that_ended_meanwhile(keyed: Keyed) -> None:
    made = await keyed.make(scopes={"verbs": ["read"]})
    waiting = asyncio.ensure_future(keyed.ask(made["key"], "GET", "/k/look"))
    await asyncio.wait_for(keyed.waiting.begun.wait(), BOUND)
    await keyed.revoke(made["id"])
    keyed.waiting.go_on.set()
    reply = await asyncio.wait_for(waiting, BOUND)
    assert (reply.status, b"seen" in reply.body) == (401, False)


async def test_an_upload_on_its_way_ends_with_its_key(keyed: Keyed) -> None:
    made = await keyed.make(scopes={"verbs": ["write"]})
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 200_000
        await held.wait()

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    sending = asyncio.ensure_future(keyed.ask(made["key"], "POST", "/k/upload", data=body(), headers=headers))
    await ended_by_revoking(keyed, made)
    reply = await asyncio.wait_for(sending, BOUND)
    held.set()
    assert reply.status == 401


@pytest.mark.parametrize("path", ["/k/socket", "/k/late"])
async def test_a_websocket_is_closed_with_its_key(keyed: Keyed, path: str) -> None:
    made = await keyed.make(kind="management")
    async with asyncio.timeout(BOUND), keyed.socket(path, made["key"]) as socket:
        assert await socket.receive_str() == f"key {made['prefix']}"
        await keyed.revoke(made["id"])
        message = await socket.receive()
        assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert "revoked" in str(message.extra)
    assert keyed.waiting.ended.is_set()


async def test_other_keys_streams_and_sockets_go_on(keyed: Keyed) -> None:
    made, other = await keyed.make(kind="management"), await keyed.make(kind="management")
    async with asyncio.timeout(BOUND), keyed.socket("/k/socket", other["key"]) as socket:
        await socket.receive_str()
        await keyed.revoke(made["id"])
        await socket.send_str("still here")
        assert await socket.receive_str() == "still here"
