"""The endpoints: names, versions, base models, files, callers, crashes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paddock_classifier import ClassifierService, ClassifierSettings, plugin
from paddock_classifier.base_models import MINILM

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.contracts.base import Caller, Scope
from paddock.contracts.classifiers import (
    ClassifierFit,
    ClassifierFitVersioned,
    ClassifierModel,
    ClassifierPath,
    ClassifierPredict,
    ClassifierSave,
    Example,
)
from paddock.contracts.providers import Embedder, Environment, TextKind, TypeName, Vectors
from paddock.errors import BadName, BadRequest, Conflict, Forbidden, ModelNotFound, ProviderUnavailable, TooLarge
from paddock.testing.host import MemoryHost, MemoryRecords, context
from paddock.testing.server import RunningServer, running_server

EXAMPLES = [
    Example(text=text, label=label)
    for text, label in (
        ("Book a flight to Rome", "booking"),
        ("Reserve a hotel room", "booking"),
        ("I want to book a table", "booking"),
        ("Cancel my order", "cancellation"),
        ("Please cancel the booking", "cancellation"),
        ("Stop my subscription, cancel it", "cancellation"),
    )
]


class CachedConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Config of `CachedModels`."""

    model: str
    batch_size: int = 16


class CachedModels(Embedder):
    """Stands in for the model cache: knows the models in `models`, and tells what it was asked for."""

    types = (TypeName("UniversalEmbedder", CachedConfig),)

    def __init__(self, *models: str, version: str = "1") -> None:
        self.models = models
        self.version = version

    async def embed_batch(self, texts: Sequence[str], config: CachedConfig, kind: TextKind) -> Vectors:
        if config.model not in self.models:
            raise ModelNotFound(f"{config.model} is not in the model cache: paddock models download {config.model}")
        return await HashingEmbedder().embed_batch(texts, HashingConfig(dimension=128), kind)

    def fingerprint(self, config: CachedConfig) -> str:
        return f"cached:{config.model}:{self.version}"


def host_with(*embedders: Embedder, records: MemoryRecords | None = None) -> MemoryHost:
    host = MemoryHost(records)
    for embedder in (HashingEmbedder(), *embedders):
        host.embedders |= {declared.name: embedder for declared in embedder.types}
    return host


def service(folder: Path, host: MemoryHost | None = None, **settings: Any) -> ClassifierService:
    return ClassifierService(ClassifierSettings(**settings), folder / "models" / "classifier", host or host_with())


def request(model: str = "m", examples: Sequence[Example] = EXAMPLES, **given: Any) -> ClassifierFit:
    return ClassifierFit(model=model, training_data=list(examples), **given)


@pytest.fixture
def classifiers(tmp_path: Path) -> ClassifierService:
    return service(tmp_path)


async def label(classifiers: ClassifierService, text: str, model: str = "m") -> str:
    return (await classifiers.classifier_predict(context(), ClassifierPredict(model=model, texts=[text]))).data[0].label


def test_the_plugin_declares_its_settings_and_its_service(tmp_path: Path) -> None:
    assert plugin.paddock_settings() == ("classifier", ClassifierSettings)
    env = Environment(ClassifierSettings(), tmp_path, http=None, host=MemoryHost(), hub_cache=tmp_path)  # type: ignore[arg-type]  # it reaches nobody
    assert [type(one) for one in plugin.paddock_services(env)] == [ClassifierService]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    heavy = {"numpy", "sklearn", "scipy", "onnx", "onnxruntime"}
    code = f"import sys, paddock_classifier.learning, paddock_classifier.graph; print(*{heavy!r} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


async def test_a_classifier_learns_tells_all_scores_and_survives_a_restart(tmp_path: Path) -> None:
    before = service(tmp_path)
    done = await before.classifier_fit(request())
    assert (done.samples_fitted, done.num_classes, done.labels) == (6, 2, ["booking", "cancellation"])
    asked = ClassifierPredict(model="m", texts=["book a room", "cancel this", "book a room"])
    found = await before.classifier_predict(context(), asked)
    assert [row.label for row in found.data] == ["booking", "cancellation", "booking"]
    for row in found.data:
        assert row.score == max(row.all_scores.values()) == row.all_scores[row.label]
        assert sum(row.all_scores.values()) == pytest.approx(1, abs=1e-5)
    assert await service(tmp_path).classifier_predict(context(), asked) == found


async def test_a_fit_replaces(classifiers: ClassifierService) -> None:
    await classifiers.classifier_fit(request())
    assert await label(classifiers, "cancel this") == "cancellation"
    swapped = [Example(text=one.text, label="b" if one.label == "booking" else "c") for one in EXAMPLES]
    await classifiers.classifier_fit(request(examples=swapped))
    assert await label(classifiers, "cancel this") == "c"
    assert (await classifiers.classifier_models(context())).total == 1


async def test_versions_differ_and_latest_is_the_newest(classifiers: ClassifierService) -> None:
    fits = [ClassifierFitVersioned(model="m", training_data=EXAMPLES) for _ in range(3)]
    done = await asyncio.gather(*map(classifiers.ml_classifier_fit, fits))
    names = [one.versioned_name for one in done]
    assert len(set(names)) == 3
    asked = ClassifierPredict(model="m-latest", texts=["cancel"])
    assert (await classifiers.ml_classifier_predict(context(), asked)).model == max(names)
    with pytest.raises(ModelNotFound, match="m-latest"):
        await classifiers.classifier_predict(context(), ClassifierPredict(model="m", texts=[]))
    kept = ClassifierFitVersioned(model="n", training_data=EXAMPLES, overwrite=True)
    assert (await classifiers.ml_classifier_fit(kept)).model == "n"
    assert (await classifiers.ml_classifier_load(context(), ClassifierModel(model="n-latest"))).model == "n"


async def test_a_description_is_kept_by_save_and_not_by_fit(classifiers: ClassifierService) -> None:
    await classifiers.classifier_fit(request(description="not kept"))
    assert (await classifiers.classifier_save(context(), ClassifierSave(model="m"))).description is None
    await classifiers.classifier_save(context(), ClassifierSave(model="m", description="intents"))
    (item,) = (await classifiers.classifier_models(context())).data
    assert (item.description, item.labels, item.base_model) == ("intents", ["booking", "cancellation"], "core/hashing")


async def test_a_deleted_classifier_is_gone(classifiers: ClassifierService) -> None:
    await classifiers.classifier_fit(request())
    assert (await classifiers.classifier_delete(ClassifierPath(model_name="m"))).status == "deleted"
    with pytest.raises(ModelNotFound):
        await label(classifiers, "x")
    with pytest.raises(ModelNotFound):
        await classifiers.classifier_delete(ClassifierPath(model_name="m"))
    await classifiers.classifier_fit(request(model="intents"))
    with pytest.raises(ModelNotFound, match="near names: intents"):
        await classifiers.classifier_delete(ClassifierPath(model_name="intent"))


@pytest.mark.parametrize("name", ["..", "", "a/b", "a\\b", "a\0b", "ü", "z" * 65, "/etc", "%2e%2e"])
async def test_a_name_that_would_walk_the_tree_is_refused_everywhere(classifiers: ClassifierService, name: str) -> None:
    calls = [
        classifiers.classifier_fit(request(name)),
        classifiers.ml_classifier_fit(ClassifierFitVersioned(model=name, training_data=EXAMPLES)),
        classifiers.classifier_predict(context(), ClassifierPredict(model=name, texts=["x"])),
        classifiers.classifier_load(context(), ClassifierModel(model=name)),
        classifiers.classifier_save(context(), ClassifierSave(model=name)),
        classifiers.classifier_delete(ClassifierPath(model_name=name)),
    ]
    for call in calls:
        with pytest.raises(BadName):
            await call


async def test_an_example_given_twice_counts_once(tmp_path: Path) -> None:
    one, two = service(tmp_path / "one"), service(tmp_path / "two")
    await one.classifier_fit(request())
    assert (await two.classifier_fit(request(examples=[*EXAMPLES, *EXAMPLES]))).samples_fitted == 12
    asked = ClassifierPredict(model="m", texts=["cancel the room"])
    found = [(await each.classifier_predict(context(), asked)).data for each in (one, two)]
    assert found[0] == found[1]


async def test_a_text_with_two_labels_is_learnt_as_undecided(classifiers: ClassifierService) -> None:
    examples = [Example(text="same", label="a"), Example(text="same", label="b")]
    await classifiers.classifier_fit(request(examples=examples))
    found = await classifiers.classifier_predict(context(), ClassifierPredict(model="m", texts=["same"]))
    assert found.data[0].score == pytest.approx(0.5, abs=0.05)


async def test_no_texts_have_no_labels(classifiers: ClassifierService) -> None:
    await classifiers.classifier_fit(request())
    found = await classifiers.classifier_predict(context(), ClassifierPredict(model="m", texts=[]))
    assert (found.data, found.total_count) == ([], 0)


async def test_a_reply_has_only_so_many_scores(tmp_path: Path) -> None:
    bounded = service(tmp_path, max_scores=4)
    await bounded.classifier_fit(request())
    assert (await bounded.classifier_predict(context(), ClassifierPredict(model="m", texts=["x"] * 2))).total_count == 2
    with pytest.raises(TooLarge, match=r"classifier\.max_scores"):
        await bounded.classifier_predict(context(), ClassifierPredict(model="m", texts=["x"] * 3))


# -- base models


async def test_without_a_base_model_minilm_is_used_when_it_is_there(tmp_path: Path) -> None:
    there = service(tmp_path / "there", host_with(CachedModels(MINILM)))
    assert (await there.classifier_fit(request())).base_model == MINILM
    for host in (host_with(CachedModels()), host_with()):
        assert (await service(tmp_path / "not", host).classifier_fit(request())).base_model == "core/hashing"
    named = service(tmp_path / "named", host_with(CachedModels("x/y")), base_model="x/y")
    assert (await named.classifier_fit(request())).base_model == "x/y"


@pytest.mark.parametrize("name", ["onnx/x/y", "hashing"])
async def test_a_base_model_goes_by_its_name_in_the_catalogue_too(tmp_path: Path, name: str) -> None:
    made = service(tmp_path, host_with(CachedModels("x/y")))
    assert (await made.classifier_fit(request(base_model=name))).base_model == name
    assert await label(made, "Cancel my order")


async def test_an_unknown_base_model_is_not_found_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    cached = service(tmp_path, host_with(CachedModels(MINILM)))
    with pytest.raises(ModelNotFound, match="paddock models download org/other"):
        await cached.classifier_fit(request(base_model="org/other"))
    for name in ("org/other", "ollama/x", "openai/x"):
        with pytest.raises(ModelNotFound, match="pip install paddock-"):
            await service(tmp_path).classifier_fit(request(base_model=name))
    assert (await cached.classifier_models(context())).total == 0


async def test_a_base_model_that_changed_is_a_conflict(tmp_path: Path) -> None:
    await service(tmp_path, host_with(CachedModels(MINILM))).classifier_fit(request(base_model=MINILM))
    changed = service(tmp_path, host_with(CachedModels(MINILM, version="2")))
    with pytest.raises(Conflict, match="fit the model again"):
        await label(changed, "x")


async def test_iterations_reach_the_saved_model(tmp_path: Path) -> None:
    one, two = service(tmp_path / "one"), service(tmp_path / "two")
    await one.classifier_fit(request(num_iterations=1))
    await two.classifier_fit(request(num_iterations=50, batch_size=3))
    asked = ClassifierPredict(model="m", texts=["cancel the room"])
    first, second = [(await each.classifier_predict(context(), asked)).data[0].score for each in (one, two)]
    assert first != second


# -- what is refused


@pytest.mark.parametrize(
    ("examples", "error", "says"),
    [
        ([], BadRequest, "two or more"),
        (EXAMPLES[:3], BadRequest, "has 1 label:"),
        ([*EXAMPLES, Example(text="  ", label="booking")], BadRequest, r"training_data\[6\]"),
        ([*EXAMPLES, Example(text="x", label="")], BadRequest, "empty label"),
        (EXAMPLES * 2, TooLarge, r"classifier\.max_texts"),
        ([*EXAMPLES, Example(text="x" * 101, label="booking")], TooLarge, r"classifier\.max_text"),
        ([*EXAMPLES, Example(text="x", label="y" * 21)], TooLarge, r"classifier\.max_label"),
        ([Example(text=f"t{at}", label=f"l{at}") for at in range(6)], TooLarge, r"classifier\.max_classes"),
    ],
)
async def test_bad_examples_are_refused_with_the_reason(
    tmp_path: Path, examples: Sequence[Example], error: type[Exception], says: str
) -> None:
    host = host_with()
    bounded = service(tmp_path, host, max_texts=10, max_text=100, max_label=20, max_classes=5)
    with pytest.raises(error, match=says):
        await bounded.classifier_fit(request(examples=examples))
    assert (host.events[0]["type"], str(host.events[0]["error"]) != "") == ("classifier_fit", True)


async def test_a_fit_is_an_event(tmp_path: Path) -> None:
    host = host_with()
    await service(tmp_path, host).classifier_fit(request())
    (event,) = host.events
    assert (event["type"], event["model"], event["samples"], event["classes"]) == ("classifier_fit", "m", 6, 2)
    assert event["training_time_ms"] > 0


async def test_a_caller_sees_and_uses_only_the_models_of_its_key(classifiers: ClassifierService) -> None:
    for name in ("mine-a", "other"):
        await classifiers.classifier_fit(request(name))
    limited = context(Caller("inference", "key", "k", Scope(models=("mine*",))))
    assert [item.name for item in (await classifiers.classifier_models(limited)).data] == ["mine-a"]
    for name in ("other", "nope"):
        with pytest.raises(Forbidden):
            await classifiers.classifier_predict(limited, ClassifierPredict(model=name, texts=["x"]))


def change(folder: Path, **facts: Any) -> None:
    note = msgspec.json.decode((folder / "model.json").read_bytes())
    note["facts"] |= facts
    (folder / "model.json").write_bytes(msgspec.json.encode(note))


def cut(folder: Path) -> None:
    (graph,) = folder.glob("graph-*.onnx")
    graph.write_bytes(graph.read_bytes()[:-50])


@pytest.mark.parametrize("damage", ["graph", "labels", "facts"])
async def test_a_damaged_model_says_so_and_others_work(tmp_path: Path, damage: str) -> None:
    before = service(tmp_path)
    for name in ("good", "m"):
        await before.classifier_fit(request(name))
    folder = tmp_path / "models/classifier/m"
    if damage == "graph":
        cut(folder)
    else:
        change(folder, labels=["one", "two", "three"] if damage == "labels" else 7)
    after = service(tmp_path)
    with pytest.raises(ProviderUnavailable, match="damaged"):
        await label(after, "x")
    assert await label(after, "cancel", "good") == "cancellation"
    assert (await after.classifier_models(context())).total == 2
    assert (await after.classifier_delete(ClassifierPath(model_name="m"))).model == "m"


async def test_a_long_fit_that_the_end_cut_short_is_done_at_the_next_start(tmp_path: Path) -> None:
    records = MemoryRecords()
    host = host_with(records=records)
    before = service(tmp_path, host)
    work = asyncio.ensure_future(before.classifier_fit(request(num_iterations=1000, batch_size=2)))
    await records.noted.wait()
    host.stopping.set()
    with pytest.raises(ProviderUnavailable, match="stopping"):
        await work
    assert len(await records.all("fit")) == 1
    host.stopping.clear()
    after = service(tmp_path, host)
    async with after.running(), asyncio.timeout(120):
        await after._fits.settled()
    assert await records.all("fit") == {}
    assert await label(after, "cancel") == "cancellation"


# -- through HTTP


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings={"classifier": {"max_texts": 50}}) as running:
        yield running


TWO = [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]
BAD: list[tuple[Mapping[str, Any], int, str]] = [
    ({"training_data": TWO}, 422, "model"),
    ({"model": "m"}, 422, "training_data"),
    ({"model": "m", "training_data": []}, 400, "two or more"),
    ({"model": "m", "training_data": TWO[:1]}, 400, "two or more"),
    ({"model": "m", "training_data": [{"text": "x"}]}, 422, "label"),
    ({"model": "m", "training_data": [{"text": 7, "label": "a"}]}, 422, "text"),
    ({"model": "m", "training_data": TWO, "num_iterations": 0}, 422, "num_iterations"),
    ({"model": "m", "training_data": TWO, "batch_size": 1}, 422, "batch_size"),
    ({"model": "../m", "training_data": TWO}, 400, "not allowed"),
    ({"model": "m", "training_data": TWO * 30}, 413, "classifier.max_texts"),
    (
        {"model": "m", "training_data": TWO, "base_model": "sentence-transformers/nope"},
        404,
        "sentence-transformers/nope",
    ),
]


async def test_a_bad_fit_is_refused_with_the_reason(server: RunningServer) -> None:
    for family in ("/v1/classifier", "/v1/ml/classifier"):
        for body, status, says in BAD:
            reply = await server.ask("POST", f"{family}/fit", body)
            assert reply.status == status, (body, reply.body)
            assert says in reply.json()["detail"]
    assert (await server.ask("GET", "/v1/classifier/models")).json()["total"] == 0


async def test_half_a_surrogate_pair_in_a_label_is_refused_and_the_server_lives(server: RunningServer) -> None:
    body = rb'{"model": "m", "training_data": [{"text": "x", "label": "\ud800"}, {"text": "y", "label": "b"}]}'
    assert (await server.ask("POST", "/v1/classifier/fit", data=body)).status == 422
    good = {"model": "m", "training_data": [{"text": "x", "label": "\u001b[31m\U0001f600"}, *TWO]}
    done = await server.ask("POST", "/v1/classifier/fit", good)
    assert (done.status, done.json()["num_classes"]) == (200, 3)
