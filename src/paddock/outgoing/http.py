"""aiohttp behind `paddock.outgoing.OutgoingClient`: the connection pool, one exchange, the table of errors.

Imported with the first request, because aiohttp is heavy.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from paddock.errors import PaddockError, ProviderUnavailable, UpstreamTimeout
from paddock.outgoing.rule import Origin, Resolve, refusal

# Below the five seconds after which common servers (uvicorn, llama-server) drop an idle connection themselves.
KEEP_ALIVE = 4
DNS_TTL = 30
LARGE_BODY = 1024 * 1024  # above it aiohttp wants a file object, which it sends in pieces

_opened: ContextVar[list[bool] | None] = ContextVar("opened", default=None)


def _open_socket(info: aiohttp.AddrInfoType) -> socket.socket:
    """Make the socket of a new connection and note in the context that this exchange did not get a pooled one."""
    marks = _opened.get()
    if marks is not None:
        marks.append(True)
    return socket.socket(info[0], info[1], info[2])


class CheckedResolver(AbstractResolver):
    """Resolves names and refuses an answer with any address that the rule does not permit."""

    def __init__(self, allowed: frozenset[str], resolve: Resolve | None) -> None:
        self._allowed = allowed
        self._resolve = resolve or system_addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name. Raises ValidationFailed for a forbidden one, OSError when there are none."""
        found = await self._resolve(host)
        if not found:
            raise OSError(f"{host} has no address")
        origin = Origin("http", host.lower(), port, None)
        for address in found:
            error = refusal(origin, ipaddress.ip_address(address.partition("%")[0]), self._allowed)
            if error is not None:
                raise error
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
            for address in found
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def system_addresses(host: str) -> Sequence[str]:
    """What the system's resolver says, each address once."""
    infos = await asyncio.get_running_loop().getaddrinfo(
        host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


class Pool:
    """One aiohttp session with everything off that an upstream could use to lead us elsewhere."""

    def __init__(self, allowed: frozenset[str], connect_timeout: float, resolve: Resolve | None) -> None:
        self._connect_timeout = connect_timeout
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}
        self._resolver = CheckedResolver(allowed, resolve)
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=KEEP_ALIVE,
            resolver=self._resolver,
            ttl_dns_cache=DNS_TTL,
            socket_factory=_open_socket,
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={"User-Agent": "paddock", "Accept-Encoding": "identity"},
            skip_auto_headers=("Content-Type",),
        )

    def timeout(self, total: float) -> aiohttp.ClientTimeout:
        """aiohttp's form of a total time; few different ones are in use."""
        found = self._timeouts.get(total)
        if found is None:
            found = aiohttp.ClientTimeout(total=total, sock_connect=self._connect_timeout, ceil_threshold=60)
            if len(self._timeouts) < 64:
                self._timeouts[total] = found
        return found

    async def close(self) -> None:
        """Close the session and every connection."""
        await self.session.close()
        await self._resolver.close()


class Request(NamedTuple):
    """What to send and where, `total` and `first_byte` in seconds."""

    method: str
    url: str
    origin: Origin
    headers: Mapping[str, str] | None
    body: bytes | AsyncIterator[bytes] | None
    total: float
    first_byte: float


class Exchange:
    """One request and its reply. Leaving it before the body's end closes the connection."""

    __slots__ = ("_pool", "_request", "_response")

    def __init__(self, pool: Pool, request: Request) -> None:
        self._pool = pool
        self._request = request
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Reply:
        request = self._request
        opened: list[bool] = []
        _opened.set(opened)
        try:
            async with asyncio.timeout(request.first_byte):
                try:
                    self._response = await self._send()
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    once = not isinstance(request.body, bytes | None)  # it can't be sent again
                    if opened or once or isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    # A pooled connection that the upstream had just closed: nothing was answered, so ask once more.
                    self._response = await self._send()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise translated(error, request.origin, request.first_byte) from error
        return Reply(self._response, request.origin, request.total)

    async def _send(self) -> aiohttp.ClientResponse:
        request = self._request
        body = request.body
        return await self._pool.session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=request.headers,
            data=io.BytesIO(body) if isinstance(body, bytes) and len(body) > LARGE_BODY else body,
            allow_redirects=False,
            timeout=self._pool.timeout(request.total),
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._response is not None:
            self._response.close()


class Reply:
    """An HttpReply on aiohttp."""

    __slots__ = ("_origin", "_response", "_total", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, origin: Origin, total: float) -> None:
        self._response = response
        self._origin = origin
        self._total = total
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`."""
        content = self._response.content
        try:
            while piece := await content.readany():
                yield piece
        except (aiohttp.ClientError, TimeoutError) as error:
            raise translated(error, self._origin, self._total) from error

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """See `HttpReply.read`."""
        content = self._response.content
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := await content.readany():
                size += len(piece)
                if size > limit:
                    raise ProviderUnavailable(f"{self._origin.key} sent a body of more than {limit} bytes")
                pieces.append(piece)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise translated(error, self._origin, self._total) from error
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


# The first line whose class fits decides; {where} is host:port, {why} the system's word for it.
_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ConnectionTimeoutError, "can't connect to {where} in time: check the address and whether it is up"),
    (aiohttp.ClientConnectorDNSError, "the host of {where} has no address: check the spelling and the network"),
    (aiohttp.ClientConnectorCertificateError, "the certificate of {where} is not valid: {why}"),
    (aiohttp.ClientSSLError, "no TLS connection with {where}: {why}; check http and https in the address"),
    (aiohttp.ClientConnectorError, "can't connect to {where}: {why}; check the address and whether it is up"),
    (aiohttp.ServerDisconnectedError, "{where} closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "{where} broke off in the middle of its answer"),
    (aiohttp.ClientResponseError, "{where} does not answer in HTTP"),
    (aiohttp.ClientOSError, "the connection to {where} broke: {why}"),
    (aiohttp.ClientError, "the exchange with {where} failed"),
)


def translated(error: Exception, origin: Origin, seconds: float) -> PaddockError:
    """The table: aiohttp's error as ours. Its text holds the address only, never a header, a query or a body."""
    found = _translated(error, origin, seconds)
    found.where = origin.key
    return found


def _translated(error: Exception, origin: Origin, seconds: float) -> PaddockError:
    for kind, text in _ERRORS:
        if isinstance(error, kind):
            unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            return ProviderUnavailable(text.format(where=origin.key, why=_why(error)), unsent=unsent)
    return UpstreamTimeout(f"{origin.key} did not answer in {seconds:g} seconds")


def _why(error: Exception) -> str:
    """A reason without the words of aiohttp, which may hold the whole URL."""
    certificate = getattr(error, "certificate_error", None)
    if certificate is not None:
        return getattr(certificate, "verify_message", "") or type(certificate).__name__
    cause = getattr(error, "os_error", error)
    number = getattr(cause, "errno", None)
    if isinstance(cause, ssl.SSLError):
        return cause.reason or type(cause).__name__
    return os.strerror(number) if isinstance(number, int) and number > 0 else "it was closed"
