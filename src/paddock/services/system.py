"""Root, health, version, disk, the API document and its page."""

from __future__ import annotations

import asyncio
import html
import os
import platform
import shutil
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path

import msgspec

from paddock.contracts.base import Context, Reply, hookimpl
from paddock.contracts.providers import Health, Provider
from paddock.contracts.system import (
    Alive,
    Component,
    Device,
    Disk,
    DiskReport,
    HealthReport,
    Hello,
    Info,
    PluginList,
    PluginReport,
    Release,
    RootHeaders,
    Status,
)
from paddock.errors import NotFound, PaddockError
from paddock.openapi import document
from paddock.plugins import look_at
from paddock.resources import page
from paddock.services.core import Core

RELEASE_AGE = 6 * 3600.0  # seconds that the newest release is remembered
PYPI = "https://pypi.org/pypi/paddock/json"
_WORST: dict[Status, int] = {"healthy": 0, "degraded": 1, "unhealthy": 2}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
ProvidersInUse = Callable[[], Awaitable[list[Provider]]]


class SystemService:
    """Implements contracts/system.py. `in_use` tells which providers the projects use."""

    def __init__(self, core: Core, in_use: ProvidersInUse) -> None:
        self._core = core
        self._in_use = in_use
        self._version = metadata.version("paddock")
        self._release: tuple[float, Release] | None = None
        self._document: bytes | None = None

    @hookimpl
    async def root_get(self, ctx: Context, params: RootHeaders) -> Reply:
        if "text/html" not in params.accept:
            return Reply(body=msgspec.json.encode(Hello(message="Hello, World!")))
        text = page("status.html").replace("{{version}}", html.escape(self._version))
        return _shown(text)

    @hookimpl
    async def info_get(self, ctx: Context) -> Info:
        return Info(version=self._version, data_directory=str(self._core.settings.data_dir))

    @hookimpl
    async def liveness_get(self, ctx: Context) -> Alive:
        return Alive(status="alive")

    @hookimpl
    async def health_get(self, ctx: Context) -> HealthReport:
        providers = await self._in_use()
        queue = self._core.plugins.task_queues.find(self._core.settings.tasks.queue)
        storage, tasks, looks = await asyncio.gather(
            self._storage(), look_at(queue), asyncio.gather(*map(look_at, providers))
        )
        parts = [Component(name="server", status="healthy", message="serving", latency_ms=0.0), storage]
        parts.append(component("tasks", tasks))
        parts += [component(provider.name, look) for provider, look in zip(providers, looks, strict=True)]
        services: dict[str, Status] = {part.name: part.status for part in parts if part.name != "server"}
        return HealthReport(
            status=max((part.status for part in parts), key=_WORST.__getitem__),
            services={"api": "healthy", **services},
            summary=", ".join(f"{part.name}={part.status}" for part in parts),
            components=parts,
            timestamp=int(time.time()),
            device=device(),
            loaded_models=[name for server in self._core.plugins.model_servers.all() for name in server.loaded()],
            pid=os.getpid(),
        )

    async def _storage(self) -> Component:
        start = time.perf_counter()
        try:
            await self._core.state.read(lambda connection: connection.execute("SELECT 1").fetchall())
        except PaddockError as error:
            return Component(name="storage", status="unhealthy", message=error.message, latency_ms=None)
        free = disk(self._core.settings.data_dir).free_bytes
        low = free < 100 * 1024 * 1024
        message = f"{free // 2**20} MiB free" + ("; uploads will fail soon: free some space" if low else "")
        latency = (time.perf_counter() - start) * 1000
        return Component(name="storage", status="degraded" if low else "healthy", message=message, latency_ms=latency)

    @hookimpl
    async def openapi_get(self, ctx: Context) -> Reply:
        if self._document is None:
            found = await asyncio.to_thread(document, self._core.plugins.endpoints, self._version)
            self._document = msgspec.json.encode(found)
        return Reply(body=self._document)

    @hookimpl
    async def docs_get(self, ctx: Context) -> Reply:
        return _shown(page("docs.html"))

    @hookimpl
    async def swagger_get(self, ctx: Context) -> Reply:
        if not self._core.settings.server.swagger:
            raise NotFound("this page is off: set server.swagger to true, or read /docs")
        return _shown(page("docs.html").replace('<html lang="en">', '<html lang="en" data-interactive>', 1))

    @hookimpl
    async def version_check_get(self, ctx: Context) -> Release:
        if not self._core.settings.system.version_check:
            return self._own_release()
        if self._release and time.monotonic() - self._release[0] < RELEASE_AGE:
            return msgspec.structs.replace(self._release[1], from_cache=True)
        try:
            self._release = (time.monotonic(), await self._newest())
        except PaddockError:
            return self._release[1] if self._release else self._own_release()
        return self._release[1]

    def _own_release(self) -> Release:
        return self._release_of(self._version, "", None, from_cache=True)

    def _release_of(self, version: str, notes: str, published: str | None, *, from_cache: bool) -> Release:
        return Release(
            current_version=self._version,
            latest_version=version,
            name=f"v{version}",
            release_notes=notes,
            release_url=f"https://pypi.org/project/paddock/{version}/",
            published_at=published,
            from_cache=from_cache,
            install=dict.fromkeys(("mac_linux", "windows"), "pip install --upgrade 'paddock[default]'"),
        )

    async def _newest(self) -> Release:
        async with self._core.http.send("GET", PYPI, timeout=5) as reply:
            if reply.status != 200:
                return self._own_release()
            found = msgspec.json.decode(await reply.read(16 * 1024 * 1024), type=PyPIProject)
        published = found.urls[0].upload_time_iso_8601 if found.urls else None
        return self._release_of(found.info.version, found.info.summary or "", published, from_cache=False)

    @hookimpl
    async def disk_get(self, ctx: Context) -> DiskReport:
        return DiskReport(cache=disk(self._core.settings.hub_cache), system=disk(Path("/")))

    @hookimpl
    async def plugins_list(self, ctx: Context) -> PluginList:
        reports = [
            PluginReport(
                name=info.name,
                version=info.version,
                provides=info.provides,
                endpoints=info.endpoints,
                error=info.error,
                health={name: component(name, look) for name, look in info.health.items()},
            )
            for info in await self._core.plugins.infos(health=True)
        ]
        return PluginList(total=len(reports), plugins=reports)


class PyPIFile(msgspec.Struct):
    """One file of a release, as PyPI's JSON API describes it."""

    upload_time_iso_8601: str


class PyPIInfo(msgspec.Struct):
    """The newest release, as PyPI's JSON API describes it."""

    version: str
    summary: str | None = None


class PyPIProject(msgspec.Struct):
    """A project, as PyPI's JSON API describes it."""

    info: PyPIInfo
    urls: list[PyPIFile] = []


def _shown(text: str) -> Reply:
    """A page of ours."""
    return Reply(body=text.encode(), media_type="text/html; charset=utf-8", headers=_PAGE_HEADERS)


def component(name: str, look: Health) -> Component:
    """A health as the reply shows it."""
    return Component(
        name=name, status=look.status, message=look.message, latency_ms=look.latency_ms, details=look.details or None
    )


def device() -> Device:
    """The machine: paddock's own models run on the CPU."""
    import psutil  # noqa: PLC0415  on first use

    return Device(
        type="cpu",
        name=platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
    )


def disk(path: Path) -> Disk:
    """The file system that holds `path`, or its nearest existing parent."""
    shown = path
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    percent = round(usage.free / usage.total * 100, 1) if usage.total else 0.0
    return Disk(
        total_bytes=usage.total, used_bytes=usage.used, free_bytes=usage.free, path=str(shown), percent_free=percent
    )
