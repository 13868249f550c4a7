"""A start that fails: everything that was opened is closed, and one sentence says what to do."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from paddock.app import App, create_app
from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ItemRunner, TaskQueue, TypeName
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock.plugins import Loaded
from paddock.server import free_port, run
from paddock.settings import load_settings
from paddock.testing.server import running_server


class DeadQueue(TaskQueue):
    """A queue whose broker is down."""

    types = (TypeName("dead"),)
    closed = False

    async def start(self, run: ItemRunner) -> None:
        raise ProviderUnavailable("the broker is down")

    async def submit(self, task_id: str, items: Sequence[int]) -> None:
        raise AssertionError("never started")

    async def stop(self) -> None:
        return

    async def close(self) -> None:
        self.closed = True


class Plugin:
    """Provides the dead queue."""

    def __init__(self) -> None:
        self.queue = DeadQueue()

    @hookimpl
    def paddock_task_queues(self) -> list[TaskQueue]:
        return [self.queue]


def app_in(folder: Path, plugin: object | None = None, **sections: dict[str, Any]) -> App:
    sections["server"] = {"data_dir": str(folder), "port": 0, **sections.get("server", {})}
    settings = load_settings({}, environ={}, overrides={"log": {"level": "error"}, **sections})
    return create_app(settings, [Loaded("mine", "1", plugin)] if plugin else [])


async def test_a_start_that_fails_half_way_closes_all_that_was_opened(tmp_path: Path) -> None:
    plugin = Plugin()
    app = app_in(tmp_path, plugin, tasks={"queue": "dead"})
    with pytest.raises(ProviderUnavailable, match="the broker is down"):
        async with app.lifespan():
            raise AssertionError("it started")
    assert plugin.queue.closed
    assert [one.name for one in threading.enumerate() if one.name.startswith(("write-", "read-", "log"))] == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
    async with running_server(tmp_path, installed=False) as server:  # the folder is free again
        assert (await server.ask("GET", "/info")).status == 200


async def test_a_caller_that_fails_when_the_server_is_ready_stops_the_server(tmp_path: Path) -> None:
    ports = []

    def ready(url: str) -> None:
        ports.append(int(url.rpartition(":")[2]))
        raise KeyError("not today")

    with pytest.raises(KeyError):
        await run(app_in(tmp_path), asyncio.Event(), ready)
    assert free_port("127.0.0.1", ports[0]) == ports[0]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_server_that_is_cancelled_is_stopped(tmp_path: Path) -> None:
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(run(app_in(tmp_path), asyncio.Event(), started.set_result))
    url = await asyncio.wait_for(started, 20)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert free_port("127.0.0.1", int(url.rpartition(":")[2]))
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data-dir", "/dev/null/x"], "/dev/null/x"),
        (["--host", "no-such-host.invalid", "--insecure"], "no-such-host.invalid"),
        (["--host", "192.0.2.1", "--insecure"], "192.0.2.1"),
        (["--config", "/dev/null/x"], "--config"),
        (["--config", "/"], "--config"),
    ],
)
def test_a_start_that_can_not_be_is_one_sentence_and_exit_code_2(
    tmp_path: Path, arguments: list[str], text: str
) -> None:
    given = [*(() if "--data-dir" in arguments else ("--data-dir", str(tmp_path))), *arguments]
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", *given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("paddock: ")
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_damaged_state_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"nonsense" * 1000)
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "restore a backup" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_of_a_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(ValidationFailed, match=r"no-such-host\.invalid"):
        free_port("no-such-host.invalid", 0)
