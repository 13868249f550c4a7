"""``paddock serve`` in a process of its own, for what a server in the test's process can't show: kills, signals, restarts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

LONGEST = 120.0  # seconds that a line of the log, or the end, is waited for
LINE = 2**24  # bytes


class ServerProcess:
    """A server that runs, or did. `lines` is its log so far, one object a line."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = ""
        self.lines: list[dict[str, Any]] = []
        self._seen = 0
        self._ended = False
        self._news = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.endswith(b"\n"):  # a kill may cut the last one
                self.lines.append(json.loads(line))
                await self._tell()
        self._ended = True
        await self._tell()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, event: str) -> dict[str, Any]:
        """The next line of this event behind the one that was returned last. Raises AssertionError when the process ends
        without it, TimeoutError after two minutes."""
        async with asyncio.timeout(LONGEST), self._news:
            while True:
                while self._seen < len(self.lines):
                    self._seen += 1
                    if self.lines[self._seen - 1]["event"] == event:
                        return self.lines[self._seen - 1]
                if self._ended:
                    raise AssertionError(f"the server ended before {event}")
                await self._news.wait()

    async def end(self) -> None:
        """Stop it unless it ended already, and read its log to the end. One that does not end is killed, with TimeoutError."""
        try:
            if self.process.returncode is None:
                self.process.terminate()
            async with asyncio.timeout(LONGEST):
                await self.process.wait()
                await self._reading
        finally:
            self._reading.cancel()
            if self.process.returncode is None:
                self.process.kill()


@asynccontextmanager
async def server_process(folder: Path, **environment: str) -> AsyncIterator[ServerProcess]:
    """One life of a server on a free port with its data in `folder`; `environment` are its only settings. It serves when
    the context begins; an end of the context stops it cleanly. Raises AssertionError when it logged a crash, unless the test
    fails by itself."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PADDOCK_", "LF_"))}
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(folder)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**env, "PADDOCK_LOG__FORMAT": "json", **environment}, limit=LINE
    )
    server = ServerProcess(process)
    try:
        server.url = (await server.until("serving"))["url"]
        yield server
    finally:
        await server.end()
    assert not [line for line in server.lines if line["event"] == "crash"]


def listening_to_interrupts() -> None:
    """For `preexec_fn`: whoever starts the tests in the background has told their children to ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
