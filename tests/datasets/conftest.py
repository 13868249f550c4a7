"""A whole server with small component types whose work a test can hold up, break and count."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.contracts.base import Json, hookimpl
from paddock.contracts.providers import (
    Chunk,
    ChunkOptions,
    Document,
    Embedder,
    Environment,
    Extractor,
    NoConfig,
    Parser,
    Source,
    TextKind,
    TypeName,
    Vectors,
)
from paddock.errors import PaddockError, ProviderUnavailable, ValidationFailed
from paddock.services import Services
from paddock.testing.server import Answered, RunningServer, running_server

BASE = "/v1/projects/farm/field"
PROJECT_FILE = """
version: v1
name: field
namespace: farm
runtime: {models: [{name: default, provider: extractive, model: extractive}]}
rag:
  databases:
    - name: main
      type: SqliteVecStore
      embedding_strategies: [{name: hashing, type: HeldEmbedder}]
      retrieval_strategies: [{name: basic, type: BasicSimilarityStrategy}]
    - name: other
      type: SqliteVecStore
      embedding_strategies: [{name: hashing, type: HeldEmbedder}]
      retrieval_strategies: [{name: basic, type: BasicSimilarityStrategy}]
  data_processing_strategies:
    - name: held
      parsers: [{type: HeldParser}]
    - name: texts
      parsers: [{type: TextParser, config: {chunk_size: 100, chunk_overlap: 0}}]
datasets:
  - {name: d, database: main, data_processing_strategy: held}
  - {name: e, database: main, data_processing_strategy: held}
"""


class Held:
    """What the test and the components share. A file whose name is in `hold` waits in the parser until it is let go."""

    def __init__(self) -> None:
        self.parsed: Counter[str] = Counter()
        self.embedded: list[list[str]] = []
        self.extracted: list[int] = []
        self.arrived = threading.Semaphore(0)
        self.hold: set[str] = set()
        self.go = threading.Event()
        self.fail: dict[str, list[PaddockError | Exception]] = {}
        self.embed_fail: list[PaddockError] = []

    async def until_held(self, count: int = 1) -> None:
        """Wait until so many files wait in the parser."""
        for _ in range(count):
            await asyncio.to_thread(self.arrived.acquire)


class HeldParserConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of HeldParser."""

    chunk_size: int = 100


class HeldParser(Parser):
    """Reads text; fails and waits as the test wants."""

    types = (TypeName("HeldParser", HeldParserConfig),)

    def __init__(self, held: Held) -> None:
        self._held = held

    def parse(self, source: Source, config: Any) -> Document:
        self._held.parsed[source.filename] += 1
        if source.filename in self._held.hold:
            self._held.arrived.release()
            self._held.go.wait(30)
        errors = self._held.fail.get(source.filename)
        if errors:
            raise errors.pop(0)
        return Document(text=source.path.read_text(), metadata={"title": source.filename})

    def chunking(self, source: Source, config: Any) -> ChunkOptions:
        return ChunkOptions(strategy="characters", size=config.chunk_size)


class HeldEmbedder(Embedder):
    """The hashing embedder, which counts and fails as the test wants."""

    types = (TypeName("HeldEmbedder", HashingConfig),)

    def __init__(self, held: Held) -> None:
        self._held = held
        self._inner = HashingEmbedder()

    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        if kind == "document":
            self._held.embedded.append(list(texts))
            if self._held.embed_fail:
                raise self._held.embed_fail.pop(0)
            if any("poison" in text for text in texts):
                raise ValidationFailed("the model refuses this text")
        return await self._inner.embed_batch(texts, config, kind)

    def fingerprint(self, config: Any) -> str:
        return self._inner.fingerprint(config)


class BrokenExtractor(Extractor):
    """Fails on chunks that say so, and marks the others."""

    types = (TypeName("BrokenExtractor", NoConfig),)
    together = 3

    def __init__(self, held: Held) -> None:
        self._held = held

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        if "broken" in chunk.text:
            raise ValueError(chunk.text)
        return {"marked": True}

    def extract_several(self, chunks: Sequence[Chunk], document: Document, config: Any) -> list[dict[str, Json]]:
        self._held.extracted.append(len(chunks))
        if any("nobody" in chunk.text for chunk in chunks):
            raise ProviderUnavailable("nobody is there")
        return super().extract_several(chunks, document, config)


class HeldPlugin:
    """The plugin of these types."""

    def __init__(self, held: Held) -> None:
        self._held = held

    @hookimpl
    def paddock_parsers(self, env: Environment) -> Sequence[Parser]:
        return [HeldParser(self._held)]

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        return [HeldEmbedder(self._held)]

    @hookimpl
    def paddock_extractors(self, env: Environment) -> Sequence[Extractor]:
        return [BrokenExtractor(self._held)]


class Farm:
    """The running server with the project, and short forms of its requests."""

    def __init__(self, server: RunningServer, held: Held) -> None:
        self.server = server
        self.held = held
        self.services: Services = server.app.services

    async def ask(self, method: str, path: str, body: Json = None, **given: Any) -> Answered:
        """A request below the project."""
        return await self.server.ask(method, BASE + path, body, **given)

    async def upload(self, name: str, content: str | bytes, dataset: str = "d", query: str = "") -> Any:
        """Upload a file; returns the reply's body."""
        reply = await self.send(name, content, dataset, query)
        assert reply.status == 200, reply.body
        return reply.json()

    async def send(self, name: str, content: str | bytes, dataset: str = "d", query: str = "") -> Answered:
        """Upload a file; returns the reply."""
        data = content.encode() if isinstance(content, str) else content
        # By hand, because clients refuse to send the names that a hostile one would.
        head = f'--edge\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/plain\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        body = io.BytesIO(head.encode() + data + b"\r\n--edge--\r\n")
        return await self.ask("POST", f"/datasets/{dataset}/data{query}", data=body, headers=headers)

    async def act(self, action: str = "process", dataset: str = "d", **fields: Any) -> str:
        """Start an action; returns the task's id."""
        reply = await self.ask("POST", f"/datasets/{dataset}/actions", {"action_type": action, **fields})
        assert reply.status == 200, reply.body
        task: str = reply.json()["task_id"]
        return task

    async def finished(self, task: str) -> Any:
        """The task, once it is final."""
        return msgspec.to_builtins(await self.services.tasks.views.finished("farm", "field", task))

    async def process(self, dataset: str = "d", **fields: Any) -> Any:
        """Process a dataset and wait for the end."""
        return await self.finished(await self.act(dataset=dataset, **fields))

    async def changed(self, task: str, holds: Callable[[Any], bool]) -> Any:
        """Follow the task's events until one fits."""
        async with self.server.session.get(f"{self.server.base_url}{BASE}/tasks/{task}/events") as reply:
            async for line in reply.content:
                if line.startswith(b"data: "):
                    found = msgspec.json.decode(line[6:])
                    if holds(found):
                        return found
        raise AssertionError("the task ended before")

    async def file(self, name: str, dataset: str = "d") -> Any:
        """The detail of a file by its name."""
        for item in (await self.ask("GET", "/datasets")).json()["datasets"]:
            for detail in item["details"]["file_details"]:
                if (item["name"], detail["original_filename"]) == (dataset, name):
                    return detail
        return None

    async def chunks(self, database: str = "main") -> int:
        """How many chunks the database holds."""
        async with self.services.stores.using("farm", "field", database) as opened:
            return (await opened.store.stats()).chunks


FarmMaker = Callable[..., AbstractAsyncContextManager[Farm]]


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def open_farm(tmp_path: Path, held: Held) -> FarmMaker:
    """Opens a server over this test's data folder; the project is there."""

    @asynccontextmanager
    async def open_(
        project: str = PROJECT_FILE,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        plugins: Mapping[str, object] | None = None,
    ) -> AsyncIterator[Farm]:
        sections = {"tasks": {"retry_delay": 0.01}, **(settings or {})}
        extra = {"held": HeldPlugin(held), **(plugins or {})}
        async with running_server(tmp_path / "data", plugins=extra, settings=sections) as server:
            files = server.app.services.files
            if not await files.list("farm"):
                await files.create("farm", "field", project)
            try:
                yield Farm(server, held)
            finally:
                held.go.set()

    return open_


@pytest.fixture
async def farm(open_farm: FarmMaker) -> AsyncIterator[Farm]:
    async with open_farm() as opened:
        yield opened
