"""What plugins get to reach upstreams: the core's HTTP client, their settings, a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import msgspec


class HttpReply(Protocol):
    """An upstream's answer whose body is still arriving."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, in pieces of any size. Raises ProviderUnavailable when the connection breaks."""

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """The whole body, at most `limit` bytes (ProviderUnavailable beyond)."""


class HttpClient(Protocol):
    """The core's client of upstreams. It connects only to addresses that were checked, and follows no redirects."""

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeout: float | None = None,
        first_byte_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[HttpReply]:
        """Send; leaving the context closes the connection upstream unless the body was read to its end.

        `timeout` bounds the whole exchange, `first_byte_timeout` the wait for the status line, both in seconds.
        Raises ProviderUnavailable (connect, break), UpstreamTimeout, ValidationFailed (an address that the setting
        ``outgoing.allow`` does not list).
        """


class Environment(msgspec.Struct, frozen=True):
    """What the core hands to a plugin when it asks for its providers: its settings section, a folder, the client."""

    settings: Any
    data_dir: Path
    http: HttpClient
