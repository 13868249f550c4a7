"""What the tests of llamactl's two documents share: a server with the real llama-server behind it, and a tiny model."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from paddock_llama_server import LlamaServer
from paddock_llama_server.tiny import write_tiny_model

from paddock.testing.chat import EchoModel
from paddock.testing.server import running_server
from tests.api_document.conftest import Reader

UNLIMITED = {"requests_per_minute": 0, "expensive_per_minute": 0}


class Llamactl(Reader):
    """Runs llamactl's curl lines."""

    path = ""
    headers: Mapping[str, str] = {}

    async def until(self, name: str, status: str) -> Any:
        """The instance when it neither starts nor stops any more, and has this status."""
        server = self.server.app.plugins.model_servers.find("llama-server")
        assert isinstance(server, LlamaServer)
        async with asyncio.timeout(120):
            await server.manager.settled(name)
        found = (await self.server.ask("GET", f"{self.path}/{name}", headers=dict(self.headers))).json()
        assert found["status"] == status, found["last_error"]
        return found


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def llamactl(
    kind: type[Llamactl], folder: Path, command: str, settings: dict[str, dict[str, Any]]
) -> AsyncIterator[Llamactl]:
    """A reader of a document over a server of its own."""
    model = write_tiny_model(folder / "models" / "tiny.gguf")
    settings = {
        "llama_server": {"command": command, "model_dirs": [str(folder / "models")], "stats_interval": 0.5},
        "rate_limit": UNLIMITED, **settings,
    }  # fmt: skip
    async with running_server(folder / "data", settings=settings) as server:
        reader = kind(server, folder, EchoModel())
        reader.names |= {"model": str(model), "port": str(free_port())}
        yield reader
