"""What the core does for its plugins: rows of their own, log lines, events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.contracts.providers import Embedder, Progress, Records
from paddock.contracts.providers.outgoing import Level
from paddock.errors import BadRequest, ModelNotFound
from paddock.services.core import Core
from paddock.services.events import EventLog
from paddock.storage import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class PluginRecords:
    """Implements `Records` for one plugin in the state database."""

    def __init__(self, core: Core, plugin: str) -> None:
        self._core = core
        self._plugin = plugin

    async def put(self, kind: str, name: str, body: Json | msgspec.Raw) -> None:
        """See `Records.put`."""
        values = (self._plugin, kind, name, msgspec.json.encode(body))

        def write(db: Connection) -> None:
            db.execute(
                "INSERT INTO records (plugin, kind, name, body) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (plugin, kind, name) DO UPDATE SET body = excluded.body",
                values,
            )

        await self._core.state.write(write)

    async def get(self, kind: str, name: str) -> Json:
        """See `Records.get`."""
        where = (self._plugin, kind, name)

        def read(db: Connection) -> Any:
            return db.execute("SELECT body FROM records WHERE plugin = ? AND kind = ? AND name = ?", where).get

        body = await self._core.state.read(read)
        return None if body is None else msgspec.json.decode(body)

    async def all(self, kind: str) -> dict[str, Json]:
        """See `Records.all`."""
        where = (self._plugin, kind)

        def read(db: Connection) -> list[Any]:
            found = db.execute("SELECT name, body FROM records WHERE plugin = ? AND kind = ? ORDER BY id", where)
            return found.fetchall()

        return {name: msgspec.json.decode(body) for name, body in await self._core.state.read(read)}

    async def delete(self, kind: str, name: str) -> bool:
        """See `Records.delete`."""
        where = (self._plugin, kind, name)

        def write(db: Connection) -> bool:
            db.execute("DELETE FROM records WHERE plugin = ? AND kind = ? AND name = ?", where)
            return db.changes() > 0

        return await self._core.state.write(write)


class PluginHost:
    """Implements `Host` for one plugin."""

    def __init__(self, core: Core, events: EventLog, plugin: str) -> None:
        self._core = core
        self._events = events
        self._plugin = plugin
        self.records: Records = PluginRecords(core, plugin)

    @property
    def stopping(self) -> asyncio.Event:
        """See `Host.stopping`."""
        return self._core.stopping

    @property
    def port(self) -> int:
        """See `Host.port`."""
        return self._core.serving.port

    @property
    def closed(self) -> bool:
        """See `Host.closed`."""
        return self._core.serving.closed()

    def embedder(self, type_name: str) -> Embedder | None:
        """See `Host.embedder`."""
        return self._core.plugins.embedders.get(type_name)

    async def fetch_model(self, model: str, *, gguf: bool = False) -> None:
        """See `Host.fetch_model`."""
        settings = self._core.settings
        cache = HubCache(settings.hub_cache)
        if await asyncio.to_thread(cache.gguf if gguf else cache.holds, model):
            return
        source = self._core.plugins.model_sources.get("universal")
        if source is None or not settings.models.auto_download:
            raise await asyncio.to_thread(cache.missing, model)
        if gguf and not await source.quantizations(cache.resolve(model).repo):
            raise BadRequest(f"{model} has no GGUF file: nothing else can be run by llama-server")
        pull = cast("AsyncGenerator[Progress, None]", source.pull(model))
        try:
            async with aclosing(pull):
                async for _ in pull:
                    pass
        except ModelNotFound as error:
            raise ModelNotFound(f"{error.message}{await asyncio.to_thread(cache.near, model)}") from error

    def log(self, event: str, /, level: Level = "info", **fields: object) -> None:
        """See `Host.log`."""
        self._core.log.event(event, level, plugin=self._plugin, **fields)

    def record(
        self, event_type: str, /, *, error: BaseException | str | None = None, seconds: float = 0.0, **data: Json
    ) -> None:
        """See `Host.record`."""
        self._events.record("", "", event_type, error=error, seconds=seconds, **data)
