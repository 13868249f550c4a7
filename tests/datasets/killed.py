"""A child process for the tests that kill it: ``killed.py FOLDER COMMAND POINT``.

Commands: fill (add files, process them), cancel (the same, then cancel), look (tell what is in the store while nothing
runs), resume (wait until every task is final, then tell what is there). At the point named (parse, embed, replace, stored,
delete) it says ``AT point`` and never goes on.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.settings import SqliteVecSettings

from paddock.app import create_app
from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.contracts.base import hookimpl
from paddock.contracts.providers import (
    ChunkOptions,
    Document,
    Embedder,
    Environment,
    NoConfig,
    Parser,
    Source,
    StoredChunk,
    StoredFile,
    TextKind,
    TypeName,
    Vectors,
    VectorStore,
    VectorStoreProvider,
)
from paddock.plugins import Loaded
from paddock.services import Services
from paddock.settings import load_settings

SPECIAL = "special.txt"  # the file at which the process stops
PROJECT = """
version: v1
name: p
namespace: n
runtime: {models: [{name: default, provider: extractive, model: extractive}]}
rag:
  databases:
    - name: main
      type: PointStore
      embedding_strategies: [{name: points, type: PointEmbedder}]
      retrieval_strategies: [{name: basic, type: BasicSimilarityStrategy}]
  data_processing_strategies: [{name: points, parsers: [{type: PointParser}]}]
datasets: [{name: d, database: main, data_processing_strategy: points}]
"""


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")  # in one piece: threads speak too
    sys.stdout.flush()


class Point:
    """Where to stop: one place, or ``first+last`` for two, of which only the last one is said."""

    def __init__(self, name: str) -> None:
        self._places = name.split("+")

    def _is_at(self, here: str, filename: str) -> bool:
        if here == self._places[-1] and filename == SPECIAL:
            say("AT", here)
        return here in self._places and filename == SPECIAL

    def block(self, here: str, filename: str = SPECIAL) -> None:
        """Stop the thread for ever if this is the place."""
        if self._is_at(here, filename):
            threading.Event().wait()

    async def hang(self, here: str, filename: str = SPECIAL) -> None:
        """Stop the coroutine for ever if this is the place."""
        if self._is_at(here, filename):
            await asyncio.Event().wait()


class PointParser(Parser):
    types = (TypeName("PointParser"),)

    def __init__(self, point: Point) -> None:
        self._point = point

    def parse(self, source: Source, config: Any) -> Document:
        say("PARSE", source.filename)
        self._point.block("parse", source.filename)
        return Document(text=source.path.read_text())

    def chunking(self, source: Source, config: Any) -> ChunkOptions:
        return ChunkOptions(strategy="characters", size=100)


class PointEmbedder(Embedder):
    types = (TypeName("PointEmbedder", HashingConfig),)

    def __init__(self, point: Point) -> None:
        self._point = point
        self._inner = HashingEmbedder()

    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        if any(text.startswith("special") for text in texts):
            await self._point.hang("embed")
        return await self._inner.embed_batch(texts, config, kind)


class PointStoreProvider(VectorStoreProvider):
    """The default store, whose writes stop at the point."""

    types = (TypeName("PointStore", NoConfig),)

    def __init__(self, point: Point) -> None:
        self._point = point
        self._inner = SqliteVecProvider(SqliteVecSettings())

    async def open(self, folder: Path, config: Any) -> VectorStore:
        store = await self._inner.open(folder, self._inner.types[0].config())
        replace, delete, point = store.replace, store.delete, self._point
        deleted: list[str | None] = []

        async def watched_replace(file: StoredFile, chunks: Sequence[StoredChunk], vectors_: Vectors) -> None:
            await point.hang("replace", file.filename)
            await replace(file, chunks, vectors_)
            say("STORED", file.filename)
            await point.hang("stored", file.filename)

        async def watched_delete(dataset: str, file_hash: str | None = None) -> int:
            if len(deleted) == 1:
                await point.hang("delete")
            deleted.append(file_hash)
            return await delete(dataset, file_hash)

        store.replace = watched_replace  # type: ignore[method-assign]  # the rest of the store stays as it is
        store.delete = watched_delete  # type: ignore[method-assign]  # the rest of the store stays as it is
        return store

    def metric(self, config: Any) -> Any:
        return "cosine"

    async def drop(self, folder: Path, config: Any) -> None:
        await self._inner.drop(folder, None)


class PointPlugin:
    def __init__(self, point: Point) -> None:
        self._point = point

    @hookimpl
    def paddock_parsers(self, env: Environment) -> Sequence[Parser]:
        return [PointParser(self._point)]

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        return [PointEmbedder(self._point)]

    @hookimpl
    def paddock_vector_stores(self, env: Environment) -> Sequence[VectorStoreProvider]:
        return [PointStoreProvider(self._point)]


@asynccontextmanager
async def opened(folder: Path, point: str) -> AsyncIterator[Services]:
    overrides: dict[str, dict[str, Any]] = {"server": {"data_dir": str(folder)}, "log": {"level": "error"}}
    loaded = [Loaded("points", "test", PointPlugin(Point(point)))]
    app = create_app(load_settings({}, environ={}, overrides=overrides), loaded)
    async with app.lifespan():
        yield app.services


async def fill(services: Services, folder: Path) -> str:
    """Add the files, say each that is acknowledged, start to process them."""
    await services.files.create("n", "p", PROJECT)
    for name in [*(f"{number}.txt" for number in range(6)), SPECIAL]:
        path = folder / name
        path.write_text(name.partition(".")[0] * 50)
        reply = await services.datasets.add_file("n", "p", "d", path)
        say("ACK", name, reply.hash)
    task = await services.datasets.process("n", "p", "d")
    say("TASK", task)
    return task


async def cancel(services: Services, folder: Path) -> None:
    task = await fill(services, folder)
    async for data in services.tasks.views.events("n", "p", task):
        if data.startswith(b"data: ") and json.loads(data.removeprefix(b"data: "))["meta"]["current"] >= 4:
            break
    await services.tasks.cancel(await services.tasks.views.find("n", "p", task))


async def report(services: Services) -> dict[str, Any]:
    """Wait for the ends; then tell all there is."""
    tasks = []
    for item in (await services.tasks.views.list("n", "p", active=False, limit=100, offset=0)).tasks:
        reply = await services.tasks.views.finished("n", "p", item.task_id)
        files = [(file.filename, file.state, file.attempts) for file in reply.meta.files]
        tasks.append({"id": reply.task_id, "state": reply.state, "cancelled": reply.cancelled, "files": files})
    rows = await services.datasets.rows.of_dataset("n", "p", "d")
    async with services.stores.using("n", "p") as database:
        documents = await database.store.documents(100)
    return {
        "tasks": tasks,
        "files": {row.filename: [row.hash, row.processed_as is not None, row.chunks] for row in rows},
        "stored": {document.file.filename: document.chunk_count for document in documents},
        "bytes": sorted(services.core.blobs.hashes()),
    }


async def look(folder: Path) -> dict[str, Any]:
    """What the store holds, without starting anything that could change it."""
    provider = SqliteVecProvider(SqliteVecSettings())
    store = await provider.open(folder / "data/projects/n/p/lf_data/stores/main/data", provider.types[0].config())
    try:
        return {"stored": {found.file.filename: found.chunk_count for found in await store.documents(100)}}
    finally:
        await store.close()


async def main(folder: Path, command: str, point: str) -> None:
    if command == "look":
        say("REPORT", json.dumps(await look(folder)))
        return
    async with opened(folder / "data", point) as services:
        if command == "fill":
            task = await fill(services, folder)
            await services.tasks.views.finished("n", "p", task)
        elif command == "cancel":
            await cancel(services, folder)
        say("REPORT", json.dumps(await report(services)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
