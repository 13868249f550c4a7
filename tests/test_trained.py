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
    is_version,
    not_there,
)
from paddock.builtin.trained.fits import ATTEMPTS, SLICE, WAITING, encoded
from paddock.builtin.trained.names import new_version, stored_name
from paddock.contracts.fits import Fitting
from paddock.errors import BadName, ModelNotFound, ProviderUnavailable, RateLimited
from paddock.testing.host import MemoryHost, MemoryRecords

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
def test_latest_is_the_newest_version_else_the_bare_name(
    tmp_path: Path, known: list[str], name: str, means: str
) -> None:
    files = ModelFiles(tmp_path)
    for one in known:
        files.write((one,), b"graph", {})
    assert files.find(name, latest=True) == ([(means,)] if means in known else [])
    assert files.find(name, latest=False) == ([(name,)] if name in known else [])


VERSIONS = ["sensor_20250101_000000", "sensor_20260101_000000", "other"]


@pytest.mark.parametrize(
    ("name", "known", "says"),
    [
        ("sensr", ["sensor", "other"], "near names: sensor"),
        ("sensr-latest", VERSIONS, "near names: sensor_20260101_000000"),
        ("SENSR", VERSIONS, "near names: sensor_20260101_000000"),
        ("sensor", VERSIONS, "newest version is sensor_20260101_000000, which sensor-latest under /v1/ml stands for"),
        ("sensor-latest", VERSIONS, "under /v1/ml it stands for sensor_20260101_000000"),
        ("other-latest", VERSIONS, "under /v1/ml it stands for other"),
        ("x", [f"model{at}" for at in range(7)], "there are model0, model1, model2, model3, model4 and 2 more"),
        ("x", [], "none is saved: fit one first"),
    ],
)
def test_the_sentence_about_a_missing_model_tells_what_there_is(name: str, known: list[str], says: str) -> None:
    assert not_there("model", name, known).startswith(f"no model '{name}'; ")
    assert not_there("model", name, known).endswith(says)


@pytest.mark.parametrize("overwrite", [False, True])
def test_no_fit_stores_what_latest_would_hide(overwrite: bool) -> None:
    assert stored_name("m", (), overwrite=overwrite).startswith("m")
    with pytest.raises(BadName, match="newest version"):
        stored_name("m-latest", (), overwrite=overwrite)


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


def test_a_name_means_the_newest_version_that_is_wanted_and_whole(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path, depth=2)
    for name, kind in (("m", "a"), ("m_20250101_000000", "b"), ("m_20260101_000000", "a"), ("m_20270101_000000", "a")):
        files.write((name, kind), b"graph", {})
    (tmp_path / "m_20270101_000000" / "a" / "model.json").unlink()
    (tmp_path / "m" / "notes.txt").write_text("the user's")
    (tmp_path / "m_20280101_000000").symlink_to(tmp_path / "m")
    assert files.find("m", latest=True) == [("m", "a")]
    assert files.find("m-latest", latest=True) == [("m_20260101_000000", "a")]
    assert files.find("m-latest", latest=True, wanted=lambda key: key[1] == "b") == [("m_20250101_000000", "b")]
    assert files.find("m-latest", latest=True, wanted=lambda key: key[1] == "c") == []
    assert files.find("-latest", latest=True) == []
    assert files.keys("m_2026") == [("m_20260101_000000", "a")]
    for latest in (True, False):
        with pytest.raises(BadName):
            files.find("../m", latest=latest)


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


def about(request: Asked) -> Fitting:
    return Fitting(model=f"m{request.number}", samples=1)


class Gate:
    """A fit that waits to be let on; `done` has the numbers of those that ended."""

    def __init__(self, host: MemoryHost | None = None) -> None:
        self.host = host or MemoryHost()
        self.open = asyncio.Event()
        self.entered = asyncio.Event()
        self.done: list[int] = []
        self.running = self.most = 0
        self.fits = Fits(self.host, Asked, self.run, about)

    async def run(self, request: Asked) -> int:
        self.running += 1
        self.most = max(self.most, self.running)
        self.entered.set()
        waits = [asyncio.ensure_future(event.wait()) for event in (self.open, self.host.stopping)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        self.running -= 1
        if not self.open.is_set():
            waits[0].cancel()
            raise ProviderUnavailable("the server is stopping")
        waits[1].cancel()
        self.done.append(request.number)
        return request.number

    def ask(self, number: int) -> asyncio.Future[int]:
        return asyncio.ensure_future(self.fits.run(Asked(number)))


async def test_fits_run_in_the_order_of_their_requests_and_only_so_many_wait() -> None:
    gate = Gate()
    works = [gate.ask(at) for at in range(WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(RateLimited, match="waiting"):
        await gate.ask(99)
    await gate.entered.wait()
    assert [(one.model, one.state) for one in gate.fits.under_way()][:2] == [("m0", "running"), ("m1", "waiting")]
    gate.open.set()
    assert await asyncio.gather(*works) == gate.done == list(range(WAITING))
    assert gate.most == 1
    assert gate.fits.under_way() == []
    assert await gate.ask(1) == 1


async def test_a_fit_goes_on_when_its_client_leaves() -> None:
    gate = Gate()
    works = [gate.ask(1), gate.ask(2)]
    await gate.entered.wait()
    for work in works:
        work.cancel()
    await asyncio.wait(works)
    assert [one.model for one in gate.fits.under_way()] == ["m1", "m2"]
    gate.open.set()
    await gate.fits.settled()
    assert gate.done == [1, 2]
    assert await gate.host.records.all("fit") == await gate.host.records.all("fit_request") == {}


async def test_a_fit_that_fails_is_not_tried_again() -> None:
    host = MemoryHost()

    async def run(request: Asked) -> int:
        raise BadName(f"{request.number}")

    fits = Fits(host, Asked, run, about)
    with pytest.raises(BadName):
        await fits.run(Asked(1))
    assert await host.records.all("fit") == await host.records.all("fit_request") == {}


async def test_stopping_keeps_the_fits_for_the_next_start_and_counts_as_no_failure() -> None:
    records = MemoryRecords()
    gate = Gate(MemoryHost(records))
    works = [gate.ask(1), gate.ask(2)]
    await gate.entered.wait()
    for _ in range(ATTEMPTS + 1):
        gate.host.stopping.set()
        await gate.fits.settled()
        assert gate.done == []
        gate = Gate(MemoryHost(records))
        async with gate.fits.running():
            await gate.entered.wait()
            gate.host.stopping.set()
    told = [str(error) for error in await asyncio.gather(*works, return_exceptions=True)]
    assert ["is done when it is back" in one for one in told] == [True, True]
    gate = Gate(MemoryHost(records))
    gate.open.set()
    async with gate.fits.running():
        assert await gate.ask(3) == 3
    assert gate.done == [1, 2, 3]
    assert [line["attempts"] for line in gate.host.lines if line["event"] == "fit_resumed"] == [1, 1]
    assert await records.all("fit") == await records.all("fit_request") == {}


async def test_a_fit_that_ended_the_server_too_often_is_given_up_and_told() -> None:
    records = MemoryRecords()
    for attempts in range(1, ATTEMPTS + 1):
        gate = Gate(MemoryHost(records))
        async with asyncio.TaskGroup() as group:
            life = group.create_task(one_life(gate, first=attempts == 1))
            await gate.entered.wait()
            life.cancel()
        (note,) = (await records.all("fit")).values()
        assert note["attempts"] == attempts
    gate = Gate(MemoryHost(records))
    async with gate.fits.running():
        assert gate.fits.under_way() == []
    assert [(event["type"], event["model"]) for event in gate.host.events] == [("fit_given_up", "m1")]
    assert await records.all("fit") == await records.all("fit_request") == {}


async def one_life(gate: Gate, *, first: bool) -> None:
    async with gate.fits.running():
        await (gate.ask(1) if first else asyncio.Event().wait())


async def test_what_is_left_of_a_fit_that_was_not_noted_whole_is_removed() -> None:
    host = MemoryHost()
    await host.records.put("fit", "half", {"fitting": {"model": "m", "samples": 1}})
    await host.records.put("fit", "foreign", {"request": {}, "attempts": 0})
    gate = Gate(host)
    gate.open.set()
    async with gate.fits.running():
        await gate.fits.settled()
    assert (gate.done, await host.records.all("fit")) == ([], {})
    assert [event["type"] for event in host.events] == ["fit_given_up"] * 2


class Many(msgspec.Struct, rename={"rows": "data"}):
    """A request with a list."""

    rows: list[list[float]]
    name: str | None = None


@pytest.mark.parametrize("count", [0, 1, SLICE, 2 * SLICE + 1])
def test_a_request_is_encoded_in_slices_to_the_same_json(count: int) -> None:
    request = Many([[float(at), 1.5] for at in range(count)])
    assert msgspec.json.decode(encoded(request), type=Many) == request
