"""A server that is killed in the middle of a fit does it at its next start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp

from paddock.testing.process import server_process

ROWS = [[float(at % 17), float(at % 5)] for at in range(300)]
SLOW = {"model": "m", "backend": "autoencoder", "data": ROWS, "epochs": 20, "batch_size": 1}
LONG = {"PADDOCK_ANOMALY__DURABLE_ABOVE": "1"}  # every fit is a long one


async def test_a_fit_that_was_killed_is_done_at_the_next_start(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with server_process(tmp_path, **LONG) as server:
            work = asyncio.ensure_future(http.post(f"{server.url}/v1/anomaly/fit", json=SLOW))
            await server.until("fit_noted")
            server.process.kill()
            assert isinstance((await asyncio.gather(work, return_exceptions=True))[0], aiohttp.ClientError)
        assert not (tmp_path / "models/anomaly/m/autoencoder/model.json").exists()
        async with server_process(tmp_path, **LONG) as server:
            await server.until("fit_resumed")
            reply = await http.post(
                f"{server.url}/v1/anomaly/score", json={"model": "m", "data": [[1, 1], [900, -900]]}
            )
            found = (await reply.json())["data"]
            assert [row["is_anomaly"] for row in found] == [False, True]
