"""For tests: a manager of real processes, the stub as llama-server, settings made for haste."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import Environment
from paddock.contracts.providers.serving import GatewayCall
from paddock.outgoing import OutgoingClient
from paddock.testing.host import MemoryHost
from paddock_llama_server import stub
from paddock_llama_server.manager import Manager
from paddock_llama_server.owner import Owner
from paddock_llama_server.server import LlamaServer
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Address, Instance, Spec

LIMIT = 20.0  # seconds that no wait of a test may last


class Bench:
    """A manager with its parts, settings made for haste, and short ways to do the usual."""

    def __init__(self, folder: Path, host: MemoryHost, http: OutgoingClient, settings: LlamaServerSettings) -> None:
        self.folder = folder
        self.host = host
        self.http = http
        self.env = Environment(settings, folder / "data", http, host, folder / "data" / "models" / "hub")
        self.manager = Manager(self.env)
        self.server = LlamaServer(self.env, self.manager)

    def model(self, name: str, **knobs: Any) -> str:
        """A model file with knobs, and ``state``, where its starts are counted."""
        return str(stub.write_model(self.folder / f"{name}.gguf", state=str(self.folder / f"{name}.starts"), **knobs))

    async def add(
        self, name: str, *, start: bool = False, spec: dict[str, Any] | None = None, **knobs: Any
    ) -> Instance:
        """Create an instance of a model with these knobs."""
        given = Spec(**{"options": {"model": self.model(name, **knobs)}, **(spec or {})})
        return await self.manager.create(name, given, start=start)

    async def run(self, name: str, *, spec: dict[str, Any] | None = None, **knobs: Any) -> Instance:
        """`add`, start, wait until it runs."""
        await self.add(name, start=True, spec=spec, **knobs)
        found = await self.settled(name)
        assert found.status == "running", found.last_error
        return found

    async def settled(self, name: str) -> Instance:
        """The instance when it is at rest."""
        return await asyncio.wait_for(self.manager.settled(name), LIMIT)

    async def until(self, name: str, condition: Callable[[Instance], bool]) -> Instance:
        """The instance when `condition` holds."""
        await eventually(lambda: condition(self.manager.get(name)))
        return self.manager.get(name)

    def starts(self, name: str) -> int:
        """How often the model's process was started."""
        return len(self.pids(name))

    def pids(self, name: str) -> list[int]:
        """The processes that were started, in order."""
        path = self.folder / f"{name}.starts"
        return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []

    def owner(self, name: str) -> Owner:
        """The owner of an instance."""
        return self.manager.owner(name)

    async def ask(self, name: str, **fields: Json) -> tuple[int, Any]:
        """One chat completion, whole."""
        async with self.server.serve(call(name, **fields)) as reply:
            return reply.status, msgspec.json.decode(await reply.read())

    async def child(self, address: Address, method: str, path: str) -> Any:
        """Ask the stub itself."""
        async with self.http.send(method, address.base_url + path, trusted=True) as reply:
            return msgspec.json.decode(await reply.read())


async def eventually(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds. Raises TimeoutError after `LIMIT` seconds."""
    async with asyncio.timeout(LIMIT):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


def call(name: str, *, stream: bool = False, **fields: Json) -> GatewayCall:
    """A chat completion as the gateway hands it over."""
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "stream": stream, **fields}
    return GatewayCall(operation="chat/completions", model=name, body=msgspec.json.encode(body), stream=stream)


HASTE: dict[str, Any] = {
    "port_first": 10000 + os.getpid() % 200 * 100, "port_last": 30099, "restart_delay": 0.02, "stop_grace": 5,
    "kill_grace": 1, "watch_interval": 0.1, "queue_patience": 0.2, "queue_timeout": 10, "start_timeout": 10,
}  # fmt: skip


@asynccontextmanager
async def bench_of(folder: Path, *, host: MemoryHost | None = None, **settings: Any) -> AsyncIterator[Bench]:
    """A running bench. `host` keeps the rows of an earlier one."""
    command = folder / "llama-server"
    if not command.exists():
        stub.write_command(command)
    http = OutgoingClient()
    given = msgspec.convert({"command": str(command), **HASTE, **settings}, LlamaServerSettings)
    bench = Bench(folder, host or MemoryHost(), http, given)
    try:
        async with bench.manager.running():
            yield bench
    finally:
        await http.close()
