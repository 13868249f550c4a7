"""A server that is killed in the middle of a fit does it at its next start."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

ROWS = [[float(at % 17), float(at % 5)] for at in range(300)]
SLOW = {"model": "m", "backend": "autoencoder", "data": ROWS, "epochs": 20, "batch_size": 1}


@asynccontextmanager
async def life(folder: Path) -> AsyncIterator[Process]:
    """One life of a server for which every fit is a long one."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PADDOCK_", "LF_"))}
    env |= {"PADDOCK_ANOMALY__DURABLE_ABOVE": "1", "PADDOCK_LOG__FORMAT": "json"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(folder),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=env, limit=2**24,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(process: Process, event: str) -> Any:
    """The log line of this event."""
    assert process.stdout is not None
    async with asyncio.timeout(120):
        async for line in process.stdout:
            found = json.loads(line)
            if found["event"] == event:
                return found
    raise AssertionError(f"the server ended before {event}")


async def test_a_fit_that_was_killed_is_done_at_the_next_start(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with life(tmp_path) as process:
            url = (await until(process, "serving"))["url"]
            work = asyncio.ensure_future(http.post(f"{url}/v1/anomaly/fit", json=SLOW))
            await until(process, "fit_noted")
            process.kill()
            assert isinstance((await asyncio.gather(work, return_exceptions=True))[0], aiohttp.ClientError)
        assert not (tmp_path / "models/anomaly/m/autoencoder/model.json").exists()
        async with life(tmp_path) as process:
            url = (await until(process, "serving"))["url"]
            await until(process, "fit_resumed")
            reply = await http.post(f"{url}/v1/anomaly/score", json={"model": "m", "data": [[1, 1], [900, -900]]})
            found = (await reply.json())["data"]
            assert [row["is_anomaly"] for row in found] == [False, True]
