"""Models that users train: names, versions, files, memory, turns."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from paddock.builtin.trained import (
    Fits,
    InMemory,
    Key,
    ModelFiles,
    base_name,
    choices,
    is_version,
    new_version,
    newest,
)
from paddock.builtin.trained.fits import WAITING
from paddock.errors import BadName, ModelNotFound, ProviderUnavailable, RateLimited
from paddock.testing.host import MemoryHost

NOW = datetime(2025, 12, 15, 23, 59, 59).astimezone()


def test_a_version_carries_the_time_and_never_one_that_is_taken() -> None:
    assert new_version("m", (), NOW) == "m_20251215_235959"
    assert new_version("m", {"m_20251215_235959", "m_20251216_000000"}, NOW) == "m_20251216_000001"
    assert (is_version("m_20251215_235959"), base_name("m_20251215_235959")) == (True, "m")
    assert (is_version("m_2025"), base_name("m_2025")) == (False, "m_2025")


@pytest.mark.parametrize(
    ("known", "name", "means"),
    [
        (["m_20250101_000000", "m_20260101_000000", "m"], "m-latest", "m_20260101_000000"),
        (["m", "n_20260101_000000"], "m-latest", "m"),
        (["m-latest", "m_20260101_000000"], "m-latest", "m-latest"),
        (["mm_20260101_000000"], "m-latest", "m-latest"),
        (["m_20260101_000000"], "m", "m"),
    ],
)
def test_latest_is_the_newest_version_else_the_bare_name(known: list[str], name: str, means: str) -> None:
    assert newest(name, known) == means


def test_the_sentence_about_a_missing_model_tells_what_there_is() -> None:
    assert choices("sensr", ["sensor", "other"]) == "near names: sensor"
    assert (
        choices("x", [f"model{at}" for at in range(7)]) == "there are model0, model1, model2, model3, model4 and 2 more"
    )
    assert choices("x", []) == "none is saved: fit one first"


def test_a_model_is_replaced_whole_and_its_old_graph_goes(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models")
    for graph in (b"one", b"two"):
        files.write(("m",), graph, {"made": graph.decode()}, "text")
    saved, found = files.read(("m",))
    assert (found, saved.facts, saved.description) == (b"two", {"made": "two"}, "text")
    assert len(list((tmp_path / "models/m").iterdir())) == 2


def test_what_is_no_model_of_ours_is_not_listed(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    files.write(("m",), b"graph", {})
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "model.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "m")
    (tmp_path / "file").write_text("x")
    assert files.keys() == [("m",)]
    with pytest.raises(ModelNotFound):
        files.note(("file",))


def test_a_deletion_takes_only_our_files(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models", depth=2)
    files.write(("m", "a"), b"graph", {})
    files.write(("m", "b"), b"graph", {})
    (tmp_path / "models/m/b/notes.txt").write_text("the user's")
    files.delete(("m", "a"))
    files.delete(("m", "b"))
    assert [file.name for file in (tmp_path / "models/m").rglob("*")] == ["b", "notes.txt"]


def test_writes_and_deletions_at_once_leave_a_whole_model_or_none(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    failures: list[BaseException] = []

    def write() -> None:
        for at in range(60):
            files.write(("m",), b"graph %d" % at, {"at": at})

    def delete() -> None:
        for _ in range(200):
            try:
                files.delete(("m",))
            except ModelNotFound:
                continue
            except BaseException as error:  # noqa: BLE001  shown below
                failures.append(error)

    threads = [threading.Thread(target=run) for run in (write, write, delete)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    files.write(("m",), b"last", {})
    assert files.read(("m",))[1] == b"last"


def test_a_full_disk_is_told_and_leaves_the_old_model(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    files.write(("m",), b"old", {})
    (tmp_path / "n").write_text("a file where a folder should be")
    with pytest.raises(ProviderUnavailable, match="can't be saved"):
        files.write(("n",), b"new", {})
    assert files.read(("m",))[1] == b"old"


async def test_one_load_serves_all_who_ask_and_a_failure_is_not_remembered() -> None:
    loads: list[Key] = []
    broken = True

    def load(key: Key) -> str:
        loads.append(key)
        if broken:
            raise ProviderUnavailable("not yet")
        return key[0]

    memory = InMemory(load, 2)
    found = await asyncio.gather(*(memory.get(("m",)) for _ in range(5)), return_exceptions=True)
    assert all(isinstance(one, ProviderUnavailable) for one in found)
    broken = False
    assert await asyncio.gather(*(memory.get(("m",)) for _ in range(5))) == ["m"] * 5
    assert loads == [("m",)] * 2
    for name in ("a", "m", "b"):
        await memory.get((name,))
    assert memory.loaded() == [("m",), ("b",)]
    memory.drop(("m",))
    assert memory.loaded() == [("b",)]


class Asked(msgspec.Struct):
    """A request."""

    number: int


async def test_fits_run_one_after_another_and_only_so_many_wait() -> None:
    running, most = 0, 0
    gate = asyncio.Event()

    async def run(request: Asked) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return request.number

    fits = Fits(MemoryHost(), Asked, run)
    works = [asyncio.ensure_future(fits.run(Asked(at), durable=False)) for at in range(WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="waiting"):
        await fits.run(Asked(99), durable=False)
    gate.set()
    assert await asyncio.gather(*works) == list(range(WAITING))
    assert most == 1
    assert await fits.run(Asked(1), durable=True) == 1


async def test_a_fit_that_fails_is_not_tried_again() -> None:
    host = MemoryHost()

    async def run(request: Asked) -> int:
        raise BadName(f"{request.number}")

    fits = Fits(host, Asked, run)
    with pytest.raises(BadName):
        await fits.run(Asked(1), durable=True)
    assert await host.records.all("fit") == {}
