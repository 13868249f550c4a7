"""A `Host` without a server: rows in memory, log lines and events kept in lists. For the tests of plugins."""

from __future__ import annotations

import asyncio
import typing
from typing import Any

import msgspec

from paddock.contracts.base import Caller, Context, Json
from paddock.contracts.providers import Embedder, Records
from paddock.contracts.providers.outgoing import Level


class MemoryRecords:
    """Rows as long as the object lives; bodies are encoded and decoded, as the real ones are."""

    def __init__(self) -> None:
        self.noted = asyncio.Event()
        """Set when something was put."""
        self._rows: dict[tuple[str, str], bytes] = {}

    async def put(self, kind: str, name: str, body: Json | msgspec.Raw) -> None:
        """See `Records.put`."""
        self._rows[kind, name] = msgspec.json.encode(body)
        self.noted.set()

    async def get(self, kind: str, name: str) -> Json:
        """See `Records.get`."""
        found = self._rows.get((kind, name))
        return None if found is None else msgspec.json.decode(found)

    async def all(self, kind: str) -> dict[str, Json]:
        """See `Records.all`."""
        return {name: msgspec.json.decode(body) for (one, name), body in self._rows.items() if one == kind}

    async def delete(self, kind: str, name: str) -> bool:
        """See `Records.delete`."""
        return self._rows.pop((kind, name), None) is not None


class MemoryHost:
    """Set `port`, `closed` and `embedders` as the test wants them; `lines`, `events` and `fetched` hold what was asked of it."""

    def __init__(self, records: Records | None = None) -> None:
        self.records: Records = records or MemoryRecords()
        self.stopping = asyncio.Event()
        self.port = 0
        self.closed = False
        self.embedders: dict[str, Embedder] = {}
        self.lines: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.fetched: list[str] = []

    async def fetch_model(self, model: str, *, gguf: bool = False) -> None:  # noqa: ARG002  as the real one
        """Keep the name in `fetched`."""
        self.fetched.append(model)

    def embedder(self, type_name: str) -> Embedder | None:
        """One of `embedders`."""
        return self.embedders.get(type_name)

    def log(self, event: str, /, level: Level = "info", **fields: object) -> None:
        """Keep a line. Raises ValueError for another level than the contract's."""
        if level not in typing.get_args(Level):
            raise ValueError(f"{level} is no level of the log: {', '.join(typing.get_args(Level))} are")
        self.lines.append({"event": event, "level": level, **fields})

    def record(
        self, event_type: str, /, *, error: BaseException | str | None = None, seconds: float = 0.0, **data: Json
    ) -> None:
        """Keep an event."""
        self.events.append({"type": event_type, "error": error, "seconds": seconds, **data})


def context(caller: Caller | None = None) -> Context:
    """The context of a request, for an endpoint that is called without a server and does not look at its own contract."""
    return Context(None, "req_test", "http://127.0.0.1", {}, caller or Caller())  # type: ignore[arg-type]  # see above
