"""The core's client of upstreams. aiohttp is imported with the first request."""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from paddock.contracts.providers import HttpReply, HttpSocket
from paddock.errors import ProviderUnavailable
from paddock.outgoing.rule import Origin, Resolve, check_origin, parse_allow, parse_url

if TYPE_CHECKING:
    from paddock.outgoing.http import Pool

_CACHED = 512  # checked addresses kept; a server talks to few


class OutgoingClient:
    """The HttpClient of the core: pooled connections, no redirects, cookies or proxies, bodies as they come.

    `allow` lists ``host:port`` that may be loopback or private. Times are in seconds; `timeout` (whole exchange) and
    `first_byte_timeout` hold for requests that name none. `resolve` stands in for the system's name service. Must be used
    in one event loop and closed in it.
    """

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        connect_timeout: float = 10,
        first_byte_timeout: float = 300,
        timeout: float = 3600,
        resolve: Resolve | None = None,
    ) -> None:
        self.allowed = parse_allow(allow)
        self.connect_timeout = connect_timeout
        self.first_byte_timeout = first_byte_timeout
        self.timeout = timeout
        self._resolve = resolve
        self._origins: dict[str, Origin] = {}
        self._children: dict[str, Origin] = {}
        self._pool: Pool | None = None
        self._closed = False

    def check(self, url: str, field: str = "base_url") -> Origin:
        """`check_url` with this client's allow list; returns where the URL leads."""
        origin = self._origins.get(url)
        if origin is None:
            origin = parse_url(url, field)
            check_origin(origin, self.allowed, field)
            if len(self._origins) >= _CACHED:
                self._origins.clear()
            self._origins[url] = origin
        return origin

    def _own(self, url: str) -> Origin:
        """Where an address of paddock's own leads: a child process, which listens on the loopback. Raises ValueError."""
        origin = self._children.get(url)
        if origin is None:
            origin = parse_url(url)
            if origin.address is None or not ipaddress.ip_address(origin.address).is_loopback:
                raise ValueError(f"{origin.key} is no literal loopback address: only those can be trusted")
            if len(self._children) >= _CACHED:
                self._children.clear()
            self._children[url] = origin
        return origin

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
        """See `HttpClient.send`. The headers of the reply are found in any case.

        ``Accept-Encoding: identity`` is sent unless `headers` name another, because bodies are never decompressed.
        """
        origin = self._own(url) if trusted else self.check(url)
        first_byte = self.first_byte_timeout if first_byte_timeout is None else first_byte_timeout
        total = self.timeout if timeout is None else timeout
        pool = self._open_pool()
        from paddock.outgoing.http import Exchange, Request  # noqa: PLC0415  aiohttp is heavy: on first use

        return Exchange(pool, Request(method, url, origin, headers, body, total, min(first_byte, total)))

    def websocket(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        protocols: Sequence[str] = (),
        trusted: bool = False,
    ) -> AbstractAsyncContextManager[HttpSocket]:
        """See `HttpClient.websocket`."""
        origin = self._own(url) if trusted else self.check(url)
        pool = self._open_pool()
        from paddock.outgoing.sockets import Conversation  # noqa: PLC0415  aiohttp is heavy: on first use

        patience = self.first_byte_timeout
        return Conversation(pool, url, origin, headers=headers, protocols=tuple(protocols), patience=patience)

    def _open_pool(self) -> Pool:
        if self._closed:
            raise ProviderUnavailable("the server is shutting down")
        if self._pool is None:
            from paddock.outgoing.http import Pool  # noqa: PLC0415  aiohttp is heavy: on first use

            self._pool = Pool(self.allowed, self.connect_timeout, self._resolve)
        return self._pool

    async def close(self) -> None:
        """Close all connections, those in use too. Idempotent."""
        self._closed = True
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
