"""Project chat over a real state database and real project files, with a scripted model and a scripted retriever."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock.builtin.extractive import ExtractiveModel
from paddock.builtin.hashing import HashingEmbedder
from paddock.builtin.retrieval import builtin_strategies
from paddock.contracts import chat as contracts
from paddock.contracts.base import Context, Json, Reply, endpoints_of, hookimpl
from paddock.contracts.chat import ChatPath, ChatRequest, SessionListPath, SessionPath
from paddock.contracts.config import ProjectConfig
from paddock.contracts.events import EventDetail, EventFilter
from paddock.contracts.providers import (
    ChatCall,
    ChatModel,
    Embedder,
    Environment,
    Hit,
    Query,
    RetrievalStrategy,
    Retrieved,
    TypeName,
)
from paddock.errors import PaddockError
from paddock.outgoing import OutgoingClient
from paddock.plugins import Loaded, Plugins
from paddock.services.chat import ChatService, Found
from paddock.services.core import Core
from paddock.services.events import EventLog
from paddock.services.project_files import ProjectFiles
from paddock.settings import Chat, Server, Settings
from paddock.storage import Blobs, Database
from paddock.storage.schema import MIGRATIONS
from paddock.testing.chat import EchoModel, sse_events
from paddock.testing.host import MemoryHost
from paddock.testing.memory_store import MemoryStorePlugin

DATABASE = {
    "name": "main",
    "type": "MemoryStore",
    "embedding_strategies": [{"name": "e", "type": "HashingEmbedder"}],
    "retrieval_strategies": [{"name": "r", "type": "BasicSimilarityStrategy"}],
}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class FoundHere(msgspec.Struct, kw_only=True):
    """What the scripted retriever found."""

    retrieved: Retrieved
    strategy: str
    database: str


class FakeRetriever:
    """Finds what `hits` holds for a query's text (else under ""); remembers how it was asked."""

    def __init__(self) -> None:
        self.hits: dict[str, list[Hit]] = {}
        self.asked: list[tuple[str | None, str | None, Query]] = []
        self.error: PaddockError | None = None

    async def retrieve(self, config: ProjectConfig, database: str | None, strategy: str | None, query: Query) -> Found:
        """See `Retriever`."""
        self.asked.append((database, strategy, query))
        if self.error is not None:
            raise self.error
        found = self.hits.get(query.text, self.hits.get("", []))
        return FoundHere(retrieved=Retrieved(hits=found), strategy=strategy or "r", database=database or "main")


class RawModel(ChatModel):
    """Type ``raw``: sends `pieces` as they are."""

    types = (TypeName("raw"),)

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece


class Types:
    """The plugin that makes the component types of the tests known."""

    def __init__(self, models: Sequence[ChatModel]) -> None:
        self._models = models

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return self._models

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        return [HashingEmbedder()]

    @hookimpl
    def paddock_retrieval_strategies(self, env: Environment) -> Sequence[RetrievalStrategy]:
        return builtin_strategies()


class Answered:
    """A reply read to its end."""

    def __init__(self, reply: Reply, body: bytes) -> None:
        self.reply = reply
        self.headers = reply.headers
        self.body = body

    @property
    def session(self) -> str:
        return self.headers["X-Session-ID"]

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def chunks(self) -> list[Any]:
        events = sse_events(self.body)
        assert events[-1] == "[DONE]"
        return events[:-1]

    @property
    def text(self) -> str:
        if not self.reply.media_type.startswith("text/event-stream"):
            return str(self.json()["choices"][0]["message"]["content"])
        return self.joined("content")

    def joined(self, field: str) -> str:
        deltas = [choice["delta"] for chunk in self.chunks for choice in chunk["choices"]]
        return "".join(delta.get(field) or "" for delta in deltas)


class Lab:
    """Everything a chat test needs. `echo` answers as it is told, else with the question; `calls` is what it got."""

    def __init__(self, core: Core, echo: EchoModel, raw: RawModel) -> None:
        self.core = core
        self.echo = echo
        self.raw = raw
        self.clock = Clock()
        self.files = ProjectFiles(core)
        self.events = EventLog(core)
        self.retriever = FakeRetriever()
        self.chat = ChatService(core, self.files, self.retriever, self.events)
        self.chat.sessions._clock = self.clock
        self.ctx = Context(endpoints_of(contracts)[0], "req_test", "http://127.0.0.1", {})

    def project(self, name: str = "p", *, model: Mapping[str, Any] | None = None, **fields: Any) -> None:
        """Write a project with the model ``m`` (type echo) and what else is given."""
        config: dict[str, Any] = {"version": "v1", "name": name, "namespace": "n"}
        config["runtime"] = {"models": [{"name": "m", "provider": "echo", "model": "echo-1", **(model or {})}]}
        folder = self.core.projects_dir / "n" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "llamafarm.yaml").write_text(json.dumps({**config, **fields}))

    def with_documents(self, *hits: Hit, **fields: Any) -> None:
        """Write a project with the database ``main``; every query finds `hits`."""
        self.project(rag={"databases": [DATABASE]}, **fields)
        self.retriever.hits[""] = list(hits)

    async def start(
        self, said: str | list[Json], *, session: str | None = None, project: str = "p", **fields: Any
    ) -> Reply:
        """Ask. Stateless when `session` is None, a new session when it is empty. Text is one message of the user."""
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else said
        data = ChatRequest.decode(json.dumps({"messages": messages, **fields}).encode())
        stateless = "yes" if session is None else None
        params = ChatPath(namespace="n", project=project, session_id=session, no_session=stateless)
        return await self.chat.chat_completions(self.ctx, params, data)

    async def ask(self, said: str | list[Json], **given: Any) -> Answered:
        """Ask and read the whole reply."""
        return await self.read(await self.start(said, **given))

    async def read(self, reply: Reply) -> Answered:
        if isinstance(reply.body, bytes):
            return Answered(reply, reply.body)
        return Answered(reply, b"".join([piece async for piece in reply.body]))

    @property
    def sent(self) -> dict[str, Any]:
        """The body that the model got last."""
        return self.echo.calls[-1].body

    @property
    def roles(self) -> list[tuple[str, Any]]:
        """Role and content of the messages that the model got last."""
        return [(message["role"], message.get("content")) for message in self.sent["messages"]]

    async def history(self, session: str, project: str = "p") -> list[Any]:
        params = SessionPath(namespace="n", project=project, session_id=session)
        return (await self.chat.chat_history_get(self.ctx, params)).messages

    async def delete(self, session: str, project: str = "p") -> str:
        params = SessionPath(namespace="n", project=project, session_id=session)
        return (await self.chat.chat_session_delete(self.ctx, params)).message

    async def delete_all(self, project: str = "p") -> tuple[str, int]:
        found = await self.chat.chat_sessions_delete(self.ctx, SessionListPath(namespace="n", project=project))
        return found.message, found.count

    async def event(self, project: str = "p") -> EventDetail:
        """The event that ended last."""
        page = await self.events.page("n", project, EventFilter())
        return await self.events.one("n", project, page.events[0].event_id)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A lab whose sessions expire after 1800 seconds of its clock and keep 10 messages."""
    settings = Settings(
        server=Server(data_dir=str(tmp_path)), chat=Chat(max_history_messages=10, rag_context_tokens=200)
    )
    echo, raw = EchoModel(), RawModel()
    loaded = [Loaded("types", "0", Types([echo, raw, ExtractiveModel()])), Loaded("memory", "0", MemoryStorePlugin())]
    plugins = Plugins(loaded, [contracts])
    state = await Database.open(tmp_path / "state.db", MIGRATIONS)
    http = OutgoingClient()
    core = Core(settings=settings, plugins=plugins, state=state, blobs=Blobs(tmp_path / "blobs"), http=http)
    lab = Lab(core, echo, raw)
    plugins.attach([lab.chat], [])
    plugins.open(settings, http, lambda _: MemoryHost())
    await lab.events.start()
    await lab.chat.start()
    lab.project()
    yield lab
    await lab.chat.close()
    await lab.events.close()
    await http.close()
    await state.close()
