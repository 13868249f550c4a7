"""The LlamaFarm API as its document prints it: a client that runs the document's curl lines, and its example project.

Where a request of the document names something that only exists at its author's (an address, a file, an id), `REPLACED`
says what stands for it.
"""

import json
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ChatModel, Environment
from paddock.testing.chat import EchoModel
from paddock.testing.server import Answered, RunningServer, running_server

PAPER = "Clinical trials must follow the regulations of the agency.\n\nA trial begins with a protocol for its cows."
PROJECT = "http://localhost:8000/v1/projects/my-org/chatbot"
TYPED = '-H "Content-Type: application/json"'
REPLACED = {
    "http://localhost:8000": "{base}",
    "@paper1.pdf": "@paper1.txt",
    "data/abc123": "data/{hash}",
    "tasks/task-123-abc": "tasks/{task}",
    "sessions/abc-123": "sessions/{session}",
    "evt_20240115_103000_inference_abc123": "{event}",
    "fda_rag": "harbour_museum",
    "fda_letters": "visit",
    "my-project": "chatbot",
}
ADDRESS = {"provider": "echo", "base_url": "http://localhost:11434/v1"}
MODELS = [
    {"name": "fast-model", "model": "llama3.2:3b", **ADDRESS, "description": "Fast model for quick responses"},
    {"name": "smart-model", "model": "llama3.2:70b", **ADDRESS, "description": "Larger model for complex tasks"},
]


def database(name: str) -> dict[str, Any]:
    """A database of the document's project, with an embedder that needs no server."""
    return {
        "name": name,
        "type": "ChromaStore",
        "config": {"collection_name": "documents", "distance_function": "cosine"},
        "embedding_strategies": [{"name": "default_embeddings", "type": "HashingEmbedder"}],
        "retrieval_strategies": [
            {"name": "basic_search", "type": "BasicSimilarityStrategy", "config": {"top_k": 10}, "default": True},
            {"name": "hybrid", "type": "HybridRetriever"},
        ],
    }


def processing(name: str) -> dict[str, Any]:
    """A processing strategy of the document's project."""
    return {"name": name, "parsers": [{"type": "TextParser_Python", "config": {"chunk_size": 100, "chunk_overlap": 0}}]}


CONFIG = {
    "version": "v1",
    "name": "chatbot",
    "namespace": "my-org",
    "runtime": {"default_model": "fast-model", "models": MODELS},
    "rag": {
        "databases": [database(name) for name in ("main_db", "research_db", "fda_db", "old_db")],
        "data_processing_strategies": [processing("universal_processor"), processing("custom_strategy")],
    },
}


def fits(reply: Any, printed: Any, where: str = "reply") -> None:
    """Hold a reply against the printed one: every printed field is there with the printed type, in each item of a list."""
    if isinstance(printed, dict):
        assert isinstance(reply, dict), (where, reply)
        for key, value in printed.items():
            assert key in reply, f"{where}.{key} is missing in {sorted(reply)}"
            fits(reply[key], value, f"{where}.{key}")
    elif isinstance(printed, list):
        assert isinstance(reply, list), (where, reply)
        assert reply or not printed, f"{where} is empty"
        for item in reply if printed else ():
            fits(item, printed[0], f"{where}[]")
    elif isinstance(printed, float):
        assert type(reply) in (int, float), (where, reply)
    elif printed is not None:
        assert type(reply) is type(printed), (where, reply)


class Echo:
    """The plugin of the model that answers."""

    def __init__(self) -> None:
        self.model = EchoModel()

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [self.model]


class Reader:
    """Runs the document's curl lines; `names` fill the replacements."""

    fits = staticmethod(fits)
    replaced: Mapping[str, str] = REPLACED

    def __init__(self, server: RunningServer, folder: Path, echo: EchoModel) -> None:
        self.server = server
        self.echo = echo
        self.folder = folder
        self.names = {"base": server.base_url}

    async def curl(self, line: str) -> Answered:
        """Run a curl line."""
        for printed, real in self.replaced.items():
            if printed in line:
                line = line.replace(printed, real.format(**self.names))
        words = iter(shlex.split(line.replace("\\\n", " "))[1:])
        method, url, headers, body = None, "", {}, None
        for word in words:
            if word == "-X":
                method = next(words)
            elif word == "-H":
                name, _, headers_value = next(words).partition(": ")
                headers[name] = headers_value
            elif word == "-d":
                body = next(words).encode()
            elif word == "-F":
                field, _, file = next(words).partition("=@")
                form = aiohttp.FormData()
                form.add_field(field, (self.folder / file).read_bytes(), filename=file)
                return await self.server.ask(method or "POST", url.removeprefix(self.server.base_url), data=form)
            else:
                url = word
        method = method or ("GET" if body is None else "POST")
        return await self.server.ask(method, url.removeprefix(self.server.base_url), data=body, headers=headers)

    async def good(self, line: str, status: int = 200) -> Any:
        """Run a curl line that must succeed; returns the decoded reply."""
        reply = await self.curl(line)
        assert reply.status == status, reply.body
        return reply.json()

    async def send(self, method: str, path: str, body: Mapping[str, Any], header: str = "") -> Answered:
        """Send a documented body to a path below the project."""
        return await self.curl(f"curl -X {method} {PROJECT}{path} {TYPED} {header} -d {shlex.quote(json.dumps(body))}")

    async def get(self, path: str) -> Any:
        """The decoded reply of a path below the project."""
        return await self.good(f'curl "{PROJECT}{path}"')

    async def chat(self, content: str, header: str = "", **fields: Any) -> Answered:
        """Ask one question."""
        body = {"messages": [{"role": "user", "content": content}], **fields}
        return await self.send("POST", "/chat/completions", body, header)

    async def finished(self, task: str) -> Any:
        """The task when it has ended, told by its event stream."""
        url = f"{self.server.base_url}/v1/projects/my-org/chatbot/tasks/{task}/events"
        async with self.server.session.get(url) as reply:
            return [msgspec.json.decode(line[6:]) async for line in reply.content if line.startswith(b"data: ")][-1]

    async def create(self) -> None:
        """The document's project: created, then configured."""
        body = '{"name": "chatbot", "config_template": "server"}'
        await self.good(f"curl -X POST http://localhost:8000/v1/projects/my-org {TYPED} -d '{body}'")
        assert (await self.send("PUT", "", {"config": CONFIG})).status == 200

    async def fill(self) -> None:
        """The document's dataset with its file, processed."""
        body = {"name": "research_papers", "data_processing_strategy": "universal_processor", "database": "main_db"}
        assert (await self.send("POST", "/datasets", body)).status == 200
        uploaded = await self.good(f'curl -X POST {PROJECT}/datasets/research_papers/data \\\n-F "file=@paper1.pdf"')
        started = await self.send("POST", "/datasets/research_papers/actions", {"action_type": "process"})
        self.names |= {"hash": uploaded["hash"], "task": started.json()["task_id"]}
        assert (await self.finished(self.names["task"]))["state"] == "SUCCESS"


@pytest.fixture
async def bare(tmp_path: Path) -> AsyncIterator[Reader]:
    """A server without any project."""
    (tmp_path / "paper1.txt").write_text(PAPER)
    echo = Echo()
    async with running_server(tmp_path / "data", plugins={"echo": echo}) as server:
        yield Reader(server, tmp_path, echo.model)


@pytest.fixture
async def client(bare: Reader) -> Reader:
    """A server with the document's project."""
    await bare.create()
    return bare


@pytest.fixture
async def filled(client: Reader) -> Reader:
    """The same with a processed dataset."""
    await client.fill()
    return client
