"""The core's client of upstreams, and the rule about which addresses it may reach.

Public addresses may be reached by everybody. A loopback or private one only when its ``host:port`` stands in the setting
``outgoing.allow``. Link-local, multicast, reserved and cloud-metadata addresses are never reached. The rule is applied
twice: to the text of an address when a project is saved (`check_url`), and to every address that a name resolves to when
a connection is made, so that a name can't change its meaning in between.

aiohttp is imported with the first request.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Literal

import msgspec

from paddock.contracts.providers import HttpReply, HttpSocket
from paddock.errors import FieldError, ProviderUnavailable, ValidationFailed

if TYPE_CHECKING:
    from paddock.outgoing_http import Pool

__all__ = ["Origin", "OutgoingClient", "check_url", "host_port"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Verdict = Literal["public", "private", "never"]
Resolve = Callable[[str], Awaitable[Sequence[str]]]  # a host name to its addresses

SETTING = "outgoing.allow"
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,41}\]|[A-Za-z0-9._-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?:[/?][!\"$-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_ALLOWED = re.compile(
    r"(?P<host>\[[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,41}\]|[A-Za-z0-9._-]{1,253}):(?P<port>[0-9]{1,5})", re.ASCII
)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")
_CACHED = 512  # checked addresses kept; a server talks to few


def _networks(*names: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(name) for name in names)


_NEVER = _networks(
    "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",  # this network, link-local, multicast, reserved
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",  # metadata: Alibaba, Azure, Oracle
    "::/128", "fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128", "64:ff9b:1::/48",
)  # fmt: skip
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")  # IPv4-compatible: long obsolete, still routed by some stacks


class Origin(msgspec.Struct, frozen=True):
    """Where a URL leads: `host` in lower case without brackets, `address` when it is a literal one."""

    scheme: str
    host: str
    port: int
    address: str | None

    @property
    def key(self) -> str:
        """``host:port`` as it would stand in the setting, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def verdict(address: Address) -> Verdict:
    """What an address is. IPv4 inside IPv6 (mapped, NAT64, 6to4, Teredo, compatible) counts as that IPv4 address."""
    inner = _embedded(address)
    if inner is not None:
        return verdict(inner)
    if any(address in network for network in _NEVER if network.version == address.version) or address.is_multicast:
        return "never"
    return "public" if address.is_global else "private"


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def parse_url(url: str, field: str = "base_url") -> Origin:
    """Read a URL strictly, so that no two parsers can disagree about its host. Raises ValidationFailed.

    The message never shows the URL: it may hold a credential.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValidationFailed.of([FieldError(field, _syntax_reason(url))])
    default = 443 if found["scheme"].lower() == "https" else 80
    return _origin(found["scheme"].lower(), found["host"], int(found["port"] or default), field)


def _syntax_reason(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return "an address starts with http:// or https://"
    if "@" in re.split(r"[/?#\\]", rest, maxsplit=1)[0]:
        return "credentials do not belong into an address: write the key in api_key"
    return "not a plain address: write http(s)://host[:port][/path], with ASCII letters and without a fragment"


def _origin(scheme: str, host: str, port: int, field: str) -> Origin:
    if not 0 < port < 65536:
        raise ValidationFailed.of([FieldError(field, "the port is between 1 and 65535")])
    host = host.lower().strip("[]")
    if ":" not in host and (host.endswith(".") or ".." in host or host.startswith(".")):
        raise ValidationFailed.of([FieldError(field, "the host name has a dot too many: remove it")])
    address = _literal(host, field)
    return Origin(scheme, str(address) if address else host, port, str(address) if address else None)


def _literal(host: str, field: str) -> Address | None:
    """The address if the host is one. Any numeric spelling but the usual one (2130706433, 0x7f.1, 127.1) is refused."""
    if ":" not in host and not _NUMERIC.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError as error:
        raise ValidationFailed.of([FieldError(field, "not an IP address in its usual form, like 192.0.2.7")]) from error


def host_port(url: str, field: str = "base_url") -> str:
    """The ``host:port`` of a URL, as an entry for the allow list. Raises ValidationFailed."""
    return parse_url(url, field).key


def parse_allow(allow: Sequence[str]) -> frozenset[str]:
    """The allow list in canonical form. Raises ValidationFailed naming the entry that is not ``host:port``."""
    keys = set()
    for entry in allow:
        found = _ALLOWED.fullmatch(entry)
        if found is None:
            raise ValidationFailed.of([FieldError(SETTING, f"{entry[:64]!r} is not host:port, like 127.0.0.1:11434")])
        keys.add(_origin("http", found["host"], int(found["port"]), SETTING).key)
    return frozenset(keys)


def refusal(
    origin: Origin, address: Address, allowed: frozenset[str], field: str = "base_url"
) -> ValidationFailed | None:
    """Why `origin` may not be reached at `address`, or None if it may."""
    kind = verdict(address)
    if kind == "public" or (kind == "private" and origin.key in allowed):
        return None
    if kind == "never":
        reason = (
            f"{origin.key} is a link-local, multicast, reserved or metadata address: paddock never connects to those"
        )
    else:
        reason = f"{origin.key} is a loopback or private address: add it to the setting {SETTING} to permit it"
    return ValidationFailed.of([FieldError(field, reason)])


def check_origin(origin: Origin, allowed: frozenset[str], field: str = "base_url") -> None:
    """Apply the rule to what the text alone tells: a literal address, or a name of this machine."""
    if origin.address is not None:
        error = refusal(origin, ipaddress.ip_address(origin.address), allowed, field)
    elif origin.host == "localhost" or origin.host.endswith(".localhost"):
        error = refusal(origin, ipaddress.IPv4Address("127.0.0.1"), allowed, field)
    else:
        return
    if error is not None:
        raise error


def check_url(url: str, allow: Sequence[str], field: str = "base_url") -> None:
    """Check an address that a project names, without a connection: syntax, literal addresses, the allow list.

    Raises ValidationFailed whose error names `field` and the setting ``outgoing.allow``. Other names are resolved and
    checked when the connection is made.
    """
    check_origin(parse_url(url, field), parse_allow(allow), field)


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
        from paddock.outgoing_http import Exchange, Request  # noqa: PLC0415  aiohttp is heavy: on first use

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
        from paddock.outgoing_ws import Conversation  # noqa: PLC0415  aiohttp is heavy: on first use

        patience = self.first_byte_timeout
        return Conversation(pool, url, origin, headers=headers, protocols=tuple(protocols), patience=patience)

    def _open_pool(self) -> Pool:
        if self._closed:
            raise ProviderUnavailable("the server is shutting down")
        if self._pool is None:
            from paddock.outgoing_http import Pool  # noqa: PLC0415  aiohttp is heavy: on first use

            self._pool = Pool(self.allowed, self.connect_timeout, self._resolve)
        return self._pool

    async def close(self) -> None:
        """Close all connections, those in use too. Idempotent."""
        self._closed = True
        if self._pool is not None:
            await self._pool.close()
            self._pool = None
