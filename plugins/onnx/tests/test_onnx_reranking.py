"""Reranking: scores, the shapes of three APIs in one reply, the reranker of projects."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from onnx_kit import imported, overlap_reranker, put, reference, tokenizer_of, weights_of
from paddock_onnx.model import shares
from paddock_onnx.reranker import OnnxReranker
from paddock_onnx.reranking import sigmoid
from paddock_onnx.residency import Residency
from paddock_onnx.server import OnnxServer
from paddock_onnx.settings import OnnxSettings

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.contracts.providers import GatewayCall, ModelServer
from paddock.errors import BadRequest, TooLarge, ValidationFailed
from paddock.testing.reranker import RerankerSuite
from paddock.testing.serving import ModelServerSuite

MODEL = "org/rerank"
QUERY = "does a cow drink water"
DOCUMENTS = ["a ship in the harbour", "the cow will drink water", "water in the harbour"]


class TestOnnxReranker(RerankerSuite):
    """A cross-encoder that counts the words in common."""

    model = MODEL

    @pytest.fixture
    def reranker(self, tmp_path: Path) -> OnnxReranker:
        imported(tmp_path / "hub", overlap_reranker(tmp_path / "source"), MODEL)
        return OnnxReranker(Residency(HubCache(tmp_path / "hub"), OnnxSettings()))


class TestRerankServer(ModelServerSuite):
    """The server as the gateway knows it, asked to rerank."""

    model = MODEL
    unknown_model = "org/none"

    @pytest.fixture
    def server(self, tmp_path: Path) -> ModelServer:
        class RerankOnly(OnnxServer):
            operations = frozenset({"rerank"})

        imported(tmp_path / "hub", overlap_reranker(tmp_path / "source"), MODEL)
        return RerankOnly(Residency(HubCache(tmp_path / "hub"), OnnxSettings()))


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[OnnxServer]:
    imported(tmp_path / "hub", overlap_reranker(tmp_path / "source"), MODEL)
    found = OnnxServer(Residency(HubCache(tmp_path / "hub"), OnnxSettings(max_texts=10)))
    yield found
    await found.close()


async def ask(server: OnnxServer, **body: Json) -> Any:
    raw = json.dumps({"model": MODEL, "query": QUERY, "documents": DOCUMENTS} | body).encode()
    async with server.serve(GatewayCall(operation="rerank", model=MODEL, body=raw, stream=False)) as reply:
        return json.loads(await reply.read())


async def test_one_reply_serves_jina_cohere_and_the_universal_runtime(server: OnnxServer) -> None:
    reply = await ask(server)
    assert [one["index"] for one in reply["results"]] == [1, 2, 0]
    assert reply["results"][0]["document"] == {"text": DOCUMENTS[1]}
    assert reply["object"] == "list"
    assert [one["document"] for one in reply["data"]] == [DOCUMENTS[1], DOCUMENTS[2], DOCUMENTS[0]]
    scores = [one["relevance_score"] for one in reply["data"]]
    assert scores == [one["relevance_score"] for one in reply["results"]]
    assert scores == pytest.approx([sigmoid(count - 1.5) for count in (3, 1, 0)])
    assert reply["usage"]["total_tokens"] == reply["usage"]["prompt_tokens"] > 0
    assert reply["model"] == MODEL


@pytest.mark.parametrize("name", ["top_n", "top_k"])
async def test_top_n_and_top_k_cut_the_list(server: OnnxServer, name: str) -> None:
    assert [one["index"] for one in (await ask(server, **{name: 2}))["results"]] == [1, 2]
    assert len((await ask(server, **{name: 99}))["data"]) == 3


async def test_documents_are_left_out_when_they_are_not_wanted(server: OnnxServer) -> None:
    reply = await ask(server, return_documents=False)
    assert all("document" not in one for one in [*reply["results"], *reply["data"]])


async def test_documents_may_be_objects(server: OnnxServer) -> None:
    given: Json = [{"text": DOCUMENTS[0], "id": 5}, {"title": "cow", "body": "drink water"}]
    reply = await ask(server, documents=given)
    assert reply["results"][0]["document"] == given[1]
    assert reply["data"][1]["document"] == DOCUMENTS[0]
    reply = await ask(server, documents=given, rank_fields=["title", "body"])
    assert reply["data"][0]["document"] == "title: cow\nbody: drink water"


async def test_of_each_document_as_many_tokens_count_as_are_asked_for(server: OnnxServer) -> None:
    given: Json = ["ship ship cow water drink", "cow"]
    assert [one["index"] for one in (await ask(server, documents=given))["results"]] == [0, 1]
    reply = await ask(server, documents=given, max_tokens_per_doc=2)
    assert [one["index"] for one in reply["results"]] == [1, 0]
    assert reply["results"][1]["relevance_score"] == pytest.approx(sigmoid(-1.5))


async def test_what_is_no_text_in_a_document_is_read_as_json(server: OnnxServer) -> None:
    given: Json = [{"title": "cow", "tags": ["milk", None], "year": 5}]
    reply = await ask(server, documents=given, rank_fields=["title", "tags", "year"])
    assert reply["data"][0]["document"] == 'title: cow\ntags: ["milk",null]\nyear: 5'


async def test_no_documents_give_an_empty_list(server: OnnxServer) -> None:
    reply = await ask(server, documents=[])
    assert reply["results"] == reply["data"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"documents": [{"id": 5}]}, {"documents": "cow"}, {"documents": [1]}, {"query": None}, {"top_n": 0}, {"top_n": "x"},
        {"top_n": 1, "top_k": 2}, {"api_key": "x"}, {"documents": [{"text": "a"}], "rank_fields": ["titel"]},
        {"max_chunks_per_doc": 2}, {"truncate": "START"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_wrong_body_names_its_field(server: OnnxServer, body: dict[str, Json]) -> None:
    with pytest.raises(ValidationFailed):
        await ask(server, **body)


async def test_too_many_documents_are_refused_by_the_settings_name(server: OnnxServer) -> None:
    with pytest.raises(TooLarge, match=r"onnx\.max_texts"):
        await ask(server, documents=["a"] * 11)


async def test_long_parts_are_cut_or_refused_if_asked(server: OnnxServer) -> None:
    reply = await ask(server, documents=["cow water drink " + "ship " * 500, "ship"])
    assert reply["results"][0]["relevance_score"] == pytest.approx(sigmoid(1.5))
    assert (await ask(server, query="cow " * 500, documents=["cow " * 500]))["usage"]["total_tokens"] == 80
    for refused in ({"truncate": False}, {"truncation": False}):
        with pytest.raises(BadRequest, match="77 tokens"):
            await ask(server, documents=["ship " * 500], **refused)


def test_the_longer_part_is_cut_first() -> None:
    assert shares(5, 5, 20) == (5, 5)
    assert shares(5, 100, 20) == (5, 15)
    assert shares(100, 5, 20) == (15, 5)
    assert shares(100, 100, 20) == (10, 10)
    assert [sigmoid(value) for value in (-1000, 0, 1000)] == [0, 0.5, 1]


@pytest.mark.parametrize("family", ["bert", "roberta"])
async def test_a_built_cross_encoder_scores_pairs_as_its_weights_say(tmp_path: Path, family: str) -> None:
    import numpy as np

    put(tmp_path / "hub", "org/cross", family, "rerank", seed=3)
    residency = Residency(HubCache(tmp_path / "hub"), OnnxSettings())
    found = await OnnxReranker(residency).rerank("org/cross", QUERY, DOCUMENTS)
    await residency.close()
    for document, score in zip(DOCUMENTS, found, strict=True):
        pair = tokenizer_of(family).encode(QUERY, document)
        ids = np.array([pair.ids])
        weights = weights_of(family, "rerank", 1, 3)
        if family == "bert":  # its second text is of another kind: the same as with its embedding added
            kinds = weights["bert.embeddings.token_type_embeddings.weight"]
            expected = with_kinds(weights, ids, np.array([pair.type_ids]), kinds)
        else:
            expected = reference(family, "rerank", weights, ids, np.ones_like(ids))
        assert score == pytest.approx(sigmoid(float(expected[0, 0])), abs=1e-5)


def with_kinds(weights: dict[str, Any], ids: Any, types: Any, kinds: Any) -> Any:
    """The reference for token types: each place gets a word of its own that holds the difference."""
    import numpy as np

    words = weights["bert.embeddings.word_embeddings.weight"]
    own = words[ids[0]] + kinds[types[0]] - kinds[0]
    changed = weights | {"bert.embeddings.word_embeddings.weight": own}
    places = np.arange(ids.shape[1])[None]
    return reference("bert", "rerank", changed, places, np.ones_like(places))
