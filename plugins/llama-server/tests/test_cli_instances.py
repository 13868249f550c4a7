"""``paddock instances`` and ``paddock logs`` against a real server whose instances play."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from paddock_llama_server.spec import Instance, Spec
from paddock_llama_server.testing import FakeInstances, FakePlugin

from paddock.testing.process import listening_to_interrupts
from paddock.testing.server import running_server
from paddock.testing.shell import Shell as AnyShell


class Quick(FakeInstances):
    """Instances that are ready, or failed, the second time that somebody looks."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.moving: set[str] = set()

    def get(self, name: str) -> Instance:
        found = super().get(name)
        if found.status in ("starting", "restarting", "stopping") and name not in self.moving:
            self.moving.add(name)
            asyncio.get_running_loop().call_soon(self.move, name)
        return found

    def move(self, name: str) -> None:
        found = super().get(name)
        self.moving.discard(name)
        if found.status == "stopping":
            self.become(name, "stopped")
        elif found.status not in ("starting", "restarting"):
            return
        elif self.fails:
            self.become(name, "failed", last_error="no such file\nline 2")
        else:
            self.become(name, "running")


class Shell(AnyShell):
    """With the instances of its server."""

    def __init__(self, url: str, fake: Quick, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(url, capsys)
        self.fake = fake


@pytest.fixture
async def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    plugin, quick = FakePlugin(), Quick()
    plugin.instances = quick
    settings = {"llama_server": {"command": str(tmp_path / "none")}}
    async with running_server(
        tmp_path / "data", plugins={"llama-server": plugin}, settings=settings, installed=False
    ) as server:
        yield Shell(server.base_url, quick, capsys)


async def test_an_instance_is_created_listed_shown_changed_and_deleted(shell: Shell) -> None:
    words = ["--model", "/m.gguf", "--set", "ctx_size=0", "--set", "alias=cow", "--set", 'extra_args=["-x"]']
    assert "one is running." in await shell.good("instances", "create", "one", *words)
    spec = shell.fake.get("one").spec
    assert (spec.options, spec.extra_args) == ({"model": "/m.gguf", "ctx_size": 0, "alias": "cow"}, ("-x",))
    assert "/m.gguf" in await shell.good("instances", "list")
    assert "cow" in await shell.good("instances", "show", "one")
    await shell.good("instances", "update", "one", "--set", "temp=0.5", "--unset", "alias")
    assert shell.fake.get("one").spec.options == {"model": "/m.gguf", "ctx_size": 0, "temp": 0.5}
    assert "Deleted one." in await shell.good("instances", "delete", "one")
    assert await shell.run("instances", "show", "one") == 2
    assert "no instance one" in shell.err


async def test_orders_wait_until_they_are_done_unless_told_otherwise(shell: Shell) -> None:
    await shell.fake.create("one", Spec(), start=False)
    assert "one is running." in await shell.good("instances", "start", "one")
    assert "one is running." in await shell.good("instances", "restart", "one")
    assert "one is stopped." in await shell.good("instances", "stop", "one")
    assert "one is starting." in await shell.good("instances", "start", "one", "--no-wait")


async def test_a_start_that_fails_says_why_and_is_1(shell: Shell) -> None:
    shell.fake.fails = True
    assert await shell.run("instances", "create", "one", "--model", "/m.gguf") == 1
    assert "one is failed." in shell.out
    assert "no such file" in shell.out
    assert "no such file" in await shell.good("instances", "list")


async def test_everything_can_be_json(shell: Shell) -> None:
    made = await shell.json("instances", "create", "one", "--model", "/m.gguf")
    assert made["status"] == "running"
    assert (await shell.json("instances", "list"))[0]["name"] == "one"
    assert (await shell.json("instances", "show", "one"))["options"]["backend_options"] == {"model": "/m.gguf"}
    await shell.fake.write("one", "hello")
    assert await shell.json("logs", "one") == "hello"
    assert await shell.json("instances", "delete", "one") == {"deleted": "one"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("instances", "update", "one"), "nothing to change"), (("instances", "update", "one", "--set", "x"), "NAME=VALUE"),
        (("instances", "create", "two", "--model", "/m", "--set", "ctx_sise=1"), "ctx_sise"),
        (("logs", "none"), "no instance none"),
        (("logs", "../../x"), "nothing is served"), (("logs", "one", "--lines", "-5"), "lines"),
    ],
)  # fmt: skip
async def test_what_can_be_mended_is_2_and_told(shell: Shell, words: tuple[str, ...], said: str) -> None:
    await shell.fake.create("one", Spec(), start=False)
    assert await shell.run(*words) == 2
    assert said in shell.err


async def test_logs_are_the_last_lines_without_terminal_escapes(shell: Shell) -> None:
    await shell.fake.create("one", Spec(), start=False)
    for number in range(3):
        await shell.fake.write("one", f"\x1b[31mline {number}\x07\u202e")
    assert (await shell.good("logs", "one", "--lines", "2")).splitlines() == ["[31mline 1", "[31mline 2"]
    assert len((await shell.good("logs", "one", "--lines", "-1")).splitlines()) == 3


async def test_followed_logs_come_as_they_are_written_until_interrupted(shell: Shell) -> None:
    await shell.fake.create("one", Spec(), start=False)
    await shell.fake.write("one", "first")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "paddock", "logs", "one", "--follow", "--url", shell.url),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=listening_to_interrupts,
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"first\n"
    await shell.fake.write("one", "second")
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"second\n"
    process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(process.wait(), 30) == 130
