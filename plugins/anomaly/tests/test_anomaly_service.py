"""The endpoints: names, versions, files, callers, crashes."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paddock_anomaly import AnomalyService, AnomalySettings, plugin
from paddock_anomaly.service import SCORING

from paddock.contracts.anomaly import (
    AnomalyFilePath,
    AnomalyFit,
    AnomalyFitVersioned,
    AnomalyModel,
    AnomalySave,
    AnomalyScore,
    Backend,
)
from paddock.contracts.base import Caller, Scope
from paddock.contracts.providers import Environment
from paddock.errors import BadName, BadRequest, Conflict, Forbidden, ModelNotFound, ProviderUnavailable, TooLarge
from paddock.testing.host import MemoryHost, MemoryRecords, context
from paddock.testing.server import RunningServer, running_server

DATA: list[Any] = [[float(at % 7), float(at % 5)] for at in range(40)]
SVM: Backend = "one_class_svm"
BOTH: tuple[Backend, ...] = (SVM, "isolation_forest")


def service(folder: Path, host: MemoryHost | None = None, **settings: Any) -> AnomalyService:
    return AnomalyService(AnomalySettings(**settings), folder / "models" / "anomaly", host or MemoryHost())


@pytest.fixture
def detectors(tmp_path: Path) -> AnomalyService:
    return service(tmp_path)


async def test_the_plugin_declares_its_settings_and_its_service(tmp_path: Path) -> None:
    assert plugin.paddock_settings() == ("anomaly", AnomalySettings)
    env = Environment(AnomalySettings(), tmp_path, http=None, host=MemoryHost(), hub_cache=tmp_path)  # type: ignore[arg-type]  # it reaches nobody
    assert [type(one) for one in plugin.paddock_services(env)] == [AnomalyService]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    heavy = {"numpy", "sklearn", "scipy", "onnx", "skl2onnx", "onnxruntime"}
    code = f"import sys, paddock_anomaly.backends, paddock_anomaly.forest; print(*{heavy!r} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


async def test_a_fit_replaces_and_another_backend_of_the_name_stays(detectors: AnomalyService) -> None:
    for backend in BOTH:
        await detectors.anomaly_fit(AnomalyFit(model="m", backend=backend, data=DATA))
    first = await detectors.anomaly_score(context(), AnomalyScore(model="m", backend=SVM, data=[[90.0, 90.0]]))
    await detectors.anomaly_fit(AnomalyFit(model="m", backend=SVM, data=[[90.0, 90.0], [91.0, 90.0]]))
    second = await detectors.anomaly_score(context(), AnomalyScore(model="m", backend=SVM, data=[[90.0, 90.0]]))
    assert first.data[0].score > second.data[0].score
    names = [item.filename for item in (await detectors.anomaly_models(context())).data]
    assert names == ["m_one_class_svm.onnx", "m_isolation_forest.onnx"]
    assert len(graphs(first_path(detectors))) == 1


def first_path(detectors: AnomalyService) -> Path:
    return detectors._files.root / "m" / SVM


def graphs(folder: Path) -> list[Path]:
    return list(folder.glob("graph-*.onnx"))


async def test_versions_of_one_second_differ_and_latest_is_the_newest(detectors: AnomalyService) -> None:
    fits = [detectors.ml_anomaly_fit(AnomalyFitVersioned(model="m", data=DATA)) for _ in range(3)]
    done = await asyncio.gather(*fits)
    names = [one.versioned_name for one in done]
    assert len(set(names)) == 3
    assert {(one.base_name, one.overwrite, one.model == one.versioned_name) for one in done} == {("m", False, True)}
    found = await detectors.ml_anomaly_score(context(), AnomalyScore(model="m-latest", data=[[1.0, 1.0]]))
    assert found.model == max(names)
    with pytest.raises(ModelNotFound, match="m-latest"):
        await detectors.anomaly_score(context(), AnomalyScore(model="m", data=[[1.0, 1.0]]))
    with pytest.raises(ModelNotFound):
        await detectors.anomaly_score(context(), AnomalyScore(model="m-latest", data=[[1.0, 1.0]]))


async def test_overwrite_keeps_the_name_which_latest_finds_too(detectors: AnomalyService) -> None:
    done = await detectors.ml_anomaly_fit(AnomalyFitVersioned(model="m", data=DATA, overwrite=True))
    assert (done.model, done.base_name, done.versioned_name, done.overwrite) == ("m", "m", "m", True)
    assert (await detectors.ml_anomaly_load(context(), AnomalyModel(model="m-latest"))).model == "m"


@pytest.mark.parametrize("name", ["x-latest", "y" * 49])
async def test_a_name_that_can_have_no_versions_is_refused(detectors: AnomalyService, name: str) -> None:
    with pytest.raises(BadName):
        await detectors.ml_anomaly_fit(AnomalyFitVersioned(model=name, data=DATA))


@pytest.mark.parametrize("name", ["..", "", "a/b", "a\\b", "a\0b", "ü", "z" * 65, "/etc", "%2e%2e"])
async def test_a_name_that_would_walk_the_tree_is_refused_everywhere(detectors: AnomalyService, name: str) -> None:
    calls = [
        detectors.anomaly_fit(AnomalyFit(model=name, data=DATA)),
        detectors.ml_anomaly_fit(AnomalyFitVersioned(model=name, data=DATA)),
        detectors.anomaly_score(context(), AnomalyScore(model=name, data=DATA)),
        detectors.ml_anomaly_detect(context(), AnomalyScore(model=name, data=DATA)),
        detectors.anomaly_load(context(), AnomalyModel(model=name)),
        detectors.anomaly_save(context(), AnomalySave(model=name)),
        detectors.anomaly_delete(AnomalyFilePath(filename=name)),
    ]
    for call in calls:
        with pytest.raises(BadName):
            await call


@pytest.mark.parametrize(
    "filename",
    ["m_one_class_svm.pkl", "m_one_class_svm.joblib", "m_one_class_svm.onnx", "m_one_class_svm", "m", "m.pkl"],
)
async def test_every_documented_file_name_deletes_the_model(detectors: AnomalyService, filename: str) -> None:
    await detectors.anomaly_fit(AnomalyFit(model="m", backend=SVM, data=DATA))
    assert (await detectors.anomaly_delete(AnomalyFilePath(filename=filename))).filename == "m_one_class_svm.onnx"
    assert (await detectors.anomaly_models(context())).data == []
    assert list(detectors._files.root.iterdir()) == []
    with pytest.raises(ModelNotFound):
        await detectors.anomaly_delete(AnomalyFilePath(filename=filename))


async def test_a_bare_name_of_several_backends_is_not_deleted(detectors: AnomalyService) -> None:
    for backend in BOTH:
        await detectors.anomaly_fit(AnomalyFit(model="m", backend=backend, data=DATA))
    with pytest.raises(Conflict, match="m_one_class_svm"):
        await detectors.anomaly_delete(AnomalyFilePath(filename="m"))


async def test_without_a_backend_the_only_one_is_meant(detectors: AnomalyService) -> None:
    await detectors.anomaly_fit(AnomalyFit(model="m", backend=SVM, data=DATA))
    assert (await detectors.anomaly_load(context(), AnomalyModel(model="m"))).backend == SVM
    await detectors.anomaly_fit(AnomalyFit(model="m", backend="local_outlier_factor", data=DATA))
    with pytest.raises(BadRequest, match="name one"):
        await detectors.anomaly_load(context(), AnomalyModel(model="m"))
    with pytest.raises(ModelNotFound, match="local_outlier_factor, one_class_svm"):
        await detectors.anomaly_load(context(), AnomalyModel(model="m", backend="autoencoder"))


async def test_a_description_is_kept_and_null_leaves_it(detectors: AnomalyService) -> None:
    await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA, description="first"))
    assert (await detectors.anomaly_save(context(), AnomalySave(model="m"))).description == "first"
    assert (
        await detectors.anomaly_save(context(), AnomalySave(model="m", description="pump 7"))
    ).description == "pump 7"
    assert (await detectors.anomaly_models(context())).data[0].description == "pump 7"
    assert (await detectors.anomaly_score(context(), AnomalyScore(model="m", data=DATA))).total_count == len(DATA)


async def test_a_threshold_of_zero_is_zero(detectors: AnomalyService) -> None:
    await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA))
    found = await detectors.anomaly_score(context(), AnomalyScore(model="m", data=DATA, threshold=0))
    assert (found.summary.threshold, found.summary.anomaly_count, found.summary.anomaly_rate) == (0, len(DATA), 1)


async def test_a_threshold_and_a_normalization_of_the_fit_are_kept(detectors: AnomalyService) -> None:
    done = await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA, normalization="zscore", threshold=3))
    assert (done.model_params.threshold, done.model_params.normalization) == (3, "zscore")
    kept = await detectors.anomaly_score(context(), AnomalyScore(model="m", data=DATA))
    raw = await detectors.anomaly_score(context(), AnomalyScore(model="m", data=DATA, normalization="raw"))
    assert kept.summary.threshold == 3
    assert raw.summary.threshold == pytest.approx(0.6, abs=0.2)
    assert all(row.score == row.raw_score for row in raw.data)


async def test_a_fit_is_an_event_whether_it_went_well_or_not(tmp_path: Path) -> None:
    host = MemoryHost()
    detectors = service(tmp_path, host)
    await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA))
    with pytest.raises(BadRequest):
        await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA[:1]))
    good, bad = host.events
    assert (good["type"], good["model"], good["samples"], good["error"]) == ("anomaly_fit", "m", len(DATA), None)
    assert "two or more" in str(bad["error"])


async def test_epochs_for_another_backend_are_refused(detectors: AnomalyService) -> None:
    with pytest.raises(BadRequest, match="autoencoder"):
        await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA, epochs=3))


async def test_a_caller_sees_and_uses_only_the_models_of_its_key(detectors: AnomalyService) -> None:
    for name in ("mine-a", "other"):
        await detectors.anomaly_fit(AnomalyFit(model=name, data=DATA))
    limited = context(Caller("inference", "key", "k", Scope(models=("mine*",))))
    assert [item.name for item in (await detectors.anomaly_models(limited)).data] == ["mine-a"]
    assert (await detectors.anomaly_score(limited, AnomalyScore(model="mine-a", data=DATA))).total_count == len(DATA)
    for name in ("other", "nope"):
        with pytest.raises(Forbidden):
            await detectors.anomaly_score(limited, AnomalyScore(model=name, data=DATA))


async def test_models_survive_a_restart_and_few_stay_in_memory(tmp_path: Path) -> None:
    before = service(tmp_path)
    for name in "abc":
        await before.anomaly_fit(AnomalyFit(model=name, data=DATA))
    expected = await before.anomaly_score(context(), AnomalyScore(model="a", data=DATA))
    after = service(tmp_path, keep_loaded=2)
    found = [await after.anomaly_score(context(), AnomalyScore(model=name, data=DATA)) for name in "abca"]
    assert found[3] == expected
    assert after._memory.loaded() == [("c", "isolation_forest"), ("a", "isolation_forest")]


def damage_note(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"{")


def damage_nesting(folder: Path) -> None:
    (folder / "model.json").write_bytes(b"[" * 100_000)


def damage_graph(folder: Path) -> None:
    (graph,) = folder.glob("graph-*.onnx")
    graph.write_bytes(graph.read_bytes()[:100])


def remove_graph(folder: Path) -> None:
    (graph,) = folder.glob("graph-*.onnx")
    graph.unlink()


def lie_about_graph(folder: Path) -> None:
    """A graph that is none, with a checksum that fits: only ONNX Runtime can tell."""
    import hashlib

    note = msgspec.json.decode((folder / "model.json").read_bytes())
    (graph,) = folder.glob("graph-*.onnx")
    graph.write_bytes(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 50)
    note["sha256"] = hashlib.sha256(graph.read_bytes()).hexdigest()
    (folder / "model.json").write_bytes(msgspec.json.encode(note))


def lie_about_columns(folder: Path) -> None:
    note = msgspec.json.decode((folder / "model.json").read_bytes())
    note["facts"]["means"].append(0.0)
    (folder / "model.json").write_bytes(msgspec.json.encode(note))


def lead_elsewhere(folder: Path) -> None:
    note = msgspec.json.decode((folder / "model.json").read_bytes())
    note["graph"] = "../../../../etc/passwd"
    (folder / "model.json").write_bytes(msgspec.json.encode(note))


@pytest.mark.parametrize(
    "damage",
    [damage_note, damage_nesting, damage_graph, remove_graph, lie_about_graph, lie_about_columns, lead_elsewhere],
)
async def test_a_damaged_model_says_so_can_be_deleted_and_others_work(tmp_path: Path, damage: Any) -> None:
    before = service(tmp_path)
    for name in ("good", "m"):
        await before.anomaly_fit(AnomalyFit(model=name, backend=SVM, data=DATA))
    damage(first_path(before))
    after = service(tmp_path)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable, match=r"damaged.*fit it again"):
            await after.anomaly_score(context(), AnomalyScore(model="m", data=DATA))
    assert (await after.anomaly_score(context(), AnomalyScore(model="good", data=DATA))).total_count == len(DATA)
    assert len((await after.anomaly_models(context())).data) == 2
    await after.anomaly_fit(AnomalyFit(model="m", backend=SVM, data=DATA))
    assert (await after.anomaly_score(context(), AnomalyScore(model="m", data=DATA))).total_count == len(DATA)


async def test_what_a_crash_left_of_a_write_is_no_model(tmp_path: Path) -> None:
    detectors = service(tmp_path)
    await detectors.anomaly_fit(AnomalyFit(model="m", backend=SVM, data=DATA))
    half = tmp_path / "models/anomaly/half" / SVM
    shutil.copytree(first_path(detectors), half)
    (half / "model.json").unlink()
    (half / ".model.json.0.tmp").write_bytes(b"{")
    assert [item.name for item in (await detectors.anomaly_models(context())).data] == ["m"]
    with pytest.raises(ModelNotFound):
        await detectors.anomaly_score(context(), AnomalyScore(model="half", data=DATA))
    await detectors.anomaly_fit(AnomalyFit(model="half", backend=SVM, data=DATA))
    assert sorted(file.suffix for file in half.iterdir()) == [".json", ".onnx"]


async def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    detectors = service(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    detectors._files.root.mkdir(parents=True)
    (detectors._files.root / "m").symlink_to(elsewhere)
    with pytest.raises(BadName, match="symbolic link"):
        await detectors.anomaly_fit(AnomalyFit(model="m", data=DATA))
    assert list(elsewhere.iterdir()) == []


async def test_a_long_fit_that_the_end_cut_short_is_done_at_the_next_start(tmp_path: Path) -> None:
    records = MemoryRecords()
    host = MemoryHost(records)
    request = AnomalyFit(model="m", backend="autoencoder", data=DATA, epochs=10_000, batch_size=1)
    before = service(tmp_path, host)
    work = asyncio.ensure_future(before.anomaly_fit(request))
    await records.noted.wait()
    host.stopping.set()
    with pytest.raises(ProviderUnavailable, match="stopping"):
        await work
    assert len(await host.records.all("fit")) == 1
    host.stopping.clear()
    # The next start does the same work, here on data that are quickly learnt.
    ((name, body),) = (await host.records.all("fit_request")).items()
    body["epochs"] = 1
    await host.records.put("fit_request", name, body)
    after = service(tmp_path, host)
    async with after.running(), asyncio.timeout(60):
        await after._fits.settled()
    assert await records.all("fit") == {}
    assert [item.name for item in (await after.anomaly_models(context())).data] == ["m"]


async def test_scoring_ends_when_its_client_leaves_and_when_the_server_stops(tmp_path: Path) -> None:
    host = MemoryHost()
    detectors = service(tmp_path, host, max_rows=1_000_000)
    lof: Backend = "local_outlier_factor"
    await detectors.anomaly_fit(AnomalyFit(model="m", backend=lof, data=[[at % 97.0] for at in range(5000)]))
    slow = AnomalyScore(model="m", backend=lof, data=[[1.0]] * 1_000_000)  # some minutes
    works = [asyncio.ensure_future(detectors.anomaly_score(context(), slow)) for _ in range(2 * SCORING)]
    await asyncio.wait(works, timeout=0.5)
    for work in works[SCORING:]:
        work.cancel()
    quick = asyncio.ensure_future(detectors.anomaly_score(context(), AnomalyScore(model="m", backend=lof, data=[[1]])))
    for work in works[:SCORING]:
        work.cancel()
    async with asyncio.timeout(60):
        assert (await quick).total_count == 1
    last = asyncio.ensure_future(detectors.anomaly_score(context(), slow))
    await asyncio.wait([last], timeout=0.5)
    host.stopping.set()
    with pytest.raises(ProviderUnavailable, match="stopping"):
        await last


async def test_detect_explains_only_what_it_returns(tmp_path: Path) -> None:
    bounded = service(tmp_path, max_explained=2)
    await bounded.anomaly_fit(AnomalyFit(model="m", backend="local_outlier_factor", data=DATA))
    asked = AnomalyScore(model="m", data=[*DATA, [900.0, -900.0]], threshold=0.99, explain=True)
    (row,) = (await bounded.anomaly_detect(context(), asked)).data
    assert (row.index, len(row.contributions or [])) == (len(DATA), 2)
    with pytest.raises(TooLarge):
        await bounded.anomaly_score(context(), asked)


# -- through HTTP


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings={"anomaly": {"max_rows": 50}}) as running:
        yield running


BAD: list[tuple[Mapping[str, Any], int, str]] = [
    ({"data": [[1], [2]], "contamination": 0}, 422, "contamination"),
    ({"data": [[1], [2]], "contamination": 0.51}, 422, "contamination"),
    ({"data": [[1], [2]], "backend": "vae"}, 422, "backend"),
    ({"data": [{"a": 1}, {"a": 2}], "schema": {"a": "base64"}}, 422, "use one of numeric, hash"),
    ({"data": [{"a": 1}, {"a": 2}]}, 400, "schema"),
    ({"data": [[1]]}, 400, "two or more"),
    ({"data": [[1], ["x"]]}, 422, "data"),
    ({"data": [[1], [None]]}, 422, "data"),
    ({"data": [[1], [10**400]]}, 422, "data"),
    ({"data": [[1], [1, 2]]}, 400, "features"),
    ({"data": [[1]] * 51}, 413, "anomaly.max_rows"),
    ({"data": [[1], [2]], "model": "../x"}, 400, "not allowed"),
    ({"model": "x"}, 422, "data"),
    ({"data": [[1], [2]], "contaminaton": 0.1}, 422, "contaminaton"),
]


async def test_a_bad_fit_is_refused_with_the_reason(server: RunningServer) -> None:
    for family in ("/v1/anomaly", "/v1/ml/anomaly"):
        for body, status, says in BAD:
            reply = await server.ask("POST", f"{family}/fit", body)
            assert reply.status == status, (body, reply.body)
            assert says in reply.json()["detail"]
    assert (await server.ask("GET", "/v1/anomaly/models")).json()["total"] == 0


async def test_infinity_in_the_body_is_refused(server: RunningServer) -> None:
    for number in ("1e999", "NaN", "Infinity"):
        reply = await server.ask("POST", "/v1/anomaly/fit", data=f'{{"data": [[1], [{number}]]}}')
        assert reply.status in (400, 422), reply.body


async def test_scoring_rows_of_another_width_or_kind_is_400(server: RunningServer) -> None:
    assert (await server.ask("POST", "/v1/anomaly/fit", {"data": [[1, 2], [3, 4]]})).status == 200
    for data in ([[1]], [[1, 2, 3]], [{"a": 1}], [[1, 2], [1]]):
        reply = await server.ask("POST", "/v1/anomaly/score", {"data": data})
        assert reply.status == 400, reply.body
    assert (await server.ask("POST", "/v1/anomaly/score", {"data": []})).json()["summary"]["anomaly_rate"] == 0


async def test_no_reply_leaves_a_documented_field_out(server: RunningServer) -> None:
    fit = (await server.ask("POST", "/v1/anomaly/fit", {"data": [[1], [3]]})).json()
    assert fit["encoder"] is None
    item = (await server.ask("GET", "/v1/anomaly/models")).json()["data"][0]
    assert (item["description"], item["error"]) == (None, None)
    row = (await server.ask("POST", "/v1/anomaly/score", {"data": [[1]]})).json()["data"][0]
    assert set(row) == {"index", "score", "is_anomaly", "raw_score"}
