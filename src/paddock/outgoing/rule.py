"""The rule about which addresses the core's client may reach.

Public addresses may be reached by everybody. A loopback or private one only when its ``host:port`` stands in the setting
``outgoing.allow``. Link-local, multicast, reserved and cloud-metadata addresses are never reached. The rule is applied
twice: to the text of an address when a project is saved (`check_url`), and to every address that a name resolves to when
a connection is made, so that a name can't change its meaning in between.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

import msgspec

from paddock.errors import FieldError, ValidationFailed

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
