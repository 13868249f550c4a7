"""Where the server may listen: beyond the loopback only when callers are told apart."""

from __future__ import annotations

import ipaddress

from paddock.errors import ValidationFailed
from paddock.settings import Server


def check_bind(server: Server, *, closed: bool) -> None:
    """Refuse to listen beyond the loopback while no key exists (`closed` is false). Raises ValidationFailed telling the
    ways out."""
    if closed or server.insecure or is_loopback(server.host):
        return
    raise ValidationFailed(
        f"server.host {server.host} is not a loopback address and no key exists: anybody who reaches the port could do "
        "everything. Set PADDOCK_AUTH__MANAGEMENT_KEYS, or make a key with `paddock keys create` while the server listens "
        "on the loopback, or start with --insecure if you mean it"
    )


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
