"""The websocket of the older API: its three kinds of messages, and clients that do not read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from paddock_llama_server.spec import Change, Spec
from paddock_llama_server.testing import FakePlugin
from paddock_llama_server.updates import Mailbox, update

from paddock.testing.server import RunningServer, running_server


class Listening:
    """A server whose one instance plays, and how to listen to it."""

    def __init__(self, server: RunningServer, plugin: FakePlugin) -> None:
        self.server = server
        self.fake = plugin.instances

    def socket(self) -> Any:
        return self.server.session.ws_connect(f"{self.server.base_url}/api/ws")


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> Any:
    """The next message of a kind."""
    async with asyncio.timeout(10):
        while True:
            message = await socket.receive_json()
            assert set(message) == {"type", "timestamp", "data"}
            if message["type"] == kind:
                return message["data"]


@pytest.fixture
def low_disk() -> int:
    return 0


@pytest.fixture
async def listening(tmp_path: Path, low_disk: int) -> AsyncIterator[Listening]:
    plugin = FakePlugin()
    await plugin.instances.create("one", Spec(), start=False)
    settings = {"llama_server": {"stats_interval": 0.1, "low_disk_bytes": low_disk}}
    async with running_server(
        tmp_path / "data", plugins={"llama-server": plugin}, settings=settings, installed=False
    ) as server:
        yield Listening(server, plugin)


async def test_a_change_of_status_is_told_with_the_one_before(listening: Listening) -> None:
    listening.fake.become("one", "running")
    async with listening.socket() as socket:
        await until(socket, "instance_stats_updated")  # from here on it listens
        listening.fake.become("one", "stopping")
        expected = {"name": "one", "status": "stopping", "previous_status": "running"}
        assert await until(socket, "instance_status_changed") == expected
        await listening.fake.delete("one")
        assert (await until(socket, "instance_status_changed"))["status"] == "deleted"


async def test_figures_of_running_instances_come_at_once_and_again(listening: Listening) -> None:
    listening.fake.become("one", "running")
    async with listening.socket() as socket:
        for _ in range(2):
            expected = {"name": "one", "memory_usage": 1000, "cpu_usage": 1.5, "uptime": 0}
            assert await until(socket, "instance_stats_updated") == expected


@pytest.mark.parametrize("code", ["crash_loop", "out_of_memory"])
async def test_an_alert_of_an_instance_is_told(listening: Listening, code: str) -> None:
    listening.fake.become("one", "running")
    async with listening.socket() as socket:
        await until(socket, "instance_stats_updated")
        listening.fake.tell(Change(kind="alert", time=time.time(), name="one", code=code, message="why"))
        assert await until(socket, "system_alert") == {"code": code, "name": "one", "message": "why"}


@pytest.mark.parametrize("low_disk", [2**62])
async def test_a_low_disk_is_told_once(listening: Listening) -> None:
    listening.fake.become("one", "running")
    async with listening.socket() as socket:
        assert (await until(socket, "system_alert"))["code"] == "low_disk"
        kinds = [(await socket.receive_json())["type"] for _ in range(3)]
        assert kinds == ["instance_stats_updated"] * 3


async def test_what_a_client_says_changes_nothing_and_its_leaving_ends_the_work(listening: Listening) -> None:
    listening.fake.become("one", "running")
    async with listening.socket() as socket:
        await socket.send_str("hello")
        await until(socket, "instance_stats_updated")
    await asyncio.wait_for(listening.fake.reader_left.wait(), 10)


async def test_a_slow_reader_loses_the_oldest_and_is_told_how_many() -> None:
    box = Mailbox(limit=3)
    for number in range(10):
        box.put(update("system_alert", {"n": number}))
    assert (await box.get()).data["count"] == 7
    assert [(await box.get()).data["n"] for _ in range(3)] == [7, 8, 9]
    waiting = asyncio.ensure_future(box.get())
    box.put(update("system_alert", {"n": 10}))
    assert (await waiting).data == {"n": 10}
