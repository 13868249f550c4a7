"""A server that is killed while it gives a database another embedder: the next start goes on, and no two embedders mix."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from paddock.contracts.base import Json
from paddock.testing.process import ServerProcess, server_process

BASE = "/v1/projects/n/p"
FILES, CHUNKS = 200, 20
WORDS = ("heron", "weir", "lock", "barge", "towpath", "sluice", "willow", "otter", "bridge", "lantern", "rope")


def database(**config: Json) -> dict[str, Json]:
    strategy: Json = {"name": "h", "type": "HashingEmbedder", "config": {"dimension": 512, **config}}
    retrieval: Json = [
        {"name": "semantic", "type": "BasicSimilarityStrategy"},
        {"name": "hybrid", "type": "HybridRetriever"},
    ]
    return {
        "name": "main",
        "type": "SqliteVecStore",
        "embedding_strategies": [strategy],
        "retrieval_strategies": retrieval,
    }


OLD, NEW = database(ngram_weight=0), database(ngram_weight=2)  # of one length, so that a store would take both
PROJECT: dict[str, Json] = {
    "version": "v1",
    "name": "p",
    "namespace": "n",
    "runtime": {"models": [{"name": "default", "provider": "extractive", "model": "extractive"}]},
    "rag": {
        "databases": [OLD],
        "data_processing_strategies": [
            {
                "name": "s",
                "parsers": [
                    {
                        "type": "TextParser",
                        "config": {"chunk_size": 300, "chunk_overlap": 0, "chunk_strategy": "sentences"},
                    }
                ],
            }
        ],
    },
    "datasets": [{"name": "d", "database": "main", "data_processing_strategy": "s"}],
}


def sentence(number: int, place: int) -> str:
    """A sentence that stands in one chunk only."""
    words = [WORDS[(number * 7 + place * (step + 2)) % len(WORDS)] for step in range(12)]
    return f"File{number}x{place} tells of the {' and the '.join(words)} near file{number}x{place}."


class Client:
    """Requests to one life of the server."""

    def __init__(self, server: ServerProcess, http: aiohttp.ClientSession) -> None:
        self.server = server
        self._http = http

    async def ask(self, method: str, path: str, body: Json = None) -> Any:
        async with self._http.request(method, self.server.url + BASE + path, json=body) as reply:
            found = await reply.json(content_type=None)
            assert reply.status == 200, found
            return found

    async def fill(self) -> None:
        for number in range(FILES):
            form = aiohttp.FormData()
            text = "\n\n".join(sentence(number, place) for place in range(CHUNKS))
            form.add_field("file", text.encode(), filename=f"{number}.txt")
            async with self._http.post(f"{self.server.url}{BASE}/datasets/d/data", data=form) as reply:
                assert reply.status == 200
        started = await self.ask("POST", "/datasets/d/actions", {"action_type": "process"})
        assert (await self.final(started["task_id"]))["state"] == "SUCCESS"

    async def change(self) -> str | None:
        body: Json = {"embedding_strategies": NEW["embedding_strategies"], "reembed": True}
        task: str | None = (await self.ask("PATCH", "/rag/databases/main", body))["task_id"]
        return task

    async def progress(self, task: str) -> AsyncIterator[Any]:
        """The task at every change."""
        async with self._http.get(f"{self.server.url}{BASE}/tasks/{task}/events") as reply:
            async for line in reply.content:
                if line.startswith(b"data: "):
                    yield json.loads(line.removeprefix(b"data: "))

    async def final(self, task: str) -> Any:
        return [found async for found in self.progress(task)][-1]

    async def nearest(self, text: str, strategy: str = "semantic") -> Any:
        found = await self.ask("POST", "/rag/query", {"query": text, "retrieval_strategy": strategy, "top_k": 1})
        return found["results"]

    async def kill(self) -> None:
        self.server.process.kill()
        await self.server.process.wait()


@asynccontextmanager
async def life(folder: Path) -> AsyncIterator[Client]:
    async with server_process(folder, PADDOCK_TASKS__WORKERS="1") as server, aiohttp.ClientSession() as http:
        yield Client(server, http)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "projects" / "n" / "p"
    project.mkdir(parents=True)
    (project / "llamafarm.yaml").write_text(json.dumps(PROJECT))
    return tmp_path


async def test_a_killed_change_of_the_embedder_goes_on_at_the_next_start(folder: Path) -> None:
    async with life(folder) as client:
        await client.fill()
        task = await client.change()
        assert task is not None
        assert await killed_on_the_way(client, task) < FILES
    for _ in range(2):
        async with life(folder) as client:
            await the_answer_is_of_the_new_embedder(client)
            await killed_on_the_way(client, task)
    async with life(folder) as client:
        found = await client.final(task)
        assert (found["state"], len(found["meta"]["files"])) == ("SUCCESS", FILES)
        await everything_is_found(client)


async def killed_on_the_way(client: Client, task: str) -> int:
    """Let some files be done, and kill the server while others are left; how many were done."""
    seen: list[int] = []
    async for found in client.progress(task):
        seen.append(found["meta"]["current"])
        if seen[-1] >= seen[0] + 5:
            break
    await client.kill()
    return seen[-1]


async def the_answer_is_of_the_new_embedder(client: Client) -> None:
    """A text that is found has the score of equal vectors; one that is not there yet is not found."""
    hits = await client.nearest(sentence(0, 1)) + await client.nearest(sentence(FILES - 1, 1))
    for hit in hits:
        same = any(f"file{number}x1." in hit["content"] for number in (0, FILES - 1))
        assert hit["score"] > 0.99 or not same
    await client.nearest(sentence(0, 1), "hybrid")


async def everything_is_found(client: Client) -> None:
    stats = await client.ask("GET", "/rag/stats?database=main")
    assert stats["chunk_count"] == FILES * CHUNKS
    documents = await client.ask("GET", "/rag/databases/main/documents?limit=1000")
    assert {one["chunk_count"] for one in documents} == {CHUNKS}
    assert len({one["id"] for one in documents}) == len(documents) == FILES
    for number in range(FILES):
        place = number % CHUNKS
        (hit,) = await client.nearest(sentence(number, place))
        assert (f"file{number}x{place}." in hit["content"], hit["score"] > 0.99) == (True, True), hit


async def test_a_change_that_was_saved_and_never_begun_is_made_up_for_by_asking_again(folder: Path) -> None:
    async with life(folder) as client:
        await client.fill()
    config = {**PROJECT, "rag": {**PROJECT["rag"], "databases": [NEW]}}
    (folder / "projects" / "n" / "p" / "llamafarm.yaml").write_text(json.dumps(config))  # as a kill leaves it
    async with life(folder) as client:
        body: Json = {"query": "heron", "retrieval_strategy": "semantic"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{client.server.url}{BASE}/rag/query", json=body) as reply,
        ):
            assert (reply.status, "reembed: true" in (await reply.json())["detail"]) == (409, True)
        task = await client.change()
        assert task is not None
        assert (await client.final(task))["state"] == "SUCCESS"
        await everything_is_found(client)
        assert await client.change() is None
