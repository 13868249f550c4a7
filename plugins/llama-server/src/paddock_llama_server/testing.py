"""`Instances` without processes, for tests of what stands in front of them: statuses as the test sets them, logs in lists."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
from msgspec.structs import replace

from paddock.contracts.base import Service, hookimpl
from paddock.contracts.providers import Environment
from paddock.errors import InstanceExists, InstanceLimit, InstanceNotFound, ProviderUnavailable
from paddock_llama_server.files import ModelFiles
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Address, Change, Instance, LogEntry, LogLevel, Spec, Status
from paddock_llama_server.wiring import api_services

__all__ = ["FakeInstances", "FakePlugin"]


class FakeInstances:
    """Implements `Instances`. Orders only change statuses, as the real one's do at once: ``become`` plays what comes then.

    `address` is where leases lead, `limit` how many may run; `orders` holds what was asked, `leased` counts open leases.
    """

    def __init__(self) -> None:
        self.where = Address(base_url="http://127.0.0.1:9", api_key="child-key")
        self.limit = 100
        self.orders: list[tuple[object, ...]] = []
        self.leased = 0
        self.lease_ended = asyncio.Event()
        self.reader_left = asyncio.Event()
        self._all: dict[str, Instance] = {}
        self._logs: dict[str, list[LogEntry]] = {}
        self._news = asyncio.Condition()
        self._readers: list[asyncio.Queue[Change]] = []

    def all(self) -> list[Instance]:
        """See `Instances.all`."""
        return [self._all[name] for name in sorted(self._all)]

    def get(self, name: str) -> Instance:
        """See `Instances.get`."""
        if name not in self._all:
            raise InstanceNotFound(f"no instance {name[:64]}: GET /api/v1/instances lists them")
        return self._all[name]

    async def create(self, name: str, spec: Spec, *, start: bool) -> Instance:
        """See `Instances.create`."""
        if name in self._all:
            raise InstanceExists(f"an instance {name} exists already")
        now = time.time()
        self._all[name] = Instance(
            name=name, spec=spec, status="stopped", wanted="stopped", created=now, updated=now, port=spec.port or 9001
        )
        self._logs[name] = []
        self.orders.append(("create", name))
        return await self.start(name) if start else self._all[name]

    async def update(self, name: str, spec: Spec) -> Instance:
        """See `Instances.update`."""
        self._all[name] = replace(self.get(name), spec=spec, updated=time.time())
        self.orders.append(("update", name))
        return self._all[name]

    async def delete(self, name: str) -> None:
        """See `Instances.delete`."""
        self.get(name)
        del self._all[name]
        self.orders.append(("delete", name))
        self.tell(Change(kind="deleted", time=time.time(), name=name))
        async with self._news:
            self._news.notify_all()

    async def start(self, name: str) -> Instance:
        """See `Instances.start`."""
        found = self.get(name)
        if found.status in ("starting", "running"):
            return found
        if sum(one.status in ("starting", "running") for one in self._all.values()) >= self.limit:
            raise InstanceLimit("as many instances run as may")
        self.orders.append(("start", name))
        return self.become(name, "starting")

    async def stop(self, name: str, *, force: bool = False, timeout: float | None = None) -> Instance:
        """See `Instances.stop`."""
        self.orders.append(("stop", name, force, timeout))
        return self.get(name) if self.get(name).status == "stopped" else self.become(name, "stopping")

    async def restart(self, name: str) -> Instance:
        """See `Instances.restart`."""
        self.orders.append(("restart", name))
        return self.become(name, "restarting")

    async def settled(self, name: str) -> Instance:
        """See `Instances.settled`; here nothing changes by itself."""
        return self.get(name)

    @asynccontextmanager
    async def lease(self, name: str, *, on_demand: bool) -> AsyncIterator[Address]:
        """See `Instances.lease`."""
        if self.get(name).status != "running" and not on_demand:
            raise ProviderUnavailable(f"{name} is not running: start it first")
        self.leased += 1
        try:
            yield self.where
        finally:
            self.leased -= 1
            self.lease_ended.set()

    def address(self, name: str) -> Address | None:
        """See `Instances.address`."""
        return self.where if self.get(name).status == "running" else None

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[Change]]:
        """See `Instances.changes`."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._readers.append(queue)
        try:
            yield _drawn(queue)
        finally:
            self._readers.remove(queue)
            self.reader_left.set()

    async def log_tail(self, name: str, lines: int | None) -> list[LogEntry]:
        """See `Instances.log_tail`."""
        self.get(name)
        return self._logs[name][-lines:] if lines else list(self._logs[name])

    async def log_follow(self, name: str, lines: int) -> AsyncGenerator[LogEntry, None]:
        """See `Instances.log_follow`."""
        at = max(0, len(self._logs[name]) - lines)
        while name in self._all:
            for entry in self._logs[name][at:]:
                at += 1
                yield entry
            async with self._news:
                await self._news.wait_for(lambda: name not in self._all or len(self._logs[name]) > at)  # noqa: B023  awaited here

    def become(self, name: str, status: Status, **facts: object) -> Instance:
        """Set a status (and other fields of `Instance`), and tell the readers of `changes`."""
        before = self.get(name)
        running = {"pid": 4242, "started": time.time(), "memory_bytes": 1000, "cpu_percent": 1.5}
        idle = dict.fromkeys(running)
        self._all[name] = replace(before, status=status, **{**(running if status == "running" else idle), **facts})
        self.tell(Change(kind="status", time=time.time(), name=name, status=status, before=before.status))
        return self._all[name]

    def tell(self, change: Change) -> None:
        """Hand a change to every reader."""
        for queue in self._readers:
            queue.put_nowait(change)

    async def write(self, name: str, text: str, level: LogLevel = "info", at: float = 0) -> None:
        """Add a line to a log."""
        self._logs[name].append(LogEntry(time=at, level=level, text=text))
        async with self._news:
            self._news.notify_all()


async def _drawn(queue: asyncio.Queue[Change]) -> AsyncIterator[Change]:
    while True:
        yield await queue.get()


class FakePlugin:
    """A plugin with the real APIs over `FakeInstances`: give it to ``running_server`` under the name ``llama-server``."""

    def __init__(self) -> None:
        self.instances = FakeInstances()

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """The real section."""
        return "llama_server", LlamaServerSettings

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        """The real services."""
        return api_services(env, self.instances, ModelFiles(()))
