"""One life of an instance's process: how it is started, when it is ready, how it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from paddock.contracts.providers import HttpClient
from paddock.errors import PaddockError
from paddock_llama_server import groups
from paddock_llama_server.logs import InstanceLog
from paddock_llama_server.process import Child, Guardian, environment
from paddock_llama_server.rows import Row, me
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.spec import Address

Until = Callable[[Callable[[], bool], float], Awaitable[bool]]  # wait for a condition, at most so many seconds

READY_POLL = 0.025
ASK = 2.0  # seconds for one look at /health


class Wakes(msgspec.Struct, frozen=True):
    """Whom a run tells: `changed` that it is ready or has ended, `idle` that its last request in flight ended."""

    changed: Callable[[], None]
    idle: Callable[[], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and where it will listen. `host` is the address to connect to."""

    command: Sequence[str]
    environment: Mapping[str, str]
    host: str
    port: int
    api_key: str

    @property
    def address(self) -> Address:
        """For the callers."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return Address(base_url=f"http://{shown}:{self.port}", api_key=self.api_key)


def connect_host(host: str) -> str:
    """Where to connect when a child listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104  compared, not bound


def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def plan(executable: str, settings: LlamaServerSettings, row: Row, port: int) -> Plan:
    """The argument list and environment of one run. Secrets go through the environment, which others can't read."""
    from paddock_llama_server.options import argv  # noqa: PLC0415  the table is long
    from paddock_llama_server.table import SECRETS  # noqa: PLC0415  as above

    key = secrets.token_urlsafe(32)
    given = {name: value for name, value in row.spec.options.items() if name not in ("host", "port", *SECRETS)}
    own, token = (row.spec.options.get(name) for name in ("api_key", "hf_token"))
    alias = [] if given.get("alias") else ["--alias", row.name]
    command = [executable, *settings.args, *argv(given, row.spec.extra_args), *alias]
    keys = f"{key},{own}" if own else key
    tags = {"PADDOCK_INSTANCE": row.id, "PADDOCK_OWNER": me(), "LLAMA_API_KEY": keys}
    if token:
        tags["HF_TOKEN"] = str(token)
    return Plan(
        command=[*command, "--host", settings.host, "--port", str(port)],
        environment=environment(settings.environment, row.spec.environment, tags),
        host=connect_host(settings.host),
        port=port,
        api_key=key,
    )


class Run:
    """One process, with the requests that it serves. Late news of an ended one reach only this object, never the next."""

    def __init__(self, number: int, plan: Plan, log: InstanceLog, guardian: Guardian, wakes: Wakes) -> None:
        self.number = number
        self.plan = plan
        self.address = plan.address
        self._guardian = guardian
        self._wakes = wakes
        self.ready = False
        self.foreign = False
        self.recycle = False
        self.condemned = False
        """Whether its end is decided: it takes no more requests, whatever is ordered later."""
        self.first_line = 0
        """`InstanceLog.progress` when it began: earlier lines are another's."""
        self.in_flight = 0
        self.served = 0
        self.began = time.time()
        self.ready_at = 0.0
        self.used_at = time.monotonic()
        self.usage: groups.Usage | None = None
        self.cpu_percent: float | None = None
        guardian.ensure()
        self.child = Child(plan.command, plan.environment, log.add, wakes.changed)
        guardian.watch(self.child.pid)

    @property
    def exited(self) -> bool:
        """Whether the process that leads the group has ended."""
        return self.child.exited

    def enter(self) -> None:
        """A request begins."""
        self.in_flight += 1
        self.served += 1

    def leave(self) -> None:
        """A request ended; idleness counts from here."""
        self.in_flight -= 1
        self.used_at = time.monotonic()
        if self.in_flight == 0:
            self._wakes.idle()

    async def become_ready(self, http: HttpClient) -> None:
        """Ask until the child answers that it is ready: then `ready`, or `foreign` when it is another that answers."""
        while not self.exited:
            if await self._healthy(http):
                ours = await self.is_ours(http)
                # From the first moment on those who look see what it takes, not a zero.
                self.usage = (await asyncio.to_thread(groups.usage, [self.child.pid])).get(self.child.pid)
                self.ready, self.foreign = ours, not ours
                self.ready_at = time.monotonic()
                return
            await asyncio.sleep(READY_POLL)

    async def _healthy(self, http: HttpClient) -> bool:
        return await self._status(http, "/health", {}) == 200

    async def _status(self, http: HttpClient, path: str, headers: Mapping[str, str]) -> int | None:
        url = self.plan.address.base_url + path
        with contextlib.suppress(PaddockError):
            async with http.send(
                "GET", url, headers=headers, timeout=ASK, first_byte_timeout=ASK, trusted=True
            ) as reply:
                await reply.read()
                return reply.status
        return None

    async def is_ours(self, http: HttpClient) -> bool:
        """Whether who listens is our child: by the socket, or because it knows our key and no other."""
        return await asyncio.to_thread(self._listens) or await self._knows_the_key(http)

    def _listens(self) -> bool:
        sockets = groups.listening(self.plan.port)
        return bool(sockets) and any(groups.holds(pid, sockets or set()) for pid in groups.members(self.child.pid))

    async def _knows_the_key(self, http: HttpClient) -> bool:
        wrong = await self._status(http, "/props", {"Authorization": f"Bearer {secrets.token_urlsafe(32)}"})
        if wrong != 401:
            return False
        right = await self._status(http, "/props", {"Authorization": f"Bearer {self.plan.api_key}"})
        return right is not None and right != 401

    async def end(self, *, grace: float, forced: Callable[[], bool], until: Until) -> bool:
        """Signal the group, kill it after `grace` seconds or once `forced`, and wait for all of it. False when the system
        does not let go of a process."""
        if not forced():
            self.child.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            await until(lambda: self.exited or forced(), grace)
            if self.exited and not forced():
                await self.child.gone(max(0.0, deadline - time.monotonic()))
        return await self.reap()

    async def reap(self) -> bool:
        """Kill what is left of the group and forget it."""
        done = await self.child.destroy()
        self._guardian.release(self.child.pid)
        return done
