"""A large upload is written to disk as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import psutil

MIB = 1024 * 1024
SIZE = 200


async def test_an_upload_does_not_grow_memory(farm: Any) -> None:
    process = psutil.Process()
    most = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal most
        piece = bytes(MIB)
        for number in range(SIZE):
            most = max(most, process.memory_info().rss)
            yield number.to_bytes(4, "big") + piece[4:]

    await farm.upload("warm-up.txt", "x")
    before = process.memory_info().rss
    body = aiohttp.MultipartWriter("form-data")
    part = body.append(pieces(), {"Content-Type": "text/plain"})
    part.set_content_disposition("form-data", name="file", filename="large.txt")
    reply = (await farm.ask("POST", "/datasets/d/data", data=body)).json()
    assert farm.server.app.core.blobs.path(reply["hash"]).stat().st_size == SIZE * MIB
    assert most - before < 40 * MIB
