"""The commands of the model cache, against a real server and the fake hub."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paddock.cli import main
from paddock.testing.hub import FakeHub
from paddock.testing.hub_cache import cache_model
from paddock.testing.process import listening_to_interrupts
from paddock.testing.server import RunningServer, running_server

MODEL = "org/model"


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.add(MODEL, {"config.json": b"{}", "model.safetensors": b"w" * 300_000})
        hub.add("org/gguf", {"t-Q4_K_M.gguf": b"4" * 1024, "t-Q8_0.gguf": b"8" * 1536})
        yield hub


@pytest.fixture
async def server(tmp_path: Path, hub: FakeHub) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings=hub.settings()) as running:
        yield running


class Shell:
    """Runs commands in a thread."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys

    async def run(self, *words: str) -> tuple[int, str, str]:
        """Exit code, output, errors of ``paddock models WORDS``."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(main, ["models", *words, "--url", self._url])
        return code, *self._capsys.readouterr()

    async def json(self, *words: str) -> Any:
        """The decoded output of a command that must succeed."""
        code, out, err = await self.run(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def shell(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(server.base_url, capsys)


async def test_a_model_is_downloaded_listed_shown_and_deleted(shell: Shell) -> None:
    code, out, err = await shell.run("download", MODEL)
    assert (code, out) == (0, f"{MODEL} is in the cache.\n")
    assert "100%" in err
    code, out, _ = await shell.run("list")
    assert MODEL in out
    assert "300KB" in out
    found = await shell.json("show", MODEL)
    assert (found["model_id"], found["revisions"]) == (MODEL, ["main"])
    code, out, _ = await shell.run("delete", MODEL)
    assert (code, out) == (0, f"Deleted {MODEL}: 0.3 MB are free again.\n")
    assert (await shell.json("list"))["data"] == []


async def test_a_download_tells_how_much_it_was_and_how_the_model_is_used(shell: Shell) -> None:
    code, out, err = await shell.run("download", "org/gguf")
    assert (code, out.splitlines()[0]) == (0, "org/gguf is in the cache.")
    assert out.splitlines()[1].startswith('Next: POST /v1/chat/completions {"model": "org/gguf", ')
    assert "1.0/1.0 kB" in err


async def test_a_long_id_is_listed_whole(shell: Shell, tmp_path: Path) -> None:
    model = "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"
    cache_model(tmp_path / "data" / "models" / "hub", model, {"config.json": b"{}"})
    code, out, _ = await shell.run("list")
    assert (code, model in out) == (0, True)


async def test_an_unknown_provider_is_told_the_known_ones_once_each(shell: Shell) -> None:
    code, _, err = await shell.run("list", "--provider", "nope")
    known = err.strip().partition("known: ")[2].split(", ")
    assert (code, "universal" in known, len(known)) == (2, True, len(set(known)))


async def test_json_is_all_that_is_printed(shell: Shell) -> None:
    assert await shell.json("download", "org/gguf:Q8_0") == {"model_name": "org/gguf:Q8_0", "downloaded": 1536}
    assert (await shell.json("delete", "org/gguf:Q8_0"))["revisions_deleted"] == 1


async def test_quantizations_are_a_table(shell: Shell) -> None:
    code, out, _ = await shell.run("quantizations", "org/gguf")
    assert code == 0
    assert all(word in out for word in ("Q4_K_M", "1.0 KB", "t-Q8_0.gguf"))


async def test_errors_have_a_sentence_and_a_code(shell: Shell, hub: FakeHub) -> None:
    code, _, err = await shell.run("download", "org/none")
    assert code == 2
    assert "no model org/none" in err
    code, _, err = await shell.run("delete", MODEL)
    assert code == 2
    assert f"paddock models download {MODEL}" in err
    hub.faults.corrupt = True
    code, _, err = await shell.run("download", MODEL)
    assert code == 1
    assert "promised hash" in err


async def test_a_download_that_is_interrupted_is_cancelled_and_resumed(
    server: RunningServer, hub: FakeHub, shell: Shell
) -> None:
    hub.add("org/big", {"model.safetensors": b"0123456789abcdef" * 400_000})
    hub.faults.stall_after = 4_000_000
    command = (sys.executable, "-m", "paddock", "models", "download", "org/big", "--url", server.base_url)
    child = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, env=dict(os.environ), preexec_fn=listening_to_interrupts
    )
    request = await asyncio.wait_for(hub.request("cdn"), 30)
    child.send_signal(signal.SIGINT)
    await child.communicate()
    assert child.returncode == 130
    await asyncio.wait_for(request.gone.wait(), 10)
    assert (await shell.json("download", "org/big"))["downloaded"] == 6_400_000
