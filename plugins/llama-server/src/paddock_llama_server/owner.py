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
from collections.abc import Callable

from paddock.errors import PaddockError
from paddock_llama_server import causes
from paddock_llama_server.orders import Wanted
from paddock_llama_server.restarts import Rule
from paddock_llama_server.rows import Failure, Row, Spawned, me
from paddock_llama_server.run import Run, Wakes, plan
from paddock_llama_server.tools import NotStarted, StartFailed, Tools

FAST = 2.0  # an end before that, twice with the same words, will not get better
PORTS_TRIED = 5  # when others take them between the look and the start
LONGEST_START = 10  # times start_timeout, while the log shows progress


class Owner(Wanted):
    """One instance. Its methods are called in the event loop and return at once unless they are coroutines."""

    def __init__(self, row: Row, tools: Tools) -> None:
        super().__init__(row, tools)
        self._task = asyncio.ensure_future(self._live())

    async def ended(self) -> None:
        """Wait until the owner is done, after `order_delete` or `order_close`."""
        await asyncio.shield(self._task)

    async def settled(self) -> None:
        """Wait until it is neither starting, stopping nor restarting."""
        async with self._settled:
            await self._settled.wait_for(lambda: self._task.done() or self.status in ("running", "stopped", "failed"))

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
        self._run, self._force, run.first_line = run, False, self.log.progress
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
            words = "\n".join(self.log.recent(causes.LINES, run.first_line))
            await self._over(run)
            self._fail("start_timeout", f"it was not ready in time: {words}")

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

    async def _crashed(self, run: Run) -> None:
        """It ended by itself."""
        end = causes.judge(run.child.code, self.log.recent(200, run.first_line), killed_by_us=run.child.signalled)
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
        now, rule = time.monotonic(), self._rule()
        wait = self._crashes.after_crash(rule, now, now - run.ready_at if run.ready else None)
        if wait is None:
            if rule.auto:
                self._alert("crash_loop", f"{self.name} crashed {len(self._crashes) + 1} times")
            self._fail("crash_loop" if rule.auto and rule.most else "crashed", end.message)
            return
        self._restarts += 1
        self._not_before = now + wait * random.uniform(0.9, 1.1)  # noqa: S311  jitter
        self._restarting = True
        self._enter_phase("waiting")

    def _rule(self) -> Rule:
        own, settings = self.spec, self._settings
        return Rule(
            auto=settings.auto_restart if own.auto_restart is None else own.auto_restart,
            most=settings.max_restarts if own.max_restarts is None else own.max_restarts,
            delay=settings.restart_delay if own.restart_delay is None else own.restart_delay,
            window=settings.restart_window,
        )

    def _fail(self, code: str, message: str) -> None:
        """Stay down until the next order or request; those who wait share the reason."""
        self.row.failure = Failure(code=code, message=message)
        self._failed_at = time.monotonic()
        self._up = self._ordered = self._restarting = self._yielding = False
        self._not_before = 0.0
        self._tools.slots.release(self)
        self._enter_phase("down")
        self._fail_waiters(StartFailed(self.name, code))
        self._tools.host.record("instance", action="fail", name=self.name, code=code, error=message)
