"""paddock is killed without warning: nothing that it started lives on, and the next start cleans up and goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from paddock_llama_server import groups, stub
from paddock_llama_server.bench import bench_of, eventually
from paddock_llama_server.rows import lives, me

from paddock.testing.process import ServerProcess, server_process

SLEEPER = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]


@asynccontextmanager
async def server(folder: Path) -> AsyncIterator[ServerProcess]:
    """One life of ``python -m paddock serve`` with the stub."""
    env = {
        "PADDOCK_LLAMA_SERVER__COMMAND": str(folder / "stub"),
        "PADDOCK_LLAMA_SERVER__PORT_FIRST": str(10000 + os.getpid() % 200 * 100),
        "PADDOCK_LLAMA_SERVER__PORT_LAST": "30099",
        "PADDOCK_LLAMA_SERVER__PRELOAD": "no-such-instance",  # warned of, and no reason to start nothing else
    }
    async with server_process(folder / "data", **env) as one:
        yield one


async def ask(http: aiohttp.ClientSession, method: str, url: str, body: Any = None) -> Any:
    async with http.request(method, url, json=body) as reply:
        assert reply.status < 300, await reply.text()
        return await reply.json()


async def running(http: aiohttp.ClientSession, url: str, name: str) -> Any:
    """The instance once it runs."""
    found: Any = None

    async def runs() -> bool:
        nonlocal found
        found = await ask(http, "GET", f"{url}/api/v1/instances/{name}")
        assert found["status"] != "failed", found["last_error"]
        return bool(found["status"] == "running")

    await eventually(runs)
    return found


async def test_kill_9_leaves_no_process_and_no_port_and_the_next_start_goes_on(tmp_path: Path) -> None:
    stub.write_command(tmp_path / "stub")
    models = {
        "plain": stub.write_model(tmp_path / "plain.gguf"),
        "forking": stub.write_model(tmp_path / "forking.gguf", fork=True, fork_away=True, ignore_sigterm=True),
    }
    async with server(tmp_path) as one, aiohttp.ClientSession() as http:
        process, url = one.process, one.url
        for name, path in models.items():
            await ask(http, "POST", f"{url}/api/v1/instances/{name}", {"model": str(path)})
        found = [await running(http, url, name) for name in models]
        started = await asyncio.to_thread(groups.environment_values, "PADDOCK_OWNER")
        ours = {pid for pid, values in started.items() if values["PADDOCK_OWNER"].startswith(f"{process.pid}:")}
        assert len(ours) == 4  # two stubs, a grandchild in the group, one that left it
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with asyncio.timeout(2):
            await eventually(lambda: all(is_dead(pid) for pid in ours))
        assert all(not groups.listening(one["port"]) for one in found)
    async with server(tmp_path) as one, aiohttp.ClientSession() as http:
        url = one.url
        for name, before in zip(models, found, strict=True):
            assert (await running(http, url, name))["pid"] != before["pid"]


def is_dead(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to notice that it is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_clean_end_of_the_server_stops_its_children(tmp_path: Path) -> None:
    stub.write_command(tmp_path / "stub")
    async with server(tmp_path) as one, aiohttp.ClientSession() as http:
        process, url = one.process, one.url
        await ask(http, "POST", f"{url}/api/v1/instances/a", {"model": str(stub.write_model(tmp_path / "a.gguf"))})
        found = await running(http, url, "a")
        process.terminate()
        assert await process.wait() == 0
        assert groups.members(found["pid"]) == []


class TestLeftovers:
    """Processes that neither the kernel nor the guardian killed, as on systems that have no such signal."""

    def left(self, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(SLEEPER, env=environment, start_new_session=True)

    async def test_a_recorded_process_is_killed_by_number_and_start_time(self, tmp_path: Path) -> None:
        async with bench_of(tmp_path) as first:
            await first.add("a")
        with self.left() as process:
            noted = {
                "pid": process.pid,
                "started": groups.started(process.pid),
                "boot_id": groups.boot_id(),
                "instance": "x",
                "owner": "1:0",
            }
            await first.host.records.put("spawned", "x", noted)
            async with bench_of(tmp_path, host=first.host):
                assert process.wait(5) == -signal.SIGKILL
            assert await first.host.records.all("spawned") == {}

    async def test_a_process_that_only_has_the_number_is_let_be(self, tmp_path: Path) -> None:
        async with bench_of(tmp_path) as first:
            await first.add("a")
        with self.left() as process:
            for name, changed in {
                "start": {"started": "1"},
                "boot": {"boot_id": "other"},
                "owner": {"owner": me()},
            }.items():
                noted = {
                    "pid": process.pid,
                    "started": groups.started(process.pid),
                    "boot_id": groups.boot_id(),
                    "instance": name,
                    "owner": "1:0",
                }
                await first.host.records.put("spawned", name, {**noted, **changed})
            async with bench_of(tmp_path, host=first.host):
                assert process.poll() is None
            process.kill()

    async def test_a_process_with_the_mark_of_an_instance_is_killed_unless_its_paddock_lives(
        self, tmp_path: Path
    ) -> None:
        async with bench_of(tmp_path) as first:
            await first.add("a")
            mark = first.owner("a").row.id
        dead, alive = (self.left(PADDOCK_INSTANCE=mark, PADDOCK_OWNER=owner) for owner in ("1:0", me()))
        with dead, alive:
            async with bench_of(tmp_path, host=first.host):
                assert dead.wait(5) == -signal.SIGKILL
                assert alive.poll() is None
            alive.kill()


def test_this_process_lives_and_another_with_its_number_does_not() -> None:
    assert lives(me())
    assert not lives(f"{os.getpid()}:1")
    assert not lives("")
    assert not lives("x:y")
