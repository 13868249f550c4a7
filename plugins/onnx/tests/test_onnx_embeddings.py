"""Embeddings: pooling, prompts, lengths, the wire; the embedders of projects."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pytest_asyncio
from onnx_kit import (
    FAMILIES,
    SENTENCE,
    WIDTH,
    imported,
    overlap_reranker,
    put,
    reference,
    tiny,
    tokenizer_of,
    weights_of,
)
from paddock_onnx.embedder import MINILM, OnnxEmbedder
from paddock_onnx.residency import Residency
from paddock_onnx.server import OnnxServer
from paddock_onnx.settings import OnnxSettings
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.contracts.providers import GatewayCall, ModelServer
from paddock.errors import BadName, BadRequest, ModelNotFound, PaddockError, TooLarge, UpstreamTimeout, ValidationFailed
from paddock.testing.embedder import EmbedderSuite
from paddock.testing.serving import ModelServerSuite

MODEL = "org/tiny"
TEXTS = ["a cow drinks water", "ship", "milk milk milk, and a harbour full of milk!"]


def made(root: Path, settings: OnnxSettings | None = None) -> Residency:
    return Residency(HubCache(root), settings or OnnxSettings())


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[OnnxServer]:
    found = OnnxServer(made(tmp_path / "hub", OnnxSettings(max_texts=10, max_text_chars=10_000)))
    yield found
    await found.close()


async def ask(
    server: OnnxServer, body: dict[str, Json] | bytes, operation: Any = "embeddings", model: str = MODEL
) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps({"model": model, **body}).encode()
    async with server.serve(GatewayCall(operation=operation, model=model, body=raw, stream=False)) as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "application/json"
        read = await reply.read()
        assert [piece async for piece in reply.chunks()] == [read]
        return json.loads(read)


async def vectors(server: OnnxServer, **body: Json) -> np.ndarray:
    return np.array([one["embedding"] for one in (await ask(server, body))["data"]])


@pytest.mark.parametrize("family", FAMILIES)
async def test_texts_become_the_mean_of_their_tokens(tmp_path: Path, server: OnnxServer, family: str) -> None:
    put(tmp_path / "hub", MODEL, family, files=SENTENCE)
    tokenizer = tokenizer_of(family)
    found = await vectors(server, input=TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = np.array([tokenizer.encode(text).ids])
        mean = reference(family, "embedding", weights_of(family, "embedding"), ids, np.ones_like(ids))[0].mean(0)
        assert np.allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "pooled"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda rows: rows[0]),
        ({"pooling_mode_lasttoken": True}, lambda rows: rows[-1]),
        ({"pooling_mode_max_tokens": True}, lambda rows: rows.max(0)),
        ({"pooling_mode": "lasttoken"}, lambda rows: rows[-1]),
    ],
)
async def test_the_pooling_is_that_of_the_models_own_files(
    tmp_path: Path, server: OnnxServer, config: dict[str, Json], pooled: Any
) -> None:
    put(tmp_path / "hub", MODEL, files={**SENTENCE, "1_Pooling/config.json": config})
    found = await vectors(server, input=TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        ids = np.array([tokenizer_of("bert").encode(text).ids])
        rows = reference("bert", "embedding", weights_of("bert", "embedding"), ids, np.ones_like(ids))[0]
        assert np.allclose(vector, pooled(rows) / np.linalg.norm(pooled(rows)), atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [{"pooling_mode_weightedmean_tokens": True}, {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}],
)
def test_a_pooling_that_is_not_done_is_refused_at_import(tmp_path: Path, config: dict[str, Json]) -> None:
    with pytest.raises(ValidationFailed, match="pooling"):
        put(tmp_path / "hub", MODEL, files={**SENTENCE, "1_Pooling/config.json": config})


async def test_base64_is_little_endian_float32_of_the_same_numbers(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL)
    floats = await vectors(server, input="a cow", encoding_format="float")
    packed = (await ask(server, {"input": "a cow", "encoding_format": "base64"}))["data"][0]["embedding"]
    assert np.allclose(np.frombuffer(base64.b64decode(packed), dtype="<f4"), floats[0])


async def test_the_reply_counts_tokens_and_echoes_the_model(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL)
    reply = await ask(server, {"input": ["cow", "cow"], "user": "somebody"})
    assert reply["object"] == "list"
    assert reply["model"] == MODEL
    assert reply["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert [one["index"] for one in reply["data"]] == [0, 1]
    assert {one["object"] for one in reply["data"]} == {"embedding"}


async def test_dimensions_shorten_and_normalise_again(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL)
    whole, short = await vectors(server, input="a cow"), await vectors(server, input="a cow", dimensions=8)
    assert short.shape == (1, 8)
    assert np.allclose(short[0], whole[0, :8] / np.linalg.norm(whole[0, :8]), atol=1e-6)
    with pytest.raises(BadRequest, match=f"vectors of {WIDTH} numbers"):
        await vectors(server, input="a cow", dimensions=WIDTH + 1)


PROMPTS: dict[str, Json] = {"prompts": {"query": "drink: ", "passage": "ship: "}, "default_prompt_name": "passage"}


async def test_prompts_are_those_of_the_models_own_files(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL, files={**SENTENCE, "config_sentence_transformers.json": PROMPTS})
    plain = await vectors(server, input="a cow")
    for name in ("document", "passage", "search_document"):
        assert np.allclose(await vectors(server, input="a cow", input_type=name), plain)
    query = await vectors(server, input="a cow", task="query")
    assert not np.allclose(query, plain)
    assert np.allclose(await vectors(server, input="a cow", prompt_name="search_query"), query)
    with pytest.raises(BadRequest, match="one of query, document, passage"):
        await vectors(server, input="a cow", input_type="clustering")


async def test_a_prompts_tokens_do_not_count_where_the_model_says_so(tmp_path: Path, server: OnnxServer) -> None:
    pooling: Json = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    files = {**SENTENCE, "config_sentence_transformers.json": PROMPTS, "1_Pooling/config.json": pooling}
    put(tmp_path / "hub", MODEL, files=files)
    ids = np.array([tokenizer_of("bert").encode("drink: cow").ids])
    rows = reference("bert", "embedding", weights_of("bert", "embedding"), ids, np.ones_like(ids))[0]
    mean = rows[3:].mean(0)  # behind the first special token, "drink" and ":"
    found = await vectors(server, input="cow", input_type="query")
    assert np.allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)


def spaced(folder: Path) -> Path:
    """A tiny model whose tokenizer keeps spaces as XLM-R's does, each in front of a word or alone."""
    made = Tokenizer(
        models.Unigram([(piece, -1.0) for piece in ("<s>", "</s>", "<unk>", "▁", "▁cow", "▁drink", ":")], 2)
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    made.save(str(folder / "tokenizer.json"))
    return folder


async def test_the_space_between_a_prompt_and_its_text_is_the_texts(tmp_path: Path, server: OnnxServer) -> None:
    pooling: Json = {"pooling_mode_mean_tokens": True, "include_prompt": False}
    files = {**SENTENCE, "config_sentence_transformers.json": PROMPTS, "1_Pooling/config.json": pooling}
    imported(tmp_path / "hub", spaced(tiny(tmp_path / "source", files=files)), MODEL)
    ids = np.array([[0, 5, 6, 4, 1]])  # <s> ▁drink : ▁cow </s>
    rows = reference("bert", "embedding", weights_of("bert", "embedding"), ids, np.ones_like(ids))[0]
    mean = rows[3:].mean(0)
    found = await vectors(server, input="cow", input_type="query")
    assert np.allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)


async def test_spaces_around_a_text_do_not_count(tmp_path: Path, server: OnnxServer) -> None:
    imported(tmp_path / "hub", spaced(tiny(tmp_path / "source", files=SENTENCE)), MODEL)
    assert np.allclose(await vectors(server, input=" cow \n"), await vectors(server, input="cow"), atol=1e-6)


async def test_a_long_text_is_cut_at_the_window_or_refused_if_asked(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL, files={**SENTENCE, "sentence_bert_config.json": {"max_seq_length": 16}})
    long = "cow " * 200
    assert np.allclose(await vectors(server, input=long), await vectors(server, input="cow " * 14), atol=1e-6)
    for refused in (False, "NONE"):
        with pytest.raises(BadRequest, match="200 tokens, org/tiny reads 14"):
            await vectors(server, input=long, truncate=refused)
    with pytest.raises(ValidationFailed, match="END"):
        await vectors(server, input=long, truncate="START")


@pytest.mark.parametrize(
    "text", ["cow ship " * 1000, "cow" * 3000, "a " * 4000 + "ship", "cow\n" + " " * 5000 + "ship milk"]
)
async def test_a_text_far_beyond_the_window_counts_as_its_beginning_does(
    tmp_path: Path, server: OnnxServer, text: str
) -> None:
    put(tmp_path / "hub", MODEL, files={**SENTENCE, "sentence_bert_config.json": {"max_seq_length": 16}})
    whole = tokenizer_of("bert").encode(text, add_special_tokens=False).tokens[:14]
    same = " ".join(whole).replace(" ##", "")
    assert np.allclose(await vectors(server, input=text), await vectors(server, input=same), atol=1e-6)


async def test_texts_of_a_large_request_stay_in_their_order(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL, files=SENTENCE)
    texts = [
        f"{word} " * (9000 // len(word + " "))
        for word in ("cow", "ship", "milk", "water", "harbour", "drink", "a", "b", "c", "d")
    ]
    together = await vectors(server, input=texts)
    for text, vector in zip(texts, together, strict=True):
        assert np.allclose((await vectors(server, input=text))[0], vector, atol=1e-5)
    with pytest.raises(BadRequest, match="text 9 has"):
        await vectors(server, input=[*["cow" + " " * 9000] * 9, "cow " * 2400], truncate=False)


async def test_too_much_is_refused_by_the_settings_name(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL)
    with pytest.raises(TooLarge, match=r"11 texts.*onnx\.max_texts allows 10"):
        await vectors(server, input=["a"] * 11)
    with pytest.raises(TooLarge, match=r"onnx\.max_text_chars allows 10000"):
        await vectors(server, input="a" * 10_001)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"input": []}, {"input": [1, 2]}, {"input": [[1, 2]]}, {"input": None}, {"input": ["a", 1]}, {"input": {"a": 1}},
        {"input": "a", "encoding_format": "int8"}, {"input": "a", "dimensions": 0}, {"input": "a", "dimensions": "x"},
        {"input": "a", "base_url": "http://x"}, {"input": "a", "extra_body": {"x": 1}}, {"input": "a", "stream": True},
        {"input": "a", "input_type": "query", "task": "document"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_wrong_body_names_its_field(tmp_path: Path, server: OnnxServer, body: dict[str, Json]) -> None:
    put(tmp_path / "hub", MODEL)
    with pytest.raises(ValidationFailed):
        await ask(server, body)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"model":"m","input":"' + b"\xed\xa0\x80" + b'"}'])
async def test_what_is_no_json_is_a_bad_request(server: OnnxServer, raw: bytes) -> None:
    with pytest.raises(BadRequest):
        await ask(server, raw)


@pytest.mark.parametrize("task", ["classification", "ner"])
async def test_a_model_for_something_else_says_what_it_does(tmp_path: Path, server: OnnxServer, task: str) -> None:
    put(tmp_path / "hub", MODEL, task=task)
    for body, operation in (({"input": "a"}, "embeddings"), ({"query": "a", "documents": ["b"]}, "rerank")):
        with pytest.raises(BadRequest, match=r"/v1/(classify|ner)"):
            await ask(server, body, operation)


async def test_the_catalogue_tells_what_a_model_does_and_whether_it_is_loaded(
    tmp_path: Path, server: OnnxServer
) -> None:
    put(tmp_path / "hub", MODEL)
    put(tmp_path / "hub", "sentence-transformers/all-MiniLM-L6-v2", task="ner")
    await ask(server, {"input": "a"})
    found = {one.id: one.details for one in await server.models()}
    assert {name: (one["type"], one["loaded"]) for name, one in found.items()} == {
        MODEL: ("embedding", True),
        "sentence-transformers/all-MiniLM-L6-v2": ("ner", False),
    }
    assert server.claims("all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert [server.claims(name) for name in ("all-none", MODEL, "tiny", "a\0", "..")] == [None] * 5
    assert (await server.health()).details == {"loaded": [MODEL]}
    assert await server.unload(MODEL) == [MODEL]
    assert server.loaded() == []


class TestUniversalEmbedder(EmbedderSuite):
    """A tiny BERT behind the type UniversalEmbedder."""

    type_name = "UniversalEmbedder"
    raw_config: ClassVar[dict[str, Json]] = {"model": MODEL}

    @pytest.fixture
    def embedder(self, tmp_path: Path) -> OnnxEmbedder:
        put(tmp_path / "hub", MODEL, files=SENTENCE)
        return OnnxEmbedder(made(tmp_path / "hub"))


class TestEmbeddingServer(ModelServerSuite):
    """The server as the gateway knows it, asked to embed."""

    model = MODEL
    unknown_model = "org/none"

    @pytest.fixture
    def server(self, tmp_path: Path) -> ModelServer:
        class EmbedOnly(OnnxServer):
            operations = frozenset({"embeddings"})

        put(tmp_path / "hub", MODEL, files=SENTENCE)
        return EmbedOnly(made(tmp_path / "hub"))


class TestHuggingFaceEmbedder(TestUniversalEmbedder):
    """The same under its other name."""

    type_name = "HuggingFaceEmbedder"
    raw_config: ClassVar[dict[str, Json]] = {"model_name": MODEL, "device": "cuda", "batch_size": 3}


class TestSentenceTransformerEmbedder(TestUniversalEmbedder):
    """And under its third."""

    type_name = "SentenceTransformerEmbedder"
    raw_config: ClassVar[dict[str, Json]] = {"model_name": MODEL, "dimension": 16}


@pytest.fixture
def embedder(tmp_path: Path) -> OnnxEmbedder:
    return OnnxEmbedder(made(tmp_path / "hub"))


def configured(embedder: OnnxEmbedder, type_name: str, **raw: Json) -> Any:
    return embedder.configure(type_name, raw).config


def test_documented_options_without_meaning_are_warnings(embedder: OnnxEmbedder) -> None:
    raw: dict[str, Json] = {"device": "mps", "show_progress_bar": False, "cache_folder": None}
    found = embedder.configure("HuggingFaceEmbedder", raw).warnings
    assert [text.partition(":")[0] for text in found] == ["device", "show_progress_bar", "cache_folder"]
    assert "base_url" in embedder.configure("UniversalEmbedder", {"base_url": "http://x"}).warnings[0]
    assert "device" in embedder.configure("SentenceTransformerEmbedder", {"device": "cpu"}).warnings[0]


@pytest.mark.parametrize("name", ["../etc/passwd", "/abs", "a/b/c", "a\\b", "x" * 300, ""])
def test_a_models_name_that_would_walk_the_disk_is_refused(embedder: OnnxEmbedder, name: str) -> None:
    with pytest.raises(ValidationFailed):
        embedder.configure("UniversalEmbedder", {"model": name})


async def test_the_name_of_a_gguf_file_is_refused_where_it_means_nothing(
    tmp_path: Path, embedder: OnnxEmbedder, server: OnnxServer
) -> None:
    put(tmp_path / "hub", MODEL)
    with pytest.raises(ValidationFailed, match="GGUF"):
        embedder.configure("UniversalEmbedder", {"model": f"{MODEL}:Q4_K_M"})
    with pytest.raises(BadRequest, match="GGUF"):
        await ask(server, {"input": "a"}, model=f"{MODEL}:Q4_K_M")
    assert await server.unload(f"{MODEL}:Q4_K_M") == []


def test_one_model_has_one_fingerprint_under_all_three_names(embedder: OnnxEmbedder) -> None:
    universal = configured(embedder, "UniversalEmbedder", model="all-MiniLM-L6-v2")
    face = configured(embedder, "HuggingFaceEmbedder")
    assert embedder.fingerprint(universal) == embedder.fingerprint(face)
    for name in (f"onnx/{MINILM}", "onnx/all-MiniLM-L6-v2"):
        assert embedder.fingerprint(configured(embedder, "UniversalEmbedder", model=name)) == embedder.fingerprint(face)
    others = [
        configured(embedder, "HuggingFaceEmbedder", model_name="onnx/other"),
        configured(embedder, "HuggingFaceEmbedder", dimension=64),
        configured(embedder, "HuggingFaceEmbedder", normalize_embeddings=False),
        configured(embedder, "HuggingFaceEmbedder", query_prefix="query: "),
        configured(embedder, "HuggingFaceEmbedder", model_name="org/other"),
    ]
    assert len({embedder.fingerprint(one) for one in [face, *others]}) == 6


async def test_each_option_changes_the_vectors(tmp_path: Path, embedder: OnnxEmbedder) -> None:
    put(tmp_path / "hub", MODEL, files={**SENTENCE, "config_sentence_transformers.json": PROMPTS})
    plain = configured(embedder, "HuggingFaceEmbedder", model_name=MODEL)

    async def one(config: Any, kind: Any = "document") -> np.ndarray:
        return np.asarray((await embedder.embed(["a cow"], config, kind))[0])

    documents = await one(plain)
    assert not np.allclose(documents, await one(plain, "query"))
    for kind in ("query", "document"):
        config = configured(embedder, "HuggingFaceEmbedder", model_name=MODEL, **{f"{kind}_prefix": "milk"})
        assert not np.allclose(await one(config, kind), await one(plain, kind))
    raw = configured(embedder, "HuggingFaceEmbedder", model_name=MODEL, normalize_embeddings=False)
    assert np.linalg.norm(documents) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(await one(raw)) != pytest.approx(1, abs=1e-3)
    assert len(await one(configured(embedder, "HuggingFaceEmbedder", model_name=MODEL, dimension=5))) == 5
    quick = configured(embedder, "UniversalEmbedder", model=MODEL, timeout=1e-9)
    with pytest.raises(UpstreamTimeout):
        await one(quick)
    await embedder._residency.close()


@pytest.mark.parametrize(("name", "error"), [("org/none", ModelNotFound), ("org/rerank", BadRequest)])
async def test_a_wrong_model_is_told_when_it_is_used(
    tmp_path: Path, embedder: OnnxEmbedder, name: str, error: type[PaddockError]
) -> None:
    imported(tmp_path / "hub", overlap_reranker(tmp_path / "source"), "org/rerank")
    with pytest.raises(error):
        await embedder.embed(["a"], configured(embedder, "UniversalEmbedder", model=name), "query")
    await embedder._residency.close()


async def test_many_callers_get_their_own_vectors(tmp_path: Path, server: OnnxServer) -> None:
    put(tmp_path / "hub", MODEL)
    texts = [f"{'cow ' * (number % 7)}ship {number}" for number in range(40)]
    together = await asyncio.gather(*(vectors(server, input=text) for text in texts))
    alone = [await vectors(server, input=text) for text in texts]
    assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(together, alone, strict=True))


async def test_a_name_that_leaves_the_cache_is_refused(server: OnnxServer) -> None:
    call = GatewayCall(operation="embeddings", model="../../etc", body=b'{"model":"x","input":"a"}', stream=False)
    with pytest.raises(BadName):
        async with server.serve(call):
            pass
