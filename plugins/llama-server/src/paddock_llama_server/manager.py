"""The one owner of all instances of an application: it keeps the book of names and hands every order to the instance's owner."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from paddock.contracts.base import Service
from paddock.contracts.providers import Environment
from paddock.errors import (
    Conflict,
    InstanceExists,
    InstanceLimit,
    InstanceNotFound,
    PaddockError,
    ProviderUnavailable,
    ValidationFailed,
)
from paddock_llama_server import groups
from paddock_llama_server.bodies import check_name
from paddock_llama_server.files import ModelFiles
from paddock_llama_server.guard import check_environment, model_folders
from paddock_llama_server.logs import Limits, Logs
from paddock_llama_server.news import News
from paddock_llama_server.orders import full
from paddock_llama_server.owner import Owner
from paddock_llama_server.ports import Ports
from paddock_llama_server.process import Guardian, find_command
from paddock_llama_server.rows import Row, Rows, Spawned, lives, me
from paddock_llama_server.run import connect_host, is_loopback
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.slots import Slots
from paddock_llama_server.spec import Address, Change, Instance, LogEntry, Spec
from paddock_llama_server.tools import NotStarted, Tools
from paddock_llama_server.watch import Watch

CLEANING = 5.0  # seconds that leftovers of an earlier life have to vanish


class Manager(Service):
    """Implements `spec.Instances`. Its owners live between the beginning and the end of `running`."""

    def __init__(self, env: Environment) -> None:
        settings: LlamaServerSettings = env.settings
        self.settings = settings
        self.files = ModelFiles(
            (*model_folders(settings, env.data_dir), *(() if settings.model_dirs else (env.hub_cache,)))
        )
        self._host = env.host
        self._owners: dict[str, Owner] = {}
        self._making: set[str] = set()
        self.managing = asyncio.Lock()  # of requests for a model that come together one makes its instance
        self._removals: dict[str, asyncio.Future[None]] = {}
        self._news = News()
        self._open = False
        limits = Limits(file_bytes=settings.log_max_bytes, files=settings.log_files, ring_bytes=settings.log_ring_bytes)
        self._tools = Tools(
            settings=settings,
            host=env.host,
            http=env.http,
            slots=Slots(
                settings.max_running_instances, eviction=settings.lru_eviction, patience=settings.queue_patience
            ),
            ports=Ports(settings.host, settings.port_first, settings.port_last, lambda: env.host.port),
            logs=Logs(env.data_dir / "logs" / "instances", limits, self._log_lost),
            rows=Rows(env.host.records),
            guardian=Guardian(f"PADDOCK_OWNER={me()}"),
            boot_id=groups.boot_id(),
            check=self.check,
            executable=self._executable,
            waiting=lambda: sum(owner.queued_requests for owner in self._owners.values()),
            publish=self._publish,
        )
        self._watch = Watch(settings.watch_interval, self._owners, self._publish)

    # --- life ----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Clean up after a crash, start what is wanted; at the end stop every child within the grace."""
        self._check_settings()
        rows = await self._tools.rows.all()
        await self._clean_up(rows)
        for row in rows:
            self._adopt(row)
        self._open = True
        boot = asyncio.ensure_future(self._boot())
        watch = asyncio.ensure_future(self._watch.run())
        try:
            yield
        finally:
            await self._shut_down(boot, watch)

    def _check_settings(self) -> None:
        settings = self.settings
        if not is_loopback(connect_host(settings.host)):
            raise ValidationFailed(
                f"llama_server.host {settings.host}: paddock reaches its children on the loopback only"
            )
        if settings.port_last < settings.port_first:
            raise ValidationFailed("llama_server.port_last is below port_first")

    def _adopt(self, row: Row) -> Owner:
        if row.spec.port:
            with suppress(PaddockError):  # it is told when the instance is started
                self._tools.ports.reserve(row.spec.port, row.name)
        owner = self._owners[row.name] = Owner(row, self._tools)
        return owner

    async def _clean_up(self, rows: list[Row]) -> None:
        """Kill the processes that an earlier life left, known by number and start time, or by our mark in their environment;
        those of another paddock that still lives are let be."""
        left = [spawned for spawned in await self._tools.rows.spawned() if self._is_left(spawned)]
        marked = await asyncio.to_thread(_marked, {row.id for row in rows})
        for spawned in left:
            self._host.log("instance_leftover_killed", "warning", group=spawned.pid)
            groups.signal_group(spawned.pid, signal.SIGKILL)
        for pid in marked:
            self._host.log("instance_leftover_killed", "warning", pid=pid)
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for spawned in left:
            await groups.vanished(spawned.pid, CLEANING)
        for spawned in await self._tools.rows.spawned():
            await self._tools.rows.forget(spawned.instance)

    def _is_left(self, spawned: Spawned) -> bool:
        same = spawned.boot_id == self._tools.boot_id and groups.started(spawned.pid) == spawned.started
        return same and not lives(spawned.owner)

    async def _boot(self) -> None:
        """Start what is wanted, `parallel_load` at a time: what `preload` names first, then the most recently used."""
        preload = [name for name in self.settings.preload if name in self._owners]
        for name in set(self.settings.preload) - set(preload):
            self._host.log("instance_not_preloaded", "warning", instance=name, reason="there is no such instance")
        wanted = [owner for owner in self._owners.values() if owner.row.wanted == "running" and not owner.row.failure]
        wanted.sort(key=lambda owner: -(owner.row.last_used or owner.row.updated))
        names = list(dict.fromkeys([*preload, *(owner.name for owner in wanted)]))
        limit = asyncio.Semaphore(self.settings.parallel_load)

        async def begin(name: str) -> None:
            async with limit:
                owner = self._owners.get(name)
                if owner is None or not self._tools.slots.take(owner):
                    return  # as many run as may; a request starts it
                owner.order_start()
                await owner.settled()

        await asyncio.gather(*map(begin, names))

    async def _shut_down(self, boot: asyncio.Future[None], watch: asyncio.Future[None]) -> None:
        self._open = False
        boot.cancel()
        watch.cancel()
        for owner in self._owners.values():
            owner.order_close()
        await asyncio.gather(boot, watch, *(owner.ended() for owner in self._owners.values()), return_exceptions=True)
        self._news.close()
        await self._tools.guardian.close()
        await self._tools.logs.close()

    # --- what is seen --------------------------------------------------------------------------------------------------

    def owner(self, name: str) -> Owner:
        """The owner of an instance. Raises InstanceNotFound."""
        owner = self._owners.get(name)
        if owner is None:
            raise InstanceNotFound(f"there is no instance {name[:64]!r}: GET /api/v1/instances lists them")
        return owner

    def has(self, name: str) -> bool:
        """Whether there is an instance of that name."""
        return name in self._owners

    def all(self) -> list[Instance]:
        """See `Instances.all`."""
        return [self._owners[name].snapshot() for name in sorted(self._owners)]

    def get(self, name: str) -> Instance:
        """See `Instances.get`."""
        return self.owner(name).snapshot()

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
        """See `Instances.changes`."""
        return self._news.listening()

    def _publish(self, change: Change) -> None:
        if change.kind == "alert":
            self._host.log("instance_alert", "warning", instance=change.name, code=change.code, message=change.message)
        self._news.publish(change)

    def _log_lost(self, name: str, text: str) -> None:
        self._host.log("instance_log_lost", "warning", instance=name, reason=text)

    # --- orders --------------------------------------------------------------------------------------------------------

    async def create(self, name: str, spec: Spec, *, start: bool) -> Instance:
        """See `Instances.create`."""
        check_name(name)
        self._check_open()
        self._check_new(name)
        check_environment(spec.environment)
        self._making.add(name)
        try:
            if spec.port:
                self._tools.ports.reserve(spec.port, name)
            if start:
                await self.check(spec)
            owner = self._owners[name] = await self._make(name, spec, start=start)
        except BaseException:
            self._tools.ports.unreserve(name)
            raise
        finally:
            self._making.discard(name)
        if start:
            owner.order_start()
        return await self._done(owner, "create")

    def _check_new(self, name: str) -> None:
        if name in self._owners or name in self._making:
            raise InstanceExists(f"an instance {name} exists already: choose another name, or update it")
        most = self.settings.max_instances
        if 0 <= most <= len(self._owners) + len(self._making):
            raise InstanceLimit(f"there are {most} instances, as many as llama_server.max_instances allows: delete one")

    async def _make(self, name: str, spec: Spec, *, start: bool) -> Owner:
        """A new owner whose row is stored, with a place if it is to start."""
        now = time.time()
        owner = Owner(Row(id=str(uuid.uuid4()), name=name, spec=spec, created=now, updated=now), self._tools)
        try:
            if start and not self._tools.slots.take(owner):
                raise full(name)
            await self._tools.rows.save(owner.row)
        except BaseException:
            owner.order_delete()
            await owner.ended()
            raise
        return owner

    async def update(self, name: str, spec: Spec) -> Instance:
        """See `Instances.update`."""
        owner = self._living(name)
        check_environment(spec.environment)
        if spec.port != owner.spec.port:
            before = owner.spec.port
            self._tools.ports.unreserve(name)
            try:
                if spec.port:
                    self._tools.ports.reserve(spec.port, name)
            except PaddockError:
                if before:
                    self._tools.ports.reserve(before, name)
                raise
        owner.order_update(spec)
        return await self._done(owner, "update")

    async def adapt(self, name: str, spec: Spec) -> None:
        """Store a new spec for the next start; a running instance goes once it is idle, and never cuts a request for it."""
        owner = self._living(name)
        owner.order_update(spec, gently=True)
        await self._done(owner, "update")

    async def delete(self, name: str) -> None:
        """See `Instances.delete`."""
        owner = self.owner(name)
        if name not in self._removals:
            owner.order_delete()
            self._removals[name] = asyncio.ensure_future(self._remove(owner))
        await asyncio.shield(self._removals[name])

    async def _remove(self, owner: Owner) -> None:
        """The rest of a deletion, which goes on when the one who asked for it leaves."""
        try:
            await owner.ended()
            await self._tools.rows.delete(owner.name)
            self._tools.ports.unreserve(owner.name)
            del self._owners[owner.name]
        finally:
            del self._removals[owner.name]
        self._publish(Change(kind="deleted", time=time.time(), name=owner.name))
        self._host.record("instance", action="delete", name=owner.name)

    async def start(self, name: str) -> Instance:
        """See `Instances.start`."""
        return await self._started(name, "start")

    async def restart(self, name: str) -> Instance:
        """See `Instances.restart`."""
        return await self._started(name, "restart")

    async def _started(self, name: str, action: str) -> Instance:
        self._check_open()
        owner = self._living(name)
        stops = owner.stops
        if not owner.alive:
            await self.check(owner.spec)
            if owner.stops != stops:
                return owner.snapshot()  # it was stopped or deleted meanwhile, and the last order counts
        if not owner.alive and not self._tools.slots.take(owner):
            raise full(name)
        if action == "restart":
            owner.order_restart()
        else:
            owner.order_start()
        return await self._done(owner, action)

    async def stop(self, name: str, *, force: bool = False, timeout: float | None = None) -> Instance:
        """See `Instances.stop`."""
        owner = self.owner(name)
        if not owner.deleting:
            owner.order_stop(force=force, timeout=timeout)
        return await self._done(owner, "stop")

    async def _done(self, owner: Owner, action: str) -> Instance:
        """Keep what is wanted; returns what the order made of the instance."""
        seen = owner.snapshot()
        self._host.record("instance", action=action, name=owner.name)
        await owner.store()
        return seen

    async def settled(self, name: str) -> Instance:
        """See `Instances.settled`."""
        owner = self.owner(name)
        await owner.settled()
        return owner.snapshot()

    def _living(self, name: str) -> Owner:
        owner = self.owner(name)
        if owner.deleting:
            raise Conflict(f"the instance {name} is being deleted")
        return owner

    def _check_open(self) -> None:
        if not self._open:
            raise ProviderUnavailable("the server is shutting down")

    # --- requests and logs ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def lease(self, name: str, *, on_demand: bool) -> AsyncIterator[Address]:
        """See `Instances.lease`."""
        run = await self.owner(name).enter(on_demand=on_demand)
        try:
            yield run.address
        finally:
            run.leave()

    def address(self, name: str) -> Address | None:
        """See `Instances.address`."""
        owner = self.owner(name)
        return owner.run.address if owner.run is not None and owner.status == "running" else None

    async def log_tail(self, name: str, lines: int | None) -> list[LogEntry]:
        """See `Instances.log_tail`."""
        return await self.owner(name).log.tail(lines)

    def log_follow(self, name: str, lines: int) -> AsyncIterator[LogEntry]:
        """See `Instances.log_follow`."""
        return self.owner(name).log.follow(lines)

    # --- checks --------------------------------------------------------------------------------------------------------

    async def check(self, spec: Spec) -> None:
        """What can be seen before a start. Raises BadRequest (files, port), NotStarted (no llama-server)."""
        self._executable(spec)
        closed = self._host.closed and not spec.managed
        await asyncio.to_thread(self.files.check, spec.options, spec.extra_args, closed=closed)
        if spec.port:
            await asyncio.to_thread(self._tools.ports.check, spec.port)

    def _executable(self, spec: Spec) -> str:
        command = self.settings.command
        if spec.command_override and self.settings.allow_command_override:
            command = spec.command_override
        found = find_command(command, self.settings.environment.get("PATH"))
        if found is None:
            raise NotStarted(
                f"{command} is not there or can't be executed: set llama_server.command to llama-server's path"
            )
        return found


def _marked(ids: set[str]) -> list[int]:
    """The processes with the mark of one of these instances whose paddock is gone."""
    found = groups.environment_values("PADDOCK_INSTANCE")
    return [
        pid
        for pid, values in found.items()
        if values["PADDOCK_INSTANCE"] in ids and not lives(values.get("PADDOCK_OWNER", ""))
    ]
