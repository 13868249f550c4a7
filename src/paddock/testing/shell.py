"""The command line in a test: its commands against a server, and what they print."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from paddock.cli import main


class Shell:
    """Runs commands in a thread; `out` and `err` are what the last one printed."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.out = self.err = ""
        self._capsys = capsys

    async def run(self, *words: str) -> int:
        """The exit code of ``paddock WORDS --url …``."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(exit_code, [*words, "--url", self.url])
        self.out, self.err = self._capsys.readouterr()
        return code

    async def good(self, *words: str) -> str:
        """What a command prints that must succeed."""
        assert await self.run(*words) == 0, (words, self.out, self.err)
        return self.out

    async def json(self, *words: str) -> Any:
        """The decoded output of a command with --json, which prints nothing else."""
        found = json.loads(await self.good(*words, "--json"))
        assert self.err == ""
        return found


def exit_code(words: Sequence[str]) -> int:
    """Run a command in this process, as the program would end."""
    try:
        return main(words)
    except SystemExit as end:  # argparse ends so
        return int(end.code or 0)
