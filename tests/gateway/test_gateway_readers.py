"""A client that reads nothing is cut after a while; one that waits for its model is not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import pytest

from paddock.testing.upstream import Plan
from tests.gateway.conftest import BODIES, LONG, Gate


@pytest.fixture
def other_settings() -> Mapping[str, Any]:
    return {"server": {"write_timeout": 0.4}}


async def connected(gate: Gate) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a stream was asked for; its reader takes a thousand bytes and no more."""
    url = urlsplit(gate.server.base_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1000)
    body = json.dumps({**BODIES["chat/completions"], "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.write(head + body)
    return reader, writer


async def test_a_client_that_does_not_read_its_stream_is_cut(gate: Gate) -> None:
    gate.one.plan = Plan(texts=["x" * 100_000] * 2000)
    async with asyncio.timeout(LONG):
        reader, writer = await connected(gate)
        request = await gate.one.request()
        await request.gone.wait()
        assert (await gate.event())["status"] == "failed"
        assert gate.server.app.core.meter.open_streams == 0
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(300_000_000)
        writer.close()


async def test_one_that_reads_slowly_but_reads_is_not(gate: Gate) -> None:
    gate.one.plan = Plan(texts=["x" * 100_000] * 60)
    async with asyncio.timeout(LONG):
        reader, writer = await connected(gate)
        await gate.one.request()
        size, text = 0, b""
        while b"[DONE]" not in text:
            piece = await reader.read(50_000)
            assert piece
            text = (text + piece)[-100:]
            size += len(piece)
            await asyncio.sleep(0.01 if size < 3_000_000 else 0)  # a slow reader: more than 0.6 s in all
        writer.close()
    assert size > 6_000_000


async def test_one_whose_model_takes_its_time_is_not(gate: Gate) -> None:
    gate.one.plan = Plan(texts=["a", "b"], between=1)
    assert b"[DONE]" in (await gate.chat(stream=True)).body
