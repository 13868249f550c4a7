"""Which ports children get: a range, without paddock's own and those that instances reserve, tried before use."""

from __future__ import annotations

import socket
from collections.abc import Callable

from paddock.errors import BadRequest, Conflict, PaddockError
from paddock_llama_server import groups


class PortsTaken(PaddockError):
    """No port of the range is free."""

    status = 503
    code = "no_free_port"


class Ports:
    """The one book of ports. `own` tells paddock's own port (0 while unknown)."""

    def __init__(self, host: str, first: int, last: int, own: Callable[[], int]) -> None:
        self.host = host
        self._range = range(first, last + 1)
        self._own = own
        self._next = 0
        self._reserved: dict[int, str] = {}
        self._used: set[int] = set()

    def reserve(self, port: int, name: str) -> None:
        """Give an instance its port for good. Raises BadRequest for paddock's own, Conflict when another has it."""
        if port == self._own():
            raise BadRequest(f"port {port} is paddock's own: choose another, or leave port out to get a free one")
        if self._reserved.get(port, name) != name:
            raise Conflict(
                f"port {port} belongs to the instance {self._reserved[port]}: choose another, or leave it out"
            )
        self._reserved[port] = name

    def unreserve(self, name: str) -> None:
        """Free what an instance had reserved."""
        self._reserved = {port: owner for port, owner in self._reserved.items() if owner != name}

    def check(self, port: int) -> None:
        """Raise BadRequest when somebody listens on a fixed port, saying who."""
        if port not in self._used and not is_free(self.host, port):
            raise BadRequest(f"port {port} is in use by {groups.holder(port)}: free it, or choose another port")

    def take(self) -> int:
        """A free port for one run; the next in turn, so that a port is not used again at once. Raises PortsTaken."""
        for _ in self._range:
            port = self._range[self._next % len(self._range)]
            self._next += 1
            if port in self._reserved or port in self._used or port == self._own() or not is_free(self.host, port):
                continue
            self._used.add(port)
            return port
        raise PortsTaken(
            f"no port from {self._range[0]} to {self._range[-1]} is free: widen llama_server.port_first, port_last"
        )

    def use(self, port: int) -> int:
        """Note that a fixed port is in use by its instance."""
        self._used.add(port)
        return port

    def release(self, port: int) -> None:
        """The run on this port is over."""
        self._used.discard(port)


def is_free(host: str, port: int) -> bool:
    """Whether nobody listens there now. Connections that are closing don't count: SO_REUSEADDR lets those be."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
        return True
