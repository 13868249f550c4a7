"""The core's way out: the client of upstreams, and the rule about which addresses it may reach."""

from paddock.outgoing.client import OutgoingClient
from paddock.outgoing.rule import Origin, check_url, host_port, parse_url, verdict

__all__ = ["Origin", "OutgoingClient", "check_url", "host_port", "parse_url", "verdict"]
