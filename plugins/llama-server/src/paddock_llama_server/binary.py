"""What the llama-server binary says about itself (help, version, devices), and which flags it knows. Asked once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from paddock.contracts.base import Json
from paddock.errors import BadRequest, PaddockError
from paddock_llama_server.options import argv, flag
from paddock_llama_server.settings import LlamaServerSettings

PATIENCE = 15.0  # seconds that one answer may take
MAX_OUTPUT = 1024 * 1024
_FLAG = re.compile(r"(?<![\w-])--?[A-Za-z][A-Za-z0-9._-]*")
_COLUMN = re.compile(r"(?<![,\s])\s{2,}")  # between a line's flags and their description
_PASSED = re.compile(r"PATH|HOME|TMPDIR|LANG|LC_\w+|CUDA_\w+|HIP_\w+|ROCR_\w+|GGML_\w+")

Mark = tuple[str, int, int]  # which file it is: a new build answers anew


class Binary:
    """The binary that the settings name. Errors are PaddockError (500) with its own words and the setting's name."""

    def __init__(self, settings: LlamaServerSettings) -> None:
        self._settings = settings
        self._answers: dict[tuple[Mark, str], asyncio.Task[str]] = {}

    async def say(self, argument: str) -> str:
        """What it prints for one argument, standard error included."""
        mark = await asyncio.to_thread(self._mark)
        task = self._answers.get((mark, argument))
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            self._answers = {key: value for key, value in self._answers.items() if key[0] == mark}
            task = self._answers[mark, argument] = asyncio.ensure_future(self._run(mark[0], argument))
        return await asyncio.shield(task)

    async def check(self, options: Mapping[str, Json]) -> None:
        """Raises BadRequest naming the first option that this binary has no flag for. A binary that can't be asked, or does
        not list its flags, is not held against the options: starting it will tell."""
        try:
            known = flags_in(await self.say("--help"))
        except PaddockError:
            return
        if "--model" not in known:
            return
        for name in options:
            missing = next((one for one in argv({name: options[name]})[:1] if one not in known), None)
            if missing is not None:
                raise BadRequest(
                    f"{name}: this llama-server has no {missing}: GET /api/v1/server/help shows what it has instead"
                    if missing == flag(name)
                    else f"{name}: false can't be said to this llama-server, it has no {missing}: leave it out"
                )

    async def close(self) -> None:
        """End what still runs."""
        tasks = [task for task in self._answers.values() if not task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _mark(self) -> Mark:
        command = self._settings.command
        path = shutil.which(os.path.expanduser(command))  # noqa: PTH111  a bare name must stay bare
        if path is None:
            raise PaddockError(f"{command} is no program here: install llama-server, or set llama_server.command")
        found = Path(path).stat()
        return path, found.st_mtime_ns, found.st_size

    async def _run(self, path: str, argument: str) -> str:
        environment = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
        try:
            process = await asyncio.create_subprocess_exec(
                path,
                argument,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**environment, **self._settings.environment},
                start_new_session=True,
            )
        except OSError as error:
            raise PaddockError(
                f"llama-server could not be run ({error.strerror}): see the setting llama_server.command"
            ) from error
        try:
            async with asyncio.timeout(PATIENCE):
                output = await _read(process)
                code = await process.wait()
        except TimeoutError as error:
            raise PaddockError(f"llama-server {argument} did not end within {PATIENCE:g} seconds") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        text = output.decode("utf-8", "replace")
        if code != 0:
            raise PaddockError(f"llama-server {argument} failed with {code}: {text.strip()[-500:]}")
        return text


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    pieces = bytearray()
    while piece := await process.stdout.read(65_536):
        pieces += piece[: MAX_OUTPUT - len(pieces)]
    return bytes(pieces)


def flags_in(text: str) -> frozenset[str]:
    """The flags at the beginnings of a help text's lines, without those that it calls removed."""
    lines = (line for line in text.splitlines() if line.startswith("-") and not line.startswith("-----"))
    lines = (line for line in lines if "has been removed" not in line)
    return frozenset(found for line in lines for found in _FLAG.findall(_COLUMN.split(line, maxsplit=1)[0]))
