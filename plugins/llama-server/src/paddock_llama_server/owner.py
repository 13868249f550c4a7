"""The owner of one instance: one task that decides everything about its process.

Orders and events only note what is wanted (`up`, `again`, …) and wake the task; they never touch the process. The task
compares what is wanted with what is, and acts: so any two of start, stop, restart, update, delete, request, crash, idle
unload and shutdown may come together in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal

from paddock.errors import InstanceLimit, InstanceNotFound, PaddockError, ProviderUnavailable
from paddock_llama_server import causes
from paddock_llama_server.rows import Failure, Row, Spawned, me
from paddock_llama_server.run import Run, Wakes, plan
from paddock_llama_server.spec import Change, Instance, Spec, Status
from paddock_llama_server.tools import NotStarted, Tools

Phase = Literal["down", "waiting", "queued", "loading", "up", "ending"]

LONGEST_DELAY = 60.0
CALM = 60.0  # seconds ready after which earlier crashes are forgotten, at least
FAST = 2.0  # an end before that, twice with the same words, will not get better
REMEMBERED = 3.0  # seconds in which requests share a failure instead of trying again
PORTS_TRIED = 5  # when others take them between the look and the start
LONGEST_START = 10  # times start_timeout, while the log shows progress


class Owner:
    """One instance. Its methods are called in the event loop and return at once unless they are coroutines."""

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
        self._crashes: deque[float] = deque()
        self._mark = ""
        self._retried: Counter[str] = Counter()
        self._failed_at = -REMEMBERED
        self._last_used = 0.0
        self._kept: tuple[object, ...] = (row.spec, row.wanted, row.failure, row.last_used)
        self._shown: Status = self.status
        self._settled = asyncio.Condition()
        self._task = asyncio.ensure_future(self._live())

    # --- what is seen --------------------------------------------------------------------------------------------------

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
            restarts=len(self._crashes),
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

    # --- as the slots see it -------------------------------------------------------------------------------------------

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

    def evict(self) -> None:
        """See `slots.Holder`."""
        if self._run is not None:
            self._up, self._ordered, self._yielding, self._run.condemned = False, False, True, True
            self.wake()

    def granted(self) -> None:
        """See `slots.Holder`."""
        self.wake()

    # --- orders --------------------------------------------------------------------------------------------------------

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
        self._fail_waiters(ProviderUnavailable(f"the start of {self.name} was aborted: it was stopped"))

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
        self._crashes.clear()
        self._retried.clear()
        self._mark, self._not_before, self._failed_at = "", 0.0, -REMEMBERED

    def recycle(self) -> None:
        """Restart once no request is in flight: it took too much memory."""
        if self._run is not None:
            self._run.recycle = True
            self.wake()

    def wake(self) -> None:
        """Something changed."""
        self._publish()
        self._woken.set()

    async def ended(self) -> None:
        """Wait until the owner is done, after `order_delete` or `order_close`."""
        await asyncio.shield(self._task)

    async def settled(self) -> None:
        """Wait until it is neither starting, stopping nor restarting."""
        async with self._settled:
            await self._settled.wait_for(lambda: self._task.done() or self.status in ("running", "stopped", "failed"))

    # --- requests ------------------------------------------------------------------------------------------------------

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
            raise ProviderUnavailable(f"{self.name} failed: {failure.message}", REMEMBERED - since)
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

    # --- the task ------------------------------------------------------------------------------------------------------

    async def _until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for a condition, looked at after every event; false when `timeout` seconds passed without it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._woken.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), left)
        return True

    async def _live(self) -> None:
        while not (self._run is None and (self._deleting or self._closing)):
            try:
                await self._step()
            except Exception as error:  # noqa: BLE001  our bug must not leave a process without an owner
                await self._stumbled(error)
        self._tools.slots.release(self)
        await self.log.close(remove=self._deleting)
        await self._announce()

    async def _step(self) -> None:
        if self._run is not None:
            await self._mind(self._run)
        elif self._up:
            await self._bring_up()
        else:
            self._enter_phase("down")
            await self._announce()
            await self._until(lambda: self._up or self._deleting or self._closing)

    async def _stumbled(self, error: Exception) -> None:
        self._tools.host.log("instance_owner_failed", "error", instance=self.name, error=repr(error))
        if self._run is not None:
            await self._over(self._run)
        self._fail("internal_error", "paddock failed to run it: see the server's log")

    async def _mind(self, run: Run) -> None:
        """Watch a ready process until something is to be done about it."""
        await self._announce()
        idle = self._idle_timeout()
        left = None
        if idle > 0 and not self.spec.pinned:
            left = idle if run.in_flight else run.used_at + idle - time.monotonic()
        await self._until(lambda: run.exited or run.condemned or (run.recycle and not run.in_flight), left)
        if run.exited:
            await self._crashed(run)
        elif run.condemned:
            await self._bring_down(run)
        elif run.recycle and not run.in_flight:
            self._replace()
            self._restarting = True
        elif left is not None and not run.in_flight and time.monotonic() >= run.used_at + idle:
            self._go_down(force=False, timeout=None)  # idle long enough

    def _now_idle(self) -> None:
        """The last request in flight ended: who waits for that goes on."""
        if self._run is not None and (self._run.condemned or self._run.recycle):
            self.wake()
        self._tools.slots.pump()

    def _idle_timeout(self) -> float:
        own = self.spec.idle_timeout
        return self._settings.idle_timeout if own is None else own * 60

    # --- up ------------------------------------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        wait = self._not_before - time.monotonic()
        if wait > 0:
            self._enter_phase("waiting")
            await self._until(lambda: not self._up or self._not_before <= time.monotonic(), wait)
        if self._up and await self._is_possible() and await self._has_place() and self._up:
            await self._launch()

    async def _is_possible(self) -> bool:
        """Whether all that can be checked before a start is right; else it has failed."""
        try:
            await self._tools.check(self.spec)
        except PaddockError as error:
            self._fail(error.code, error.message)
        return self._up

    async def _has_place(self) -> bool:
        """Wait for a place; false when it is not wanted any more."""
        slots = self._tools.slots
        if not slots.take(self):
            self._enter_phase("queued")
            slots.enter(self)
            while self._up and not slots.holds(self):
                if not await self._until(lambda: not self._up or slots.holds(self), slots.patience):
                    slots.pump()
        if not self._up:
            slots.release(self)
        return self._up

    async def _launch(self) -> None:
        try:
            run = self._spawn()
        except PaddockError as error:
            self._fail(error.code, error.message)
            return
        self._run, self._force = run, False
        self._enter_phase("loading")
        self.log.add([f"=== {self.name} started, process {run.child.pid}, port {run.plan.port} ==="])
        await self._note(run)
        await self._load(run)

    def _spawn(self) -> Run:
        """Start the process. Raises PaddockError when it can't be."""
        tools, fixed = self._tools, self.spec.port
        executable = tools.executable(self.spec)
        port = tools.ports.use(fixed) if fixed else tools.ports.take()
        self._generation += 1
        try:
            planned = plan(executable, self._settings, self.row, port)
            return Run(self._generation, planned, self.log, tools.guardian, Wakes(self.wake, self._now_idle))
        except OSError as error:
            tools.ports.release(port)
            raise NotStarted(f"{self.name} can't be started: {error.strerror}") from error

    async def _note(self, run: Run) -> None:
        """Write down what was started, so that the next start can clean up after a crash."""
        child = run.child
        note = Spawned(
            pid=child.pid, started=child.started, boot_id=self._tools.boot_id, instance=self.row.id, owner=me()
        )  # fmt: skip
        try:
            await self._tools.rows.note(note)
        except PaddockError as error:
            self._tools.host.log("instance_not_noted", "error", instance=self.name, error=error.message)

    async def _load(self, run: Run) -> None:
        asking = asyncio.ensure_future(run.become_ready(self._tools.http))
        asking.add_done_callback(lambda _: self.wake())
        try:
            in_time = await self._progressing(run, asking)
        finally:
            if not asking.done():
                asking.cancel()
            await asyncio.wait({asking})
        if not asking.cancelled():
            asking.result()
        if run.ready and not run.exited:
            self._opened(run)
        elif run.exited:
            await self._crashed(run)
        elif self._abandoned(run):
            await self._bring_down(run)
        elif run.foreign:
            await self._over(run)
            self._on_another_port(f"another process answers on port {run.plan.port}")
        elif not in_time:
            await self._over(run)
            self._fail("start_timeout", f"it was not ready in time: {self._words()}")

    def _abandoned(self, run: Run) -> bool:
        return run.condemned and not self._yielding

    async def _progressing(self, run: Run, asking: asyncio.Future[None]) -> bool:
        """Wait for news of a start as long as the log moves on, within reason."""
        limit = self._settings.start_timeout
        for _ in range(LONGEST_START):
            before = self.log.progress
            if await self._until(lambda: asking.done() or run.exited or self._abandoned(run), limit):
                return True
            if self.log.progress == before:
                return False
        return False

    def _opened(self, run: Run) -> None:
        """It is ready: those who wait are let in before anybody can send it away."""
        run.used_at = time.monotonic()
        self._restarting = False
        self._retried.clear()
        self._mark = ""
        self._enter_phase("up")
        for waiter in self._waiters:
            if not waiter.done():
                run.enter()
                waiter.set_result(run)
        self._publish()

    # --- down ----------------------------------------------------------------------------------------------------------

    async def _bring_down(self, run: Run) -> None:
        """Let requests end, then end the process."""
        if self._phase == "up":
            await self._drain(run)
        self._enter_phase("ending")
        if not run.exited:
            await run.end(grace=self._settings.kill_grace, forced=lambda: self._force, until=self._until)
        await self._over(run)

    async def _drain(self, run: Run) -> None:
        """Let requests in flight end: an order waits for them as long as its grace, making room as long as they take."""

        def over() -> bool:
            return run.in_flight == 0 or run.exited or self._force

        while not over():
            noted = (self._yielding, self._drain_until)
            left = None if self._yielding else self._drain_until - time.monotonic()
            if left is not None and left <= 0:
                return
            await self._until(lambda: over() or noted != (self._yielding, self._drain_until), left)  # noqa: B023  awaited here

    async def _over(self, run: Run) -> None:
        """Everything of a run is gone: its processes, its port, its place."""
        if not await run.reap():
            self._tools.host.log("instance_not_killed", "error", instance=self.name, group=run.child.pid)
        self.log.add([f"=== {self.name} ended ==="])
        self._tools.ports.release(run.plan.port)
        self._run, self._yielding, self._force = None, False, False
        if any(not waiter.done() for waiter in self._waiters):
            self._up = True
        self._last_used = run.used_at
        if run.ready:
            self.row.last_used = time.time() - (time.monotonic() - run.used_at)
        with contextlib.suppress(PaddockError):  # the next start finds the process gone by itself
            await self._tools.rows.forget(self.row.id)
        self._phase = "down"
        self._tools.slots.release(self)

    # --- crashes -------------------------------------------------------------------------------------------------------

    async def _crashed(self, run: Run) -> None:
        """It ended by itself."""
        end = causes.judge(run.child.code, self.log.recent(200), killed_by_us=run.child.signalled)
        lived = time.monotonic() - run.child.began
        self._restarting = self._restarting or self._up
        await self._over(run)
        if not self._up:
            return
        self._tools.host.record("instance", action="crash", name=self.name, kind=end.kind)
        if run.ready and end.kind == "clean":
            self._up = self._ordered = self._restarting = False
        elif end.kind == "port_taken":
            self._on_another_port(end.message)
        elif end.kind == "out_of_memory" and not run.ready:
            await self._short_of_memory(end)
        elif not run.ready and (end.kind in causes.PERMANENT or (lived < FAST and end.mark == self._mark)):
            self._fail(end.kind, end.message)
        else:
            if end.kind == "out_of_memory":
                self._alert("out_of_memory", f"{self.name} was killed, as when memory is short")
            self._mark = "" if run.ready else end.mark
            self._back_off(end, run)

    def _on_another_port(self, message: str) -> None:
        """Another port without a wait; after some, fail. A fixed port has no other."""
        if self.spec.port or self._retried["port_taken"] >= PORTS_TRIED:
            self._fail("port_taken", message)
        else:
            self._retried["port_taken"] += 1
            self._publish()

    async def _short_of_memory(self, end: causes.Exit) -> None:
        """Make room by sending away the one that was idle longest, and try once more."""
        self._alert("out_of_memory", f"{self.name} ran out of memory")
        slots = self._tools.slots
        victim = None if self._retried["out_of_memory"] else slots.evict_idle(self, self.wake)
        if victim is None:
            self._fail("out_of_memory", end.message)
            return
        self._retried["out_of_memory"] += 1
        self._enter_phase("queued")
        await self._until(lambda: not self._up or not slots.holds(victim), self._settings.start_timeout)

    def _back_off(self, end: causes.Exit, run: Run) -> None:
        """Start again after a growing wait, or give up when it crashed too often of late."""
        settings, now = self._settings, time.monotonic()
        delay = settings.restart_delay if self.spec.restart_delay is None else self.spec.restart_delay
        if run.ready and now - run.ready_at >= max(CALM, 10 * delay):
            self._crashes.clear()
        while self._crashes and now - self._crashes[0] > settings.restart_window:
            self._crashes.popleft()
        may = settings.auto_restart if self.spec.auto_restart is None else self.spec.auto_restart
        most = settings.max_restarts if self.spec.max_restarts is None else self.spec.max_restarts
        if not may or len(self._crashes) >= most:
            if may:
                self._alert("crash_loop", f"{self.name} crashed {len(self._crashes) + 1} times")
            self._fail("crash_loop" if may and most else "crashed", end.message)
            return
        wait = min(delay * 2 ** len(self._crashes), LONGEST_DELAY) * random.uniform(0.9, 1.1)  # noqa: S311  jitter
        self._crashes.append(now)
        self._not_before = now + wait
        self._restarting = True
        self._enter_phase("waiting")

    def _fail(self, code: str, message: str) -> None:
        """Stay down until the next order or request; those who wait share the reason."""
        self.row.failure = Failure(code=code, message=message)
        self._failed_at = time.monotonic()
        self._up = self._ordered = self._restarting = self._yielding = False
        self._not_before = 0.0
        self._tools.slots.release(self)
        self._enter_phase("down")
        status = ProviderUnavailable(f"{self.name} failed: {message}")
        self._fail_waiters(status)
        self._tools.host.record("instance", action="fail", name=self.name, code=code, error=message)

    def _words(self) -> str:
        return "\n".join(self.log.recent(causes.LINES))

    # --- news ----------------------------------------------------------------------------------------------------------

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


def no_room(message: str) -> InstanceLimit:
    """409 with Retry-After, as the document says."""
    return InstanceLimit(message, headers={"Retry-After": "5"})
