"""llamactl's newer API over the instances: ``/api/v1``."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import paddock
from paddock.contracts.base import Reply, Service, hookimpl
from paddock.contracts.instances import InstanceOptions, InstancePath, InstanceView, LogQuery
from paddock.errors import BadRequest
from paddock_llama_server.binary import Binary
from paddock_llama_server.bodies import check_name, nested_view, read_create, read_update
from paddock_llama_server.drafts import Drafts
from paddock_llama_server.spec import Instance, Instances, LogEntry

TEXT = "text/plain; charset=utf-8"
ALL_LINES = 1_000_000_000


def view(instance: Instance) -> InstanceView:
    """An instance as this API shows it."""
    return InstanceView(
        name=instance.name,
        status=instance.status,
        created=int(instance.created),
        options=nested_view(instance.spec),
        port=instance.port,
        pid=instance.pid,
        last_error=instance.last_error,
    )


def line_count(lines: int) -> int | None:
    """How many lines a log query wants; None for all. Raises BadRequest."""
    if lines < -1:
        raise BadRequest("lines is a number of lines, or -1 for all of them")
    return lines if lines > 0 else None


class NewerApi(Service):
    """Implements the contracts of `paddock.contracts.instances` but for the proxy."""

    def __init__(self, instances: Instances, drafts: Drafts, binary: Binary) -> None:
        self._instances = instances
        self._drafts = drafts
        self._binary = binary

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See `Service.running`."""
        yield
        await self._binary.close()

    @hookimpl
    async def llamactl_version_get(self) -> str:
        """Version, commit and build time."""
        return version_text()

    @hookimpl
    async def llama_server_help_get(self) -> str:
        """The binary's own words."""
        return await self._binary.say("--help")

    @hookimpl
    async def llama_server_version_get(self) -> str:
        """The binary's own words."""
        return await self._binary.say("--version")

    @hookimpl
    async def llama_server_devices_get(self) -> str:
        """The binary's own words."""
        return await self._binary.say("--list-devices")

    @hookimpl
    async def instance_list(self) -> list[InstanceView]:
        """All of them."""
        return [view(one) for one in self._instances.all()]

    @hookimpl
    async def instance_get(self, params: InstancePath) -> InstanceView:
        """One."""
        return view(self._instances.get(params.name))

    @hookimpl
    async def instance_create(self, params: InstancePath, data: InstanceOptions) -> InstanceView:
        """Check everything, then create and begin to start."""
        name = check_name(params.name)
        spec = await self._drafts.checked(read_create(data.given, self._drafts.settings))
        return view(await self._instances.create(name, spec, start=True))

    @hookimpl
    async def instance_update(self, params: InstancePath, data: InstanceOptions) -> InstanceView:
        """Merge."""
        async with self._drafts.merging:
            old = self._instances.get(params.name).spec
            spec = await self._drafts.checked(read_update(data.given, old, self._drafts.settings))
            return view(await self._instances.update(params.name, spec))

    @hookimpl
    async def instance_delete(self, params: InstancePath) -> None:
        """Stop and remove."""
        await self._instances.delete(params.name)

    @hookimpl
    async def instance_start(self, params: InstancePath) -> InstanceView:
        """Begin to start."""
        return view(await self._instances.start(params.name))

    @hookimpl
    async def instance_stop(self, params: InstancePath) -> InstanceView:
        """Begin to stop."""
        return view(await self._instances.stop(params.name))

    @hookimpl
    async def instance_restart(self, params: InstancePath) -> InstanceView:
        """Begin to stop and start again."""
        return view(await self._instances.restart(params.name))

    @hookimpl
    async def instance_logs_get(self, params: LogQuery) -> Reply:
        """The last lines, or the stream of them."""
        wanted = line_count(params.lines)
        self._instances.get(params.name)
        if params.follow:
            entries = self._instances.log_follow(params.name, ALL_LINES if wanted is None else wanted)
            return Reply(body=followed(entries, _line), media_type=TEXT, headers={"X-Accel-Buffering": "no"})
        found = await self._instances.log_tail(params.name, wanted)
        return Reply(body=b"".join(map(_line, found)), media_type=TEXT)


def _line(entry: LogEntry) -> bytes:
    return entry.text.encode("utf-8", "replace") + b"\n"


async def followed(
    entries: AsyncIterator[LogEntry], encode: Callable[[LogEntry], bytes]
) -> AsyncGenerator[bytes, None]:
    """The entries as they come, each encoded. Begins with nothing, so that the reply starts before the first line."""
    yield b""
    try:
        async for entry in entries:
            yield encode(entry)
    finally:
        close = getattr(entries, "aclose", None)  # generators have it, other iterators need not
        if close is not None:
            await close()


def version_text() -> str:
    """paddock's version, the commit it was installed from, and when it was built, one a line."""
    found = metadata.distribution("paddock")
    source = json.loads(found.read_text("direct_url.json") or "{}")
    commit = source.get("vcs_info", {}).get("commit_id", "unknown")
    return f"Version: {found.version}\nCommit: {commit}\nBuild Time: {build_time()}\n"


def build_time() -> str:
    """When the package was put where it is, as RFC 3339."""
    seconds = Path(paddock.__file__).stat().st_mtime
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
