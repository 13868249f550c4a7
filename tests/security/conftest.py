"""Servers to attack: one with keys, whose log is kept, and a raw connection to it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from paddock.contracts.base import Json
from paddock.testing.server import Answered, RunningServer, running_server
from tests.security.keyed import Keyed, keyed_server

DATABASE: dict[str, Any] = {
    "name": "main",
    "type": "SqliteVecStore",
    "embedding_strategies": [{"name": "h", "type": "HashingEmbedder"}],
    "retrieval_strategies": [{"name": "r", "type": "HybridRetriever"}],
}
PROJECT: dict[str, Any] = {
    "version": "v1",
    "runtime": {"models": [{"name": "default", "provider": "extractive", "model": "extractive"}]},
    "rag": {
        "databases": [DATABASE],
        "data_processing_strategies": [
            {"name": "s", "parsers": [{"type": "auto", "config": {"chunk_size": 500, "chunk_overlap": 0}}]}
        ],
    },
    "datasets": [{"name": "d", "database": "main", "data_processing_strategy": "s"}],
}


class Target:
    """A running server and the short forms of what the tests send to it."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.ask = server.ask
        self.host, _, port = server.base_url.removeprefix("http://").partition(":")
        self.port = int(port)

    async def project(self, name: str = "p", namespace: str = "n", **changes: Json) -> None:
        """Create a project with one database and one dataset."""
        config = {**PROJECT, **changes, "name": name, "namespace": namespace}
        files = self.server.app.services.files
        import json

        await files.create(namespace, name, json.dumps(config))

    async def upload(self, name: str, data: bytes, path: str = "/v1/projects/n/p/datasets/d/data") -> Answered:
        """Upload one file under any name."""
        quoted = name.replace('"', "%22").encode("utf-8", "surrogatepass")
        head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="' + quoted + b'"\r\n\r\n'
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        return await self.ask("POST", path, data=io.BytesIO(head + data + b"\r\n--edge--\r\n"), headers=headers)

    async def process(self, namespace: str = "n", project: str = "p", dataset: str = "d") -> Any:
        """Process a dataset and return its task when it is final."""
        path = f"/v1/projects/{namespace}/{project}/datasets/{dataset}/actions"
        reply = await self.ask("POST", path, {"action_type": "process"})
        assert reply.status == 200, reply.body
        return await self.server.app.services.tasks.views.finished(namespace, project, reply.json()["task_id"])

    async def raw(self, data: bytes, *, end: bool = False) -> bytes:
        """Send bytes as they are, and read until the server closes the connection."""
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(data)
            if end:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(), 20)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


TargetMaker = Callable[..., Any]


@pytest.fixture
def open_target(tmp_path: Path) -> TargetMaker:
    """Opens a server over this test's data folder, with settings and plugins of the test's choice."""

    @asynccontextmanager
    async def open_(
        settings: Mapping[str, Mapping[str, Any]] | None = None, plugins: Mapping[str, object] | None = None
    ) -> AsyncIterator[Target]:
        async with running_server(tmp_path / "data", settings=settings, plugins=plugins) as server:
            yield Target(server)

    return open_


@pytest.fixture
async def target(open_target: TargetMaker) -> AsyncIterator[Target]:
    async with open_target() as opened:
        yield opened


Attack = Callable[[Target], Awaitable[None]]


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Keyed]:
    async with keyed_server(tmp_path / "data") as server:
        yield server
