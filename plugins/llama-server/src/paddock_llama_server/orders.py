"""What may be asked of an instance. Orders and requests only note what is wanted and wake the owner."""

from __future__ import annotations

import asyncio
import contextlib
import time

from paddock.errors import InstanceLimit, InstanceNotFound, PaddockError, ProviderUnavailable
from paddock_llama_server.known import REMEMBERED, Known
from paddock_llama_server.run import Run
from paddock_llama_server.spec import Spec
from paddock_llama_server.tools import StartAborted, StartFailed


class Wanted(Known):
    """The orders and the requests."""

    def order_start(self) -> None:
        """Begin to start; a failure and a wait after a crash are over."""
        self._forgive()
        self.row.wanted, self.row.failure = "running", None
        self._up = self._ordered = True
        self.wake()

    def order_stop(self, *, force: bool, timeout: float | None) -> None:
        """Begin to stop; whoever waits for the start hears that it was given up."""
        self.stops += 1
        self.row.wanted, self.row.failure = "stopped", None
        self._go_down(force=force, timeout=timeout)
        self._fail_waiters(StartAborted(f"the start of {self.name} was aborted: it was stopped"))

    def order_restart(self) -> None:
        """Begin to stop, then start."""
        self._replace()
        self._restarting = True
        self.order_start()

    def order_update(self, spec: Spec, *, gently: bool = False) -> None:
        """Take a new spec; what runs or starts does so with it. `gently`: what runs ends its requests however long they take,
        and starts again for the next."""
        self.row.spec, self.row.updated = spec, time.time()
        if gently:
            self.evict()
        elif self._run is not None and self._up:
            self._replace()
            self._restarting = True
        self._forgive()
        self.wake()

    def _replace(self) -> None:
        """The present process is to go, another is to come."""
        if self._run is not None:
            self._run.condemned, self._yielding = True, False
            self._drain_until = time.monotonic() + self._settings.stop_grace

    def order_delete(self) -> None:
        """Take no more requests, stop, end."""
        if not self._deleting:
            self.stops += 1
            self._deleting = True
            self._go_down(force=False, timeout=None)
            self._fail_waiters(InstanceNotFound(f"the instance {self.name} was deleted"))

    def order_close(self) -> None:
        """The server shuts down: stop, keeping what is wanted."""
        self._closing = True
        self._go_down(force=False, timeout=None)
        self._fail_waiters(ProviderUnavailable("the server is shutting down"))

    def _go_down(self, *, force: bool, timeout: float | None) -> None:
        until = time.monotonic() + (self._settings.stop_grace if timeout is None else timeout)
        going = self._run is not None and self._run.condemned and not self._yielding
        self._drain_until = min(self._drain_until, until) if going else until
        self._up = self._ordered = self._restarting = self._yielding = False
        self._force = self._force or force
        if self._run is not None:
            self._run.condemned = True
        self.wake()

    def _forgive(self) -> None:
        self._crashes.forget()
        self._retried.clear()
        self._mark, self._not_before, self._failed_at = "", 0.0, -REMEMBERED

    def recycle(self) -> None:
        """Restart once no request is in flight: it took too much memory."""
        if self._run is not None:
            self._run.recycle = True
            self.wake()

    async def enter(self, *, on_demand: bool) -> Run:
        """Begin a request on the running process; `Run.leave` ends it. See `Instances.lease`."""
        if self._deleting:
            raise InstanceNotFound(f"the instance {self.name} is being deleted")
        run = self._run
        if run is not None and self._admits(run):
            run.enter()
            return run
        allowed = self._settings.on_demand_start if self.spec.on_demand_start is None else self.spec.on_demand_start
        if not on_demand or (not allowed and not self._up):
            raise ProviderUnavailable(f"the instance {self.name} is not running (it is {self.status}): start it")
        self._refuse_at_once()
        return await self._wait_for_run()

    def _admits(self, run: Run) -> bool:
        return self._phase == "up" and self._up and not run.condemned and not run.exited

    def _refuse_at_once(self) -> None:
        """Raise what waiting can't change."""
        if self._closing:
            raise ProviderUnavailable("the server is shutting down")
        failure = self.row.failure
        since = time.monotonic() - self._failed_at
        if failure and not self._up and since < REMEMBERED:
            raise StartFailed(self.name, failure.code, REMEMBERED - since)
        slots = self._tools.slots
        if slots.holds(self):
            return
        if slots.hopeless(self):
            raise no_room(
                f"{self.name} can't start: as many instances run as may, and none of them makes room; stop one"
            )
        if self._tools.waiting() >= self._settings.queue_size:
            raise no_room(f"{self.name} can't start now: the queue of requests is full")

    async def _wait_for_run(self) -> Run:
        if not self._up:
            self._up = True
            self.row.failure = None
        waiter: asyncio.Future[Run] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.wake()
        try:
            return await self._bounded(waiter)
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().leave()  # it was let in, and nobody is there to leave
            raise
        finally:
            self._gave_up(waiter)

    async def _bounded(self, waiter: asyncio.Future[Run]) -> Run:
        """Wait as long as a place in the queue and then a start may take."""
        arrived = time.monotonic()
        while True:
            queued = self._phase in ("down", "queued")
            limit = self._settings.queue_timeout + (0 if queued else self._settings.start_timeout)
            left = arrived + limit - time.monotonic()
            done, _ = await asyncio.wait({waiter}, timeout=max(0.0, left))
            if done:
                return waiter.result()
            if self._phase in ("down", "queued"):
                raise no_room(f"{self.name} can't start: no place was free in {limit:g} s")
            if not queued:
                raise ProviderUnavailable(f"{self.name} was not ready in {limit:g} s; it is {self.status}")

    def _gave_up(self, waiter: asyncio.Future[Run]) -> None:
        with contextlib.suppress(ValueError):
            self._waiters.remove(waiter)
        waiter.cancel()
        if not self._waiters and not self._ordered and self._phase == "queued":
            self._up = False  # nobody wants it any more, and nothing was begun
        self.wake()

    def _fail_waiters(self, error: PaddockError) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)


def no_room(message: str) -> InstanceLimit:
    """409 with Retry-After, as the document says."""
    return InstanceLimit(message, headers={"Retry-After": "5"})


def full(name: str) -> InstanceLimit:
    """409 for an order to start that finds no place."""
    return no_room(f"{name} can't start: as many instances run as may, or another of its group; stop one first")
