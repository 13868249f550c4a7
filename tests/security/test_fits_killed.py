"""What becomes of a fit when its client leaves, the server is stopped, or killed in the middle of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest

from paddock.testing.process import ServerProcess, server_process

ROWS = [[float(at % 17), float(at % 5)] for at in range(300)]
QUICK = {"model": "n", "backend": "one_class_svm", "epochs": None, "batch_size": None}
SLOW = {"model": "m", "backend": "autoencoder", "data": ROWS, "epochs": 8, "batch_size": 1}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def fit(http: aiohttp.ClientSession, server: ServerProcess, **given: Any) -> asyncio.Task[tuple[int, Any]]:
    """Ask for a slow fit."""

    async def ask() -> tuple[int, Any]:
        async with http.post(f"{server.url}/v1/anomaly/fit", json={**SLOW, **given}) as reply:
            return reply.status, await reply.json()

    return asyncio.ensure_future(ask())


async def listed(http: aiohttp.ClientSession, server: ServerProcess) -> Any:
    async with http.get(f"{server.url}/v1/anomaly/models") as reply:
        return await reply.json()


async def flags(http: aiohttp.ClientSession, server: ServerProcess) -> list[bool]:
    """Whether an ordinary row and a strange one are anomalies for the model m."""
    body = {"model": "m", "data": [[1, 1], [900, -900]]}
    async with http.post(f"{server.url}/v1/anomaly/score", json=body) as reply:
        return [row["is_anomaly"] for row in (await reply.json())["data"]]


async def test_a_fit_that_was_killed_is_done_at_the_next_start(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        work = fit(http, server)
        await server.until("fit_noted")
        server.process.kill()
        assert isinstance((await asyncio.gather(work, return_exceptions=True))[0], aiohttp.ClientError)
    assert not (tmp_path / "models/anomaly/m/autoencoder/model.json").exists()
    async with server_process(tmp_path) as server:
        await server.until("fit_resumed")
        assert await flags(http, server) == [False, True]


async def test_a_fit_that_a_stop_cut_short_is_done_at_the_next_start(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with server_process(tmp_path) as server:
        works = [fit(http, server), fit(http, server, **QUICK)]
        for _ in works:
            await server.until("fit_noted")
        server.process.terminate()
        for status, reply in await asyncio.gather(*works):
            assert (status, "is done when it is back" in reply["detail"]) == (503, True)
        await server.process.wait()
    assert server.process.returncode == 0
    async with server_process(tmp_path) as server:
        assert {(await server.until("fit_resumed"))["model"] for _ in works} == {"m", "n"}
        assert await flags(http, server) == [False, True]
        assert (await listed(http, server))["fitting"] == []


async def test_a_fit_whose_client_left_goes_on_and_is_done_once(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        work = fit(http, server)
        await server.until("fit_noted")
        work.cancel()
        (left,) = (await listed(http, server))["fitting"]
        assert (left["model"], left["backend"], left["samples"]) == ("m", "autoencoder", 300)
        assert (await fit(http, server, **QUICK))[0] == 200  # fits run in their order
        assert await flags(http, server) == [False, True]
    with closing(apsw.Connection(str(tmp_path / "state.db"))) as state:
        assert state.execute("SELECT count(*) FROM records WHERE plugin = 'anomaly'").get == 0


async def test_a_fit_that_is_refused_is_told_so_before_its_turn(http: aiohttp.ClientSession, tmp_path: Path) -> None:
    async with server_process(tmp_path) as server:
        work = fit(http, server, epochs=100)
        await server.until("fit_noted")
        status, reply = await fit(http, server, model="bad", data=[[1.0, 2.0], [3.0]])
        assert (status, "data[1] has 1 features instead of 2" in reply["detail"], work.done()) == (400, True, False)
        server.process.kill()
        await asyncio.gather(work, return_exceptions=True)


async def test_many_fits_of_one_name_leave_the_last_and_too_many_are_told_to_wait(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with server_process(tmp_path) as server:
        first = fit(http, server, data=ROWS * 4)  # longer than it takes to ask for the others
        await server.until("fit_noted")
        works = [fit(http, server, **{**QUICK, "model": "m"}, data=ROWS[: 100 + at]) for at in range(20)]
        statuses = [status for status, _ in await asyncio.gather(*works)]
        assert (statuses.count(200), statuses.count(429)) == (15, 5)
        assert (await first)[0] == 200
        found = await listed(http, server)
        assert ([item["name"] for item in found["data"]], found["fitting"]) == (["m", "m"], [])
