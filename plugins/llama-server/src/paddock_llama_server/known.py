"""What is known of one instance: its row, its process, what is wanted of it, and how the others see it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Literal

from paddock.errors import PaddockError
from paddock_llama_server.restarts import Restarts
from paddock_llama_server.rows import Row
from paddock_llama_server.run import Run
from paddock_llama_server.spec import Change, Instance, Spec, Status
from paddock_llama_server.tools import Tools

REMEMBERED = 3.0  # seconds in which requests share a failure instead of trying again

Phase = Literal["down", "waiting", "queued", "loading", "up", "ending"]


class Known:
    """The state that an owner works on; nothing here decides anything."""

    def __init__(self, row: Row, tools: Tools) -> None:
        self.row = row
        self._tools = tools
        self._settings = tools.settings
        self.log = tools.logs.open(row.name)
        self.stops = 0
        """Grows with every order to stop: an order to start that was given before has no effect any more."""
        self._woken = asyncio.Event()
        self._phase: Phase = "down"
        self._up = False
        self._ordered = False
        self._restarting = False
        self._yielding = False
        self._deleting = False
        self._closing = False
        self._force = False
        self._drain_until = 0.0
        self._generation = 0
        self._run: Run | None = None
        self._waiters: list[asyncio.Future[Run]] = []
        self._not_before = 0.0
        self._restarts = 0
        self._crashes = Restarts()
        self._mark = ""
        self._retried: Counter[str] = Counter()
        self._failed_at = -REMEMBERED
        self._last_used = 0.0
        self._kept: tuple[object, ...] = (row.spec, row.wanted, row.failure, row.last_used)
        self._shown: Status = self.status
        self._settled = asyncio.Condition()

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.row.name

    @property
    def spec(self) -> Spec:
        """What it is told to be."""
        return self.row.spec

    @property
    def status(self) -> Status:
        """What it is now, with the orders that were taken."""
        going = not self._up or self._deleting or self._closing
        match self._phase:
            case "ending":
                return "stopping" if going else "restarting" if self._restarting else "starting"
            case "up":
                return self._status_of_ready(going=going)
            case "loading":
                if going and not self._yielding:
                    return "stopping"
                return "restarting" if self._restarting else "starting"
            case "waiting":
                return "restarting" if self._up else self._resting()
            case _:
                if self._up and not going:
                    return "restarting" if self._restarting else "starting"
                return self._resting()

    def _status_of_ready(self, *, going: bool) -> Status:
        run = self._run
        ends = run is None or run.exited or run.condemned
        if ends and run is not None and self._yielding and run.in_flight and not run.exited:
            return "running"  # it makes room for another when its requests have ended
        if going:
            return "stopping"
        return "restarting" if ends else "running"

    def _resting(self) -> Status:
        return "failed" if self.row.failure else "stopped"

    def snapshot(self) -> Instance:
        """The instance as the APIs see it."""
        run, failure = self._run, self.row.failure
        return Instance(
            name=self.name,
            spec=self.spec,
            status=self.status,
            wanted=self.row.wanted,
            created=self.row.created,
            updated=self.row.updated,
            port=run.plan.port if run else self.spec.port,
            pid=run.child.pid if run else None,
            started=run.began if run else None,
            last_used=self.row.last_used,
            in_flight=run.in_flight if run else 0,
            waiting=len(self._waiters),
            restarts=self._restarts,
            last_error=failure.message if failure else None,
            error_code=failure.code if failure else None,
            memory_bytes=run.usage.memory_bytes if run and run.usage else None,
            cpu_percent=run.cpu_percent if run else None,
        )

    @property
    def run(self) -> Run | None:
        """The present process."""
        return self._run

    @property
    def alive(self) -> bool:
        """Whether it runs, starts, or waits to: a start needs no further place then."""
        return self._up

    @property
    def queued_requests(self) -> int:
        """The requests that wait for a place."""
        return len(self._waiters) if self._phase in ("down", "queued") else 0

    @property
    def deleting(self) -> bool:
        """Whether it is on its way out."""
        return self._deleting

    @property
    def groups(self) -> frozenset[str]:
        """See `slots.Holder`."""
        named = {group for group, names in self._settings.groups.items() if self.name in names}
        return frozenset(named | ({self.spec.group} if self.spec.group else set()))

    @property
    def busy(self) -> bool:
        """See `slots.Holder`; one that loads is busy, because somebody wanted it just now."""
        return self._phase != "up" or bool(self._waiters) or bool(self._run and self._run.in_flight)

    @property
    def evictable(self) -> bool:
        """See `slots.Holder`: pinned ones, and those without an idle timeout, stay."""
        return not self.spec.pinned and self._idle_timeout() > 0

    @property
    def leaving(self) -> bool:
        """See `slots.Holder`."""
        return self._yielding or not self._up or self._phase == "ending" or self._deleting or self._closing

    @property
    def used_at(self) -> float:
        """See `slots.Holder`."""
        return self._run.used_at if self._run else self._last_used

    def _idle_timeout(self) -> float:
        own = self.spec.idle_timeout
        return self._settings.idle_timeout if own is None else own * 60

    def wake(self) -> None:
        """Something changed."""
        self._publish()
        self._woken.set()

    def evict(self) -> None:
        """See `slots.Holder`."""
        if self._run is not None:
            self._up, self._ordered, self._yielding, self._run.condemned = False, False, True, True
            self.wake()

    def granted(self) -> None:
        """See `slots.Holder`."""
        self.wake()

    def _enter_phase(self, phase: Phase) -> None:
        self._phase = phase
        self._publish()

    def _publish(self) -> None:
        """Tell those who listen when the status is another."""
        now = self.status
        if now != self._shown:
            before, self._shown = self._shown, now
            self._tools.publish(
                Change(kind="status", time=time.time(), name=self.name, status=now, before=before, code=self._code())
            )

    def _code(self) -> str | None:
        return self.row.failure.code if self.row.failure else None

    def _alert(self, code: str, message: str) -> None:
        self._tools.publish(Change(kind="alert", time=time.time(), name=self.name, code=code, message=message))

    async def store(self) -> None:
        """Store the row if it is another than the stored one. Raises ProviderUnavailable when the disk takes no more."""
        row = self.row
        now = (row.spec, row.wanted, row.failure, row.last_used)
        if now != self._kept and not self._deleting:
            await self._tools.rows.save(row)
            self._kept = now

    async def _keep(self) -> None:
        """`store` for what nobody waits for."""
        try:
            await self.store()
        except PaddockError as error:
            self._tools.host.log("instance_not_stored", "error", instance=self.name, error=error.message)

    async def _announce(self) -> None:
        """Keep what changed, let those know who wait for a settled state."""
        await self._keep()
        async with self._settled:
            self._settled.notify_all()
