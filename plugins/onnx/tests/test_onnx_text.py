"""Classifiers and recognisers, directly and through a server."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from onnx_kit import LETTERS, imported, lexicon, put, reference, tokenizer_of, weights_of
from paddock_onnx.classification import OnnxClassifier
from paddock_onnx.entities import Labelled, OnnxRecogniser, Token, joined, labelled, spans
from paddock_onnx.residency import Residency
from paddock_onnx.settings import OnnxSettings

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.contracts.providers import Entity
from paddock.errors import BadRequest, ModelNotFound, TooLarge
from paddock.testing.hub_cache import cache_model
from paddock.testing.server import RunningServer, running_server

MOODS = ("neutral", "glad", "thirsty")
TAGS = ("O", "B-ANIMAL", "I-ANIMAL", "B-THING", "I-THING")
NAMES = {"cow": "B-ANIMAL", "milk": "I-ANIMAL", "ship": "B-THING", "harbour": "I-THING"}


@pytest.fixture
def residency(tmp_path: Path) -> Residency:
    hub = tmp_path / "hub"
    imported(hub, lexicon(tmp_path / "m", "classification", MOODS, {"milk": "glad", "water": "thirsty"}), "org/mood")
    many = lexicon(
        tmp_path / "t", "classification", MOODS, {"milk": "glad", "water": "thirsty"},
        problem_type="multi_label_classification",
    )  # fmt: skip
    imported(hub, many, "org/topics")
    imported(hub, lexicon(tmp_path / "n", "ner", TAGS, NAMES), "org/names")
    return Residency(HubCache(hub), OnnxSettings(max_texts=5))


async def test_a_text_gets_the_best_label_and_scores_that_add_up(residency: Residency) -> None:
    found = await OnnxClassifier(residency).classify("org/mood", ["some milk", "a ship", "water"])
    assert [one.label for one in found] == ["glad", "neutral", "thirsty"]
    for one in found:
        assert list(one.all_scores) == list(MOODS)
        assert sum(one.all_scores.values()) == pytest.approx(1)
        assert one.score == max(one.all_scores.values())
        assert one.labels == [one.label]


@pytest.mark.parametrize("graphs", [["model.onnx"], ["encoder_model.onnx", "decoder_model_merged.onnx"]])
async def test_a_document_model_is_refused_as_one(residency: Residency, tmp_path: Path, graphs: list[str]) -> None:
    kind = "layoutlmv3" if len(graphs) == 1 else "vision-encoder-decoder"
    files = {"config.json": f'{{"model_type": "{kind}"}}'.encode(), **dict.fromkeys(graphs, b"graph")}
    cache_model(tmp_path / "hub", "org/page", files)
    with pytest.raises(BadRequest, match=rf"org/page is of the kind {kind} and reads no texts.*/v1/documents/extract"):
        await OnnxClassifier(residency).classify("org/page", ["a"])


async def test_labels_of_a_multi_label_model_do_not_exclude_each_other(residency: Residency) -> None:
    both, none = await OnnxClassifier(residency).classify("org/topics", ["milk and water", ""])
    assert set(both.labels) >= {"glad", "thirsty"}
    assert both.all_scores["glad"] > 0.9
    assert both.all_scores["thirsty"] > 0.9
    assert len(none.all_scores) == 3


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet"])
async def test_a_built_classifier_scores_as_its_weights_say(tmp_path: Path, family: str) -> None:
    put(tmp_path / "hub", "org/built", family, "classification")
    residency = Residency(HubCache(tmp_path / "hub"), OnnxSettings())
    (found,) = await OnnxClassifier(residency).classify("org/built", ["a cow drinks"])
    ids = np.array([tokenizer_of(family).encode("a cow drinks").ids])
    logits = reference(family, "classification", weights_of(family, "classification"), ids, np.ones_like(ids))[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    assert list(found.all_scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)


async def test_max_length_hides_what_is_behind_it(residency: Residency) -> None:
    classifier = OnnxClassifier(residency)
    text = "a ship and a ship, then milk"
    assert (await classifier.classify("org/mood", [text]))[0].label == "glad"
    assert (await classifier.classify("org/mood", [text], 6))[0].label == "neutral"
    with pytest.raises(BadRequest, match="80 tokens"):
        await classifier.classify("org/mood", [text], 81)


async def test_entities_have_their_place_in_the_text(residency: Residency) -> None:
    texts = ["The cow milk saw a ship.", "", "ünïcödé 🐄 cow cow", "nothing here"]
    found = await OnnxRecogniser(residency).entities("org/names", texts)
    assert [[(one.text, one.label) for one in entities] for entities in found] == [
        [("cow milk", "ANIMAL"), ("ship", "THING")],
        [],
        [("cow", "ANIMAL"), ("cow", "ANIMAL")],
        [],
    ]
    for text, entities in zip(texts, found, strict=True):
        assert all(text[one.start : one.end] == one.text and 0 < one.score <= 1 for one in entities)


async def test_a_text_longer_than_the_window_is_read_to_its_end(residency: Residency) -> None:
    recogniser = OnnxRecogniser(residency)
    text = "".join(f"{letter} " * 9 + "cow milk " for letter in "abcdefghijklmnopqrstuvwxyz" * 3)
    (found,) = await recogniser.entities("org/names", [text])
    assert len(found) == text.count("cow")
    assert {text[one.start : one.end] for one in found} == {"cow milk"}
    (cut,) = await recogniser.entities("org/names", [text], 80)
    assert 0 < len(cut) < 10
    assert cut == found[: len(cut)]


async def test_a_model_for_something_else_and_too_many_texts_are_refused(residency: Residency) -> None:
    with pytest.raises(BadRequest, match="/v1/ner"):
        await OnnxClassifier(residency).classify("org/names", ["a"])
    with pytest.raises(BadRequest, match="/v1/classify"):
        await OnnxRecogniser(residency).entities("org/mood", ["a"])
    with pytest.raises(TooLarge, match="max_texts"):
        await OnnxRecogniser(residency).entities("org/names", ["a"] * 6)
    with pytest.raises(ModelNotFound):
        await OnnxClassifier(residency).classify("org/none", ["a"])


def tokens(*scores: tuple[float, float, float]) -> list[Token]:
    """The tokens of ``ab cd``: two words of two tokens each."""
    places = [(0, 1, 0), (1, 2, 0), (3, 4, 1), (4, 5, 1)]
    return [Token(*place, np.array(score)) for place, score in zip(places, scores, strict=True)]


SCORES = ((0.4, 0.6, 0.0), (0.0, 0.1, 0.9), (0.6, 0.4, 0.0), (0.1, 0.9, 0.0))
LABELS = ("O", "B-X", "B-Y")


def test_strategies_give_a_word_the_label_of_its_first_its_surest_or_its_average_token() -> None:
    def found(strategy: Any) -> list[str]:
        return [part.label for part in labelled(tokens(*SCORES), LABELS, strategy)]

    assert found("simple") == ["B-X", "B-Y", "O", "B-X"]
    assert found("first") == ["B-X", "O"]
    assert found("max") == ["B-Y", "B-X"]
    assert found("average") == ["B-Y", "B-X"]


def test_neighbours_of_one_label_are_one_entity_and_b_begins_another() -> None:
    parts = [
        Labelled(0, 2, "B-P", 0.5), Labelled(2, 5, "I-P", 1.0), Labelled(5, 7, "B-P", 0.8), Labelled(7, 9, "O", 0.9),
        Labelled(9, 11, "L", 0.7), Labelled(11, 13, "L", 0.9), Labelled(13, 14, "I-P", 0.6),
    ]  # fmt: skip
    assert spans("ab cd ef gh ijk", parts) == [
        Entity(text="ab cd", label="P", start=0, end=5, score=0.75),
        Entity(text="e", label="P", start=6, end=7, score=0.8),
        Entity(text="gh i", label="L", start=9, end=13, score=0.8),
        Entity(text="j", label="P", start=13, end=14, score=0.6),
    ]


def test_of_a_token_in_two_windows_the_one_with_more_around_it_counts() -> None:
    made = tokenizer_of("distilbert")
    whole = made.encode(" ".join(LETTERS[40:80]), add_special_tokens=False)
    whole.truncate(16, stride=2)
    windows = [made.post_process(part) for part in (whole, *whole.overflowing)]
    rows = [np.array([[number, 0]] * len(part.ids), dtype=np.float32) for number, part in enumerate(windows)]
    found = joined(windows, rows, 16)
    assert [token.start for token in found] == [2 * place for place in range(40)]
    read = [round(float(np.log(token.scores[0] / token.scores[1]))) for token in found]
    assert read == [0] * 15 + [1] * 14 + [2] * 11


@pytest_asyncio.fixture
async def server(tmp_path: Path, residency: Residency) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings={"models": {"cache_dir": str(tmp_path / "hub")}}) as found:
        yield found


async def test_classify_and_ner_answer_in_the_universal_runtimes_shape(server: RunningServer) -> None:
    reply = (await server.ask("POST", "/v1/classify", {"model": "org/mood", "texts": ["milk"]})).json()
    assert (reply["object"], reply["total_count"], reply["model"]) == ("list", 1, "org/mood")
    item = reply["data"][0]
    assert (item["index"], item["label"], set(item["all_scores"])) == (0, "glad", set(MOODS))
    assert item["score"] == item["all_scores"]["glad"]
    reply = (await server.ask("POST", "/v1/ner", {"model": "onnx/org/names", "texts": ["a cow", "b"]})).json()
    assert reply["data"][0]["entities"][0].items() >= {"text": "cow", "label": "ANIMAL", "start": 2, "end": 5}.items()
    assert reply["data"][1] == {"index": 1, "entities": []}
    strategy: Json = {"model": "org/names", "texts": ["a cow"], "aggregation_strategy": "max"}
    assert (await server.ask("POST", "/v1/ner", strategy)).status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/classify", {"model": "org/moods", "texts": ["a"]}, 404, "near: org/mood"),
        ("/v1/classify", {"model": "org/names", "texts": ["a"]}, 400, "/v1/ner"),
        ("/v1/classify", {"model": "../x", "texts": ["a"]}, 400, "model"),
        ("/v1/classify", {"model": "org/mood", "texts": "a"}, 422, "texts"),
        ("/v1/classify", {"model": "org/mood", "texts": ["a"], "max_length": 9999}, 400, "80 tokens"),
        (
            "/v1/ner",
            {"model": "org/names", "texts": ["a"], "aggregation_strategy": "best"},
            422,
            "aggregation_strategy",
        ),
        ("/v1/ner", {"model": "org/names", "texts": ["a"] * 3000}, 413, "onnx.max_texts"),
        ("/v1/ner", {"texts": ["a"]}, 422, "model"),
        ("/v1/ner", {"model": "org/names", "texts": ["a"], "base_url": "http://x"}, 422, "base_url"),
    ],
)
async def test_a_wrong_call_says_what_is_wrong(
    server: RunningServer, path: str, body: Json, status: int, words: str
) -> None:
    reply = await server.ask("POST", path, body)
    assert (reply.status, words in reply.json()["detail"]) == (status, True), reply.body


async def test_health_tells_what_is_loaded_and_unloading_frees_it(server: RunningServer) -> None:
    for model in ("org/mood", "org/topics"):
        await server.ask("POST", "/v1/classify", {"model": model, "texts": ["milk"]})
    assert sorted((await server.ask("GET", "/health")).json()["loaded_models"]) == ["org/mood", "org/topics"]
    reply = await server.ask("POST", "/v1/models/unload", {"model": "onnx/org/mood"})
    assert reply.json() == {"unloaded": 1, "models": ["org/mood"]}
    assert (await server.ask("POST", "/v1/models/unload")).json() == {"unloaded": 1, "models": ["org/topics"]}
    assert (await server.ask("POST", "/v1/models/unload")).json() == {"unloaded": 0, "models": []}
    assert (await server.ask("GET", "/health")).json()["loaded_models"] == []


@pytest.mark.parametrize("model", ["org/mood", "onnx/org/mood", "org/kept", "core/hashing"])
async def test_unloading_a_model_that_is_known_and_not_loaded_frees_nothing(
    server: RunningServer, tmp_path: Path, model: str
) -> None:
    cache_model(tmp_path / "hub", "org/kept", {"README.md": b"nothing that can be run"})
    reply = await server.ask("POST", "/v1/models/unload", {"model": model})
    assert (reply.status, reply.json()) == (200, {"unloaded": 0, "models": []}), reply.body


@pytest.mark.parametrize("model", ["org/moods", "onnx/org/moods", "core/moods", "mod", "../org/mood"])
async def test_unloading_a_model_that_nothing_knows_is_not_found_with_near_names(
    server: RunningServer, model: str
) -> None:
    reply = await server.ask("POST", "/v1/models/unload", {"model": model})
    assert (reply.status, "org/mood" in reply.json()["detail"]) == (404, True), reply.body


async def test_a_model_that_was_deleted_while_it_is_loaded_can_be_unloaded(
    server: RunningServer, tmp_path: Path
) -> None:
    await server.ask("POST", "/v1/classify", {"model": "org/mood", "texts": ["milk"]})
    shutil.rmtree(HubCache(tmp_path / "hub").folder("org/mood"))
    reply = await server.ask("POST", "/v1/models/unload", {"model": "onnx/org/mood"})
    assert reply.json() == {"unloaded": 1, "models": ["org/mood"]}


async def test_a_model_that_is_deleted_leaves_memory_too(server: RunningServer) -> None:
    await server.ask("POST", "/v1/classify", {"model": "org/mood", "texts": ["milk"]})
    assert (await server.ask("DELETE", "/v1/models/org/mood")).status == 200
    assert (await server.ask("GET", "/health")).json()["loaded_models"] == []


async def test_an_alias_of_the_settings_leads_to_a_classifier(tmp_path: Path, residency: Residency) -> None:
    settings: dict[str, dict[str, Any]] = {
        "models": {"cache_dir": str(tmp_path / "hub")},
        "gateway": {"aliases": {"feelings": "onnx/org/mood"}},
    }
    async with running_server(tmp_path / "data", settings=settings) as server:
        reply = await server.ask("POST", "/v1/classify", {"model": "feelings", "texts": ["milk"]})
        assert (reply.status, reply.json()["model"]) == (200, "feelings"), reply.body


async def test_a_key_for_some_models_classifies_with_those_only(tmp_path: Path, residency: Residency) -> None:
    settings: dict[str, dict[str, Any]] = {
        "models": {"cache_dir": str(tmp_path / "hub")},
        "auth": {"management_keys": ["manage"]},
    }
    async with running_server(tmp_path / "data", settings=settings) as server:
        body: Json = {"name": "some", "kind": "inference", "scopes": {"models": ["org/mood", "onnx/org/names"]}}
        made = await server.ask("POST", "/api/v1/auth/keys", body, headers={"Authorization": "Bearer manage"})
        key = {"Authorization": f"Bearer {made.json()['key']}"}
        for model, status in (("org/mood", 200), ("org/topics", 404)):
            reply = await server.ask("POST", "/v1/classify", {"model": model, "texts": ["a"]}, headers=key)
            assert reply.status == status, reply.body
        reply = await server.ask("POST", "/v1/ner", {"model": "org/names", "texts": ["a"]}, headers=key)
        assert reply.status == 200, reply.body
        assert (await server.ask("POST", "/v1/models/unload", headers=key)).status == 403
