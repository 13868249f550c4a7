"""llamactl's older API over the same instances: ``/api``."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec

from paddock.contracts.base import Reply, Service, hookimpl
from paddock.contracts.instances_older import (
    HealthChecks,
    InstanceStats,
    LogLine,
    NameAndStatus,
    OlderAction,
    OlderBatch,
    OlderCreate,
    OlderCreated,
    OlderCreateReply,
    OlderHealth,
    OlderInstance,
    OlderInstanceDetail,
    OlderInstancePath,
    OlderInstances,
    OlderLogQuery,
    OlderLogs,
    OlderMessage,
    OlderStop,
    OlderUpdate,
    OlderUpdateReply,
)
from paddock.contracts.providers import HttpClient
from paddock.errors import InstanceRunning, PaddockError, UpstreamTimeout
from paddock_llama_server.bodies import check_name, model_of, older_view, read_older_create, read_older_update
from paddock_llama_server.drafts import Drafts
from paddock_llama_server.spec import Instance, Instances, LogEntry
from paddock_llama_server.views_v1 import ALL_LINES, followed, line_count

LOOK = 5.0  # seconds that an instance has to answer a look at its health
_LEVELS = ("debug", "info", "warn", "error")


def rfc3339(seconds: float) -> str:
    """A time as this API writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stats(instance: Instance) -> InstanceStats | None:
    """The figures of an instance whose process runs."""
    if instance.pid is None:
        return None
    return InstanceStats(
        memory_usage=instance.memory_bytes or 0,
        cpu_usage=instance.cpu_percent or 0.0,
        uptime=max(0, int(time.time() - (instance.started or time.time()))),
    )


def brief(instance: Instance) -> OlderInstance:
    """An instance in the list."""
    return OlderInstance(
        name=instance.name,
        status=instance.status,
        model_path=model_of(instance.spec),
        port=instance.port,
        created_at=rfc3339(instance.created),
        updated_at=rfc3339(instance.updated),
    )


def detail(instance: Instance) -> OlderInstanceDetail:
    """An instance in full."""
    return OlderInstanceDetail(
        **msgspec.structs.asdict(brief(instance)),
        pid=instance.pid,
        options=older_view(instance.spec),
        stats=stats(instance),
        last_error=instance.last_error,
    )


def log_line(entry: LogEntry) -> LogLine:
    """A line of a log as an object."""
    return LogLine(timestamp=rfc3339(entry.time), level=entry.level, message=entry.text)


def _event(entry: LogEntry) -> bytes:
    return b"data: " + msgspec.json.encode(log_line(entry)) + b"\n\n"


class OlderApi(Service):
    """Implements the contracts of `paddock.contracts.instances_older` but for the websocket."""

    def __init__(self, instances: Instances, drafts: Drafts, http: HttpClient) -> None:
        self._instances = instances
        self._drafts = drafts
        self._http = http

    @hookimpl
    async def older_instance_list(self) -> OlderInstances:
        """All of them."""
        return OlderInstances(instances=[brief(one) for one in self._instances.all()])

    @hookimpl
    async def older_instance_create(self, data: OlderCreate) -> OlderCreateReply:
        """Create, stopped."""
        name = check_name(data.name)
        spec = await self._drafts.checked(read_older_create(data, self._drafts.settings))
        made = msgspec.structs.asdict(brief(await self._instances.create(name, spec, start=False)))
        del made["updated_at"]
        return OlderCreateReply(message="Instance created successfully", instance=OlderCreated(**made))

    @hookimpl
    async def older_instance_get(self, params: OlderInstancePath) -> OlderInstanceDetail:
        """One."""
        return detail(self._instances.get(params.name))

    @hookimpl
    async def older_instance_update(self, params: OlderInstancePath, data: OlderUpdate) -> OlderUpdateReply:
        """Merge."""
        async with self._drafts.merging:
            old = self._instances.get(params.name).spec
            spec = await self._drafts.checked(read_older_update(data, old, self._drafts.settings))
            changed = await self._instances.update(params.name, spec)
        return OlderUpdateReply(message="Instance updated successfully", instance=detail(changed))

    @hookimpl
    async def older_instance_delete(self, params: OlderInstancePath) -> OlderMessage:
        """Delete a stopped one."""
        found = self._instances.get(params.name)
        if found.status not in ("stopped", "failed"):
            raise InstanceRunning(f"{found.name} is {found.status}: stop it first, POST …/{found.name}/stop")
        await self._instances.delete(found.name)
        return OlderMessage(message="Instance deleted successfully")

    @hookimpl
    async def older_instance_start(self, params: OlderInstancePath) -> OlderAction:
        """Begin to start."""
        found = await self._instances.start(params.name)
        return OlderAction(message="Instance start initiated", status=found.status)

    @hookimpl
    async def older_instance_stop(self, params: OlderInstancePath, data: OlderStop) -> OlderAction:
        """Begin to stop."""
        found = await self._instances.stop(params.name, force=data.force, timeout=data.timeout)
        return OlderAction(message="Instance stop initiated", status=found.status)

    @hookimpl
    async def older_instance_restart(self, params: OlderInstancePath) -> OlderAction:
        """Begin to stop and start again."""
        found = await self._instances.restart(params.name)
        return OlderAction(message="Instance restart initiated", status=found.status)

    @hookimpl
    async def older_instances_start_all(self) -> OlderBatch:
        """Begin to start those that do not run."""
        names = [one.name for one in self._instances.all() if one.status in ("stopped", "failed")]
        return await _batch("Start initiated", names, self._instances.start)

    @hookimpl
    async def older_instances_stop_all(self) -> OlderBatch:
        """Begin to stop those that run, or are about to."""
        names = [one.name for one in self._instances.all() if one.status in ("running", "starting", "restarting")]
        return await _batch("Stop initiated", names, self._instances.stop)

    @hookimpl
    async def older_instance_health_get(self, params: OlderInstancePath) -> OlderHealth:
        """Look at process, port and answer."""
        found = self._instances.get(params.name)
        checks = HealthChecks(process="running" if found.pid else "stopped", port="closed", response="failed")
        if found.status == "starting":
            checks = HealthChecks(process=checks.process, port="closed", response="loading")
        if found.status == "running":
            checks = await self._look(found.name)
        healthy = found.status == "running" and checks.response == "ok"
        status = "healthy" if healthy else "starting" if checks.response == "loading" else "unhealthy"
        return OlderHealth(status=status, checks=checks, last_check=rfc3339(time.time()))

    async def _look(self, name: str) -> HealthChecks:
        address = self._instances.address(name)
        if address is None:
            return HealthChecks(process="running", port="closed", response="failed")
        headers = {"Authorization": f"Bearer {address.api_key}"}
        url = f"{address.base_url}/health"
        try:
            async with self._http.send("GET", url, headers=headers, timeout=LOOK, trusted=True) as reply:
                answer = {200: "ok", 503: "loading"}.get(reply.status, "failed")
                return HealthChecks(process="running", port="open", response=answer)
        except UpstreamTimeout:  # it listens, and says nothing
            return HealthChecks(process="running", port="open", response="failed")
        except PaddockError:
            return HealthChecks(process="running", port="closed", response="failed")

    @hookimpl
    async def older_instance_logs_get(self, params: OlderLogQuery) -> Reply:
        """The last lines as objects, or the stream of them."""
        wanted = line_count(params.lines)
        self._instances.get(params.name)
        levels = _LEVELS[_LEVELS.index(params.level) if params.level else 0 :]
        if params.follow:
            lines = ALL_LINES if wanted is None else wanted
            entries = self._instances.log_follow(params.name, lines)
            body = followed(entries, lambda entry: _event(entry) if entry.level in levels else b"")
            return Reply(body=body, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        found = await self._instances.log_tail(params.name, None if params.level else wanted)
        found = [entry for entry in found if entry.level in levels][-(wanted or 0) :]
        return Reply(body=msgspec.json.encode(OlderLogs(logs=list(map(log_line, found)))))


async def _batch(message: str, names: list[str], order: Callable[[str], Awaitable[Instance]]) -> OlderBatch:
    """Give one order to many; the errors of some do not keep the others."""
    done, errors = [], {}
    for name in names:
        try:
            done.append(NameAndStatus(name=name, status=(await order(name)).status))
        except PaddockError as error:
            errors[name] = error.message
    return OlderBatch(message=f"{message} for {len(done)} instances", instances=done, errors=errors)
