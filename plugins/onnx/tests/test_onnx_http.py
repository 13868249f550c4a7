"""The models through a running server: OpenAI's client, the gateway, projects."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import openai
import pytest
import pytest_asyncio
from onnx_kit import SENTENCE, WIDTH, imported, lexicon, overlap_reranker, put

from paddock.contracts.base import Json
from paddock.testing.hostile import check_refusal, hostile_bodies
from paddock.testing.server import RunningServer, running_server

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RERANKER = "cross-encoder/overlap"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with an embedding model and a reranker in its cache."""
    hub = tmp_path / "data" / "models" / "hub"
    put(hub, MINILM, files=SENTENCE)
    imported(hub, overlap_reranker(tmp_path / "source"), RERANKER)
    async with running_server(tmp_path / "data") as found:
        yield found


@pytest.mark.parametrize("name", [MINILM, "all-MiniLM-L6-v2", f"onnx/{MINILM}"])
async def test_openais_client_embeds(server: RunningServer, name: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="none") as client:
        found = await client.embeddings.create(model=name, input=["a cow", "milk"])
        assert len(found.data) == 2
        assert found.usage.prompt_tokens > 0
        short = await client.embeddings.create(model=name, input="a cow", dimensions=8)
    assert np.linalg.norm(short.data[0].embedding) == pytest.approx(1, abs=1e-5)


async def test_the_documents_own_call_works(server: RunningServer) -> None:
    body: Json = {"model": MINILM, "input": "Hello world"}
    reply = await server.ask("POST", "/v1/embeddings", body)
    assert reply.status == 200
    assert reply.json()["data"][0]["object"] == "embedding"


@pytest.mark.parametrize("path", ["/v1/rerank", "/v1/reranking"])
async def test_documents_are_reranked(server: RunningServer, path: str) -> None:
    body: Json = {"model": RERANKER, "query": "a cow drinks", "documents": ["a ship", "a cow"], "top_k": 1}
    reply = await server.ask("POST", path, body)
    assert reply.status == 200, reply.body
    assert [one["index"] for one in reply.json()["data"]] == [1]
    assert reply.json()["results"][0]["document"] == {"text": "a cow"}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/embeddings", {"model": "sentence-transformers/all-MiniLM-L6", "input": "a"}, 404, "all-MiniLM-L6-v2"),
        ("/v1/embeddings", {"model": "onnx/org/none", "input": "a"}, 404, "paddock models download"),
        ("/v1/embeddings", {"model": RERANKER, "input": "a"}, 400, "/v1/rerank"),
        ("/v1/rerank", {"model": MINILM, "query": "a", "documents": ["b"]}, 400, "/v1/embeddings"),
        ("/v1/embeddings", {"model": MINILM, "input": ["a"] * 2049}, 413, "onnx.max_texts"),
        ("/v1/embeddings", {"model": MINILM, "input": "a" * 200_001}, 413, "onnx.max_text_chars"),
        ("/v1/embeddings", {"model": MINILM, "input": "a", "base_url": "http://127.0.0.1:1"}, 400, "base_url"),
        ("/v1/embeddings", {"model": "onnx/../../etc", "input": "a"}, 400, "model"),
        ("/v1/embeddings", {"model": MINILM, "input": 5}, 400, "input"),
    ],
)  # fmt: skip
async def test_a_wrong_call_is_answered_in_openais_shape(
    server: RunningServer, path: str, body: Json, status: int, words: str
) -> None:
    reply = await server.ask("POST", path, body)
    assert (reply.status, words in reply.json()["error"]["message"]) == (status, True), reply.body
    assert (await server.ask("POST", "/v1/embeddings", {"model": MINILM, "input": "a"})).status == 200


@pytest.mark.parametrize("name", [MINILM, "all-MiniLM-L6-v2"])
async def test_documents_are_not_asked_of_a_model_of_texts(server: RunningServer, name: str) -> None:
    body: Json = {"model": name, "images": ["aGk="]}
    reply = await server.ask("POST", "/v1/documents/extract", body)
    assert (reply.status, reply.json()["detail"].partition(":")[0]) == (
        400,
        f"the model {MINILM} is of the type embedding",
    )


async def test_the_catalogue_lists_each_model_once_with_what_it_does(server: RunningServer) -> None:
    await server.ask("POST", "/v1/embeddings", {"model": MINILM, "input": "a"})
    listed = (await server.ask("GET", "/v1/models")).json()["data"]
    found = {item["id"]: item for item in listed if item["owned_by"] == "onnx"}
    assert {name: (item["type"], item["loaded"]) for name, item in found.items()} == {
        MINILM: ("embedding", True),
        RERANKER: ("rerank", False),
    }
    assert len([item for item in listed if item.get("model_id") == MINILM]) == 1, listed


async def test_a_damaged_model_is_refused_and_the_server_lives(server: RunningServer, tmp_path: Path) -> None:
    graph = put(tmp_path / "data" / "models" / "hub", "org/damaged").folder / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1000])
    reply = await server.ask("POST", "/v1/embeddings", {"model": "org/damaged", "input": "a"})
    assert (reply.status, "can't be used" in reply.json()["error"]["message"]) == (400, True), reply.body
    assert str(tmp_path) not in reply.body.decode()
    assert (await server.ask("POST", "/v1/embeddings", {"model": MINILM, "input": "a"})).status == 200


async def project(server: RunningServer, embedder: Json, strategy: Json | None = None) -> str:
    """A project with a database of that embedder, and one processed file."""
    path = await server.project("me/notes")
    database: dict[str, Json] = {
        "name": "main",
        "type": "SqliteVecStore",
        "embedding_strategies": [{"name": "embeddings", **embedder}],
        "default_embedding_strategy": "embeddings",
    }
    if strategy:
        database["retrieval_strategies"] = [strategy]
    made = await server.ask("POST", f"{path}/rag/databases", database)
    assert made.status == 201, made.body
    strategies = (await server.ask("GET", path)).json()["project"]["config"]["rag"]["data_processing_strategies"]
    made = await server.ask(
        "POST",
        f"{path}/datasets",
        {"name": "docs", "database": "main", "data_processing_strategy": strategies[0]["name"]},
    )
    assert made.status == 200, made.body
    for name in ("cow", "ship", "milk"):
        await put_file(server, path, f"{name}.txt", f"the {name} and its water. " * 3)
    return path


async def put_file(server: RunningServer, path: str, name: str, text: str) -> None:
    import aiohttp

    form = aiohttp.FormData()
    form.add_field("file", text.encode(), filename=name)
    reply = await server.ask("POST", f"{path}/datasets/docs/data", data=form)
    assert reply.status == 200, reply.body


async def processed(server: RunningServer, path: str) -> None:
    task = (await server.ask("POST", f"{path}/datasets/docs/actions", {"action_type": "process"})).json()["task_id"]
    await finished(server, path, task)


async def finished(server: RunningServer, path: str, task: str) -> Json:
    """Wait for the last event of a task."""
    async with asyncio.timeout(60), server.session.get(f"{server.base_url}{path}/tasks/{task}/events") as events:
        async for _ in events.content:
            pass
    state = (await server.ask("GET", f"{path}/tasks/{task}")).json()
    assert state["state"] == "SUCCESS", state
    return state


EMBEDDERS: list[Json] = [
    {"type": "UniversalEmbedder", "config": {"model": "all-MiniLM-L6-v2"}},
    {"type": "HuggingFaceEmbedder", "config": {"model_name": MINILM, "device": "auto"}},
    {"type": "SentenceTransformerEmbedder", "config": {"model_name": MINILM}},
    {"type": "UniversalEmbedder", "config": {"model": f"onnx/{MINILM}"}},
]


@pytest.mark.parametrize("embedder", EMBEDDERS, ids=lambda one: one["type"])
async def test_a_database_is_filled_and_searched_with_each_type_of_embedder(
    server: RunningServer, embedder: Json
) -> None:
    path = await project(server, embedder)
    await processed(server, path)
    body: Json = {
        "query": ("the cow and its water. " * 3).strip(),
        "database": "main",
        "retrieval_strategy": "semantic",
        "top_k": 3,
    }
    found = (await server.ask("POST", f"{path}/rag/query", body)).json()
    assert found["results"][0]["metadata"]["filename"] == "cow.txt"


async def test_a_cross_encoder_reranks_a_projects_chunks(server: RunningServer) -> None:
    strategy: Json = {
        "name": "reranked",
        "type": "CrossEncoderRerankedStrategy",
        "config": {"model_name": RERANKER, "initial_k": 3},
    }
    path = await project(server, EMBEDDERS[0], strategy)
    await processed(server, path)
    found = (await server.ask("POST", f"{path}/rag/query", {"query": "milk", "database": "main"})).json()
    assert found["results"][0]["metadata"]["filename"] == "milk.txt"
    assert found["results"][0]["metadata"]["reranker_score"] > 0.5
    wrong: Json = {"query": "milk", "database": "main", "rerank_model": MINILM}
    reply = await server.ask("POST", f"{path}/rag/query", wrong)
    assert (reply.status, "/v1/embeddings" in reply.json()["detail"]) == (400, True), reply.body


async def test_processing_with_a_model_that_is_not_there_names_the_command(server: RunningServer) -> None:
    path = await project(server, {"type": "UniversalEmbedder", "config": {"model": "org/none"}})
    task = (await server.ask("POST", f"{path}/datasets/docs/actions", {"action_type": "process"})).json()["task_id"]
    async with asyncio.timeout(60), server.session.get(f"{server.base_url}{path}/tasks/{task}/events") as events:
        async for _ in events.content:
            pass
    state = (await server.ask("GET", f"{path}/tasks/{task}")).json()
    assert state["state"] == "FAILURE"
    assert "paddock models download org/none" in state["result"]["details"][0]["error"]


async def changed(server: RunningServer, path: str, **more: Json) -> tuple[int, Json]:
    """Give the database another embedder."""
    other: Json = [{"name": "embeddings", "type": "HashingEmbedder", "config": {"dimension": 256}}]
    reply = await server.ask("PATCH", f"{path}/rag/databases/main", {"embedding_strategies": other, **more})
    return reply.status, reply.json()


async def test_a_filled_database_gets_another_embedder_only_when_it_may_be_embedded_anew(
    server: RunningServer,
) -> None:
    path = await project(server, EMBEDDERS[0])
    await processed(server, path)
    before = (await server.ask("GET", f"{path}/rag/stats?database=main")).json()
    status, reply = await changed(server, path)
    assert (status, "reembed: true" in reply["detail"]) == (409, True)
    status, reply = await changed(server, path, reembed=True)
    assert status == 200, reply
    task = await finished(server, path, reply["task_id"])
    assert task["result"]["processed_files"] == 3
    after = (await server.ask("GET", f"{path}/rag/stats?database=main")).json()
    assert after["chunk_count"] == before["chunk_count"]
    assert (before["embedding_dimension"], after["embedding_dimension"]) == (WIDTH, 256)
    body: Json = {"query": "milk", "database": "main", "retrieval_strategy": "semantic"}
    found = (await server.ask("POST", f"{path}/rag/query", body)).json()
    assert found["results"][0]["metadata"]["filename"] == "milk.txt"
    config = (await server.ask("GET", path)).json()["project"]["config"]
    assert "reembed" not in str(config)


async def test_a_new_configuration_does_not_give_a_filled_database_another_embedder(server: RunningServer) -> None:
    path = await project(server, EMBEDDERS[0])
    await processed(server, path)
    config = (await server.ask("GET", path)).json()["project"]["config"]
    main = next(one for one in config["rag"]["databases"] if one["name"] == "main")
    main["embedding_strategies"] = [{"name": "embeddings", "type": "HashingEmbedder"}]
    reply = await server.ask("PUT", path, {"config": config})
    assert (reply.status, "PATCH rag/databases/main with reembed: true" in reply.json()["detail"]) == (409, True)
    body: Json = {"query": "milk", "database": "main", "retrieval_strategy": "semantic"}
    assert (await server.ask("POST", f"{path}/rag/query", body)).status == 200


async def test_a_change_that_keeps_the_vectors_needs_no_task(server: RunningServer) -> None:
    path = await project(server, EMBEDDERS[0])
    await processed(server, path)
    same: Json = [{"name": "embeddings", "type": "HuggingFaceEmbedder", "config": {"model_name": MINILM}}]
    reply = await server.ask("PATCH", f"{path}/rag/databases/main", {"embedding_strategies": same, "reembed": True})
    assert (reply.status, reply.json()["task_id"]) == (200, None)


async def test_entities_become_metadata_of_a_datasets_chunks(server: RunningServer, tmp_path: Path) -> None:
    imported(
        tmp_path / "data" / "models" / "hub",
        lexicon(tmp_path / "names", "ner", ("O", "B-PER"), {"cow": "B-PER"}),
        "org/names",
    )
    path = await project(server, EMBEDDERS[0])
    config = (await server.ask("GET", path)).json()["project"]["config"]
    extractor: Json = {"type": "EntityExtractor", "config": {"model": "org/names"}}
    config["rag"]["data_processing_strategies"][0]["extractors"] = [extractor]
    reply = await server.ask("PUT", path, {"config": config})
    assert reply.status == 200, reply.body
    await processed(server, path)
    found = (await server.ask("POST", f"{path}/rag/query", {"query": "cow", "database": "main"})).json()
    named = {one["metadata"]["filename"]: one["metadata"].get("entities_person") for one in found["results"]}
    assert named["cow.txt"] == ["cow"]
    assert not any(names for filename, names in named.items() if filename != "cow.txt")


WALKED: dict[str, dict[str, Json]] = {
    "embeddings": {
        "model": MINILM, "input": ["a cow", "b"], "encoding_format": "float", "dimensions": 8, "input_type": "query",
        "truncate": True,
    },
    "rerank": {
        "model": RERANKER, "query": "a cow", "documents": ["a cow", {"text": "b"}], "top_n": 2, "return_documents": True,
        "rank_fields": ["text"],
    },
    "classify": {"model": "org/sorts", "texts": ["a cow"], "max_length": 10},
    "ner": {"model": "org/finds", "texts": ["a cow"], "max_length": 10, "aggregation_strategy": "simple"},
}  # fmt: skip


@pytest.mark.parametrize("path", WALKED)
async def test_no_value_in_any_place_of_a_body_breaks_the_server(
    server: RunningServer, tmp_path: Path, path: str
) -> None:
    hub = tmp_path / "data" / "models" / "hub"
    put(hub, "org/sorts", task="classification")
    put(hub, "org/finds", task="ner")
    good = await server.ask("POST", f"/v1/{path}", WALKED[path])
    assert good.status == 200, good.body
    for what, body in hostile_bodies(WALKED[path]):
        check_refusal(await server.ask("POST", f"/v1/{path}", data=io.BytesIO(body)), what, str(tmp_path))
