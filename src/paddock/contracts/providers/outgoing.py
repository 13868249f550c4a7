"""What plugins get to reach upstreams: the core's HTTP client, their settings, a folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers.embedding import Embedder

Level = Literal["debug", "info", "warning", "error"]
"""How much a line of the server's log matters."""


class HttpReply(Protocol):
    """An upstream's answer whose body is still arriving."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, in pieces of any size. Raises ProviderUnavailable when the connection breaks."""

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole body, at most `limit` bytes (ProviderUnavailable beyond)."""


class HttpSocket(Protocol):
    """An open websocket to an upstream. `protocol` is the one it chose, `close_code` and `close_reason` what it left with."""

    protocol: str | None
    close_code: int | None
    close_reason: str

    async def receive(self) -> str | bytes | None:
        """The next message, or None when the upstream has left. Raises ProviderUnavailable when the connection breaks."""

    async def send(self, message: str | bytes) -> None:
        """Send one message; after the upstream left it goes nowhere."""

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; idempotent."""


class HttpClient(Protocol):
    """The core's client of upstreams. It connects only to addresses that were checked, and follows no redirects."""

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
        trusted: bool = False,
    ) -> AbstractAsyncContextManager[HttpReply]:
        """Send; leaving the context closes the connection upstream unless the body was read to its end.

        `trusted` is for an address that paddock chose itself (a child process on the loopback): it must be a literal
        loopback address and needs no entry in ``outgoing.allow``. Never pass it for what came from outside.

        A body that is an iterator is sent piece by piece as it comes (chunked, unless `headers` hold its Content-Length).
        `timeout` bounds the whole exchange, `first_byte_timeout` the wait for the status line, both in seconds.
        Raises ProviderUnavailable (connect, break), UpstreamTimeout, ValidationFailed (an address that the setting
        ``outgoing.allow`` does not list).
        """

    def websocket(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        protocols: Sequence[str] = (),
        trusted: bool = False,
    ) -> AbstractAsyncContextManager[HttpSocket]:
        """Open a websocket at an ``http(s)://`` address; leaving the context closes it. Addresses as with `send`.

        Raises ProviderUnavailable, UpstreamTimeout, ValidationFailed as `send`, UpstreamError with the upstream's status when
        it refuses the handshake.
        """


class Records(Protocol):
    """A plugin's own durable rows in the state database: JSON bodies by kind and name. A write that returned is on disk."""

    async def put(self, kind: str, name: str, body: Json | msgspec.Raw) -> None:
        """Store, replacing what has the name; a `Raw` is JSON as it is. Raises ProviderUnavailable (the disk is full)."""

    async def get(self, kind: str, name: str) -> Json:
        """The body, or None."""

    async def all(self, kind: str) -> dict[str, Json]:
        """Every body of the kind by name, the oldest first."""

    async def delete(self, kind: str, name: str) -> bool:
        """Delete; whether there was one."""


class Host(Protocol):
    """What the core does for a plugin besides its settings. Rows, events and `closed` work while the server runs."""

    @property
    def records(self) -> Records:
        """Rows of this plugin alone."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the server begins to shut down."""

    @property
    def port(self) -> int:
        """The port of the server itself, which nothing else may take; 0 while it is not known."""

    @property
    def closed(self) -> bool:
        """Whether any key exists, so that callers are told apart."""

    def embedder(self, type_name: str) -> Embedder | None:
        """The embedder of any loaded plugin that answers to this type name, or None."""

    async def fetch_model(self, model: str, *, gguf: bool = False) -> None:
        """Have a model (``org/name``, ``org/name:QUANT``) in the cache: fetch it if it is not there and the setting
        ``models.auto_download`` is on. With `gguf` nothing but a GGUF file will do.

        Raises ModelNotFound with the command that fetches it, BadRequest (no GGUF file), and as `ModelSource.pull`."""

    def log(self, event: str, /, level: Level = "info", **fields: object) -> None:
        """Write a line to the server's log. Never blocks."""

    def record(
        self, event_type: str, /, *, error: BaseException | str | None = None, seconds: float = 0.0, **data: Json
    ) -> None:
        """Write something that happened, took so many seconds, and belongs to no project, into the event log. Never blocks."""


class Environment(msgspec.Struct, frozen=True):
    """What the core hands to a plugin when it asks for its providers: its settings section, a folder, the client, itself,
    the folder of the model cache (`paddock.builtin.hub_cache` reads it)."""

    settings: Any
    data_dir: Path
    http: HttpClient
    host: Host
    hub_cache: Path
