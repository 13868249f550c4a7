"""`paddock keys` against a real server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paddock.cli import main
from paddock.cli.keys import seconds
from paddock.errors import ValidationFailed
from paddock.testing.server import RunningServer, running_server


class Shell:
    """Runs `paddock keys …`; `out` and `err` are what the last command printed."""

    def __init__(self, server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.key: str | None = None
        self.out = self.err = ""
        self._capsys = capsys

    async def run(self, *words: str) -> int:
        """The exit code."""
        self._capsys.readouterr()
        key = ["--key", self.key] if self.key else []
        code = await asyncio.to_thread(main, ["keys", *words, "--url", self.server.base_url, *key])
        self.out, self.err = self._capsys.readouterr()
        return code

    async def json(self, *words: str) -> Any:
        """The decoded output of a command with --json."""
        assert await self.run(*words, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
async def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    async with running_server(tmp_path / "data") as server:
        yield Shell(server, capsys)


async def test_a_key_is_made_shown_once_used_listed_and_revoked(shell: Shell) -> None:
    assert await shell.run("create", "app") == 2
    assert "--management" in shell.err
    assert await shell.run("create", "me", "--management") == 0
    [key] = set(re.findall(r"pk-[\w-]+", shell.out))
    assert shell.out.count(key) == 3
    assert "PADDOCK_KEY" in shell.out
    assert await shell.run("list") == 1
    assert "a key is needed" in shell.err
    shell.key = key
    made = await shell.json(
        "create", "app", "--project", "n/p", "--project", "own/*", "--verb", "read", "--expires", "12h"
    )
    assert made["scopes"] == {"verbs": ["read"], "projects": ["n/p", "own/*"], "models": None}
    assert made["expires_at"] - made["created_at"] == pytest.approx(12 * 3600, abs=5)
    assert await shell.run("list") == 0
    assert "app" in shell.out
    assert made["id"] in shell.out  # whole, on a narrow screen too: it is what revoke takes
    assert key not in shell.out
    assert [one["name"] for one in await shell.json("list")] == ["me", "app"]
    assert await shell.run("revoke", made["id"]) == 0
    assert made["id"] in shell.out
    assert (await shell.json("list"))[1]["revoked_at"] is not None
    assert await shell.run("revoke", made["id"]) == 2
    assert await shell.run("revoke", "../../info") == 2


async def test_a_hostile_name_of_a_key_does_nothing_to_the_terminal(shell: Shell) -> None:
    assert await shell.run("create", "\x1b[31mred\x07", "--management") == 0
    assert "\x1b" not in shell.out
    shell.key = re.findall(r"pk-[\w-]+", shell.out)[0]
    assert await shell.run("list") == 0
    assert "\x1b[31m" not in shell.out


@pytest.mark.parametrize(("text", "found"), [("90m", 5400), ("12h", 43_200), ("30d", 2_592_000)])
def test_a_time_is_a_number_and_a_unit(text: str, found: int) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("text", ["", "5", "h", "-1d", "1w", "1.5h", "9999999d"])
def test_another_time_is_refused(text: str) -> None:
    with pytest.raises(ValidationFailed):
        seconds(text)
