"""The model cache over HTTP: progress as events, space, quantizations, deletion. The sources do the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import cast

import msgspec

from paddock.builtin.hub_cache import RESERVE, HubCache, long_size
from paddock.contracts.base import Context, Json, Reply, hookimpl
from paddock.contracts.model_cache import (
    CachedModelPath,
    DownloadCheck,
    ModelDeleted,
    ModelRequest,
    QuantizationList,
    QuantizationOption,
)
from paddock.contracts.providers import ModelSource, Progress
from paddock.errors import (
    BadRequest,
    Conflict,
    PaddockError,
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
)
from paddock.services.core import Core
from paddock.services.events import EventLog
from paddock.services.system import disk

SOURCES = ("universal", "ollama")
QUIET = 1.0  # seconds after which progress is told again although no percent was gained
LOW = 0.1  # of the file system left free is little
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_DOWN = (ProviderUnavailable, UpstreamTimeout, UpstreamError, RateLimited)


class ModelCache:
    """Implements contracts/model_cache.py."""

    def __init__(self, core: Core, events: EventLog) -> None:
        self._core = core
        self._events = events

    @hookimpl
    async def model_download(self, ctx: Context, data: ModelRequest) -> Reply:
        source = self._source(data.provider)
        return Reply(body=self._download(source, data), media_type="text/event-stream", headers=_STREAM_HEADERS)

    async def _download(self, source: ModelSource, data: ModelRequest) -> AsyncIterator[bytes]:
        pull = cast("AsyncGenerator[Progress, None]", source.pull(data.model_name))
        told = Teller()
        started = time.monotonic()
        error: PaddockError | str | None = "the client left"
        try:
            async with aclosing(pull):
                async for progress in pull:
                    if not told.anything and progress.total and await asyncio.to_thread(self._low, progress):
                        yield encoded({"event": "warning", "message": "little disk space will be left free"})
                    if event := told.of(progress):
                        yield event
            error = None
            self._tell_servers()
            yield encoded({"event": "complete", "model_name": data.model_name})
        except PaddockError as failure:
            error = failure
            if not told.anything:  # nothing was sent yet: an ordinary error reply
                raise
            yield encoded({"event": "error", "message": failure.message})
        finally:
            seconds = time.monotonic() - started
            self._events.record(
                "", "", "model_download", error=error, model=data.model_name, provider=data.provider,
                bytes=told.downloaded, seconds=round(seconds, 3),
            )  # fmt: skip

    def _low(self, progress: Progress) -> bool:
        """Whether little space will be left when what is missing has arrived."""
        cache = disk(self._core.settings.hub_cache)
        return cache.free_bytes - ((progress.total or 0) - progress.completed) < LOW * cache.total_bytes

    @hookimpl
    async def model_download_validate(self, ctx: Context, data: ModelRequest) -> DownloadCheck:
        source = self._source(data.provider)
        unknown = f"the size of {data.model_name} is not known beforehand"
        required: int | None = None
        try:
            required = await source.size(data.model_name)
        except _DOWN as error:
            unknown = f"{unknown}: {error.message}"
        return await asyncio.to_thread(self._checked, required, unknown)

    def _checked(self, required: int | None, unknown: str) -> DownloadCheck:
        cache = disk(self._core.settings.hub_cache)
        left = cache.free_bytes - (required or 0)
        fits = left >= RESERVE
        low = required is None or left < LOW * cache.total_bytes
        message = "Sufficient disk space available"
        if not fits:
            message = (
                f"Not enough disk space: {long_size(cache.free_bytes)} are free, of which {long_size(RESERVE)} stay so; delete a "
                "model that is not needed"
            )
        elif required is None:
            message = unknown
        elif low:
            message = f"Only {long_size(left)} would be left free"
        return DownloadCheck(
            can_download=fits,
            warning=low,
            message=message,
            available_bytes=cache.free_bytes,
            required_bytes=required or 0,
            cache_info=cache,
            system_info=disk(Path("/")),
        )

    @hookimpl
    async def model_quantizations(self, ctx: Context, params: CachedModelPath) -> QuantizationList:
        found = await self._source(params.provider).quantizations(params.model_id)
        return QuantizationList(
            options=[
                QuantizationOption(
                    filename=one.filename,
                    quantization=one.quantization,
                    size_bytes=one.size,
                    size_human=long_size(one.size),
                )
                for one in found
            ]
        )

    @hookimpl
    async def model_delete(self, ctx: Context, params: CachedModelPath) -> ModelDeleted:
        source = self._source(params.provider)
        if params.provider == "universal":
            doomed = await asyncio.to_thread(self._doomed, params.model_id)
            names = [name for server in self._core.plugins.model_servers.all() for name in server.running_from(doomed)]
            if names:
                raise Conflict(f"{params.model_id} is what {', '.join(names)} runs: stop that instance first")
        freed = await source.delete(params.model_id)
        if params.provider == "universal":
            for server in self._core.plugins.model_servers.all():
                await server.unload(params.model_id)
            self._tell_servers()
        self._events.record("", "", "model_delete", model=params.model_id, provider=params.provider, bytes=freed.size)
        return ModelDeleted(
            model_name=params.model_id,
            revisions_deleted=freed.revisions,
            size_freed=freed.size,
            path=freed.path,
        )

    def _tell_servers(self) -> None:
        for server in self._core.plugins.model_servers.all():
            server.cache_changed()

    def _doomed(self, model: str) -> Path:
        """The folder or file that goes with a model."""
        cache = HubCache(self._core.settings.hub_cache)
        name = cache.resolve(model)
        return (cache.gguf(model) if name.quantization else None) or cache.folder(name.repo)

    def _source(self, provider: str) -> ModelSource:
        if provider not in SOURCES:
            raise BadRequest(f"provider {provider[:64]!r} has no models to manage: use {' or '.join(SOURCES)}")
        source = self._core.plugins.model_sources.get(provider)
        if source is None:
            package = {"universal": "paddock-hub", "ollama": "paddock-ollama"}[provider]
            raise ProviderUnavailable(f"no loaded plugin fetches models for {provider}: install {package}")
        return source


class Teller:
    """Turns progress into events: every gained percent, every new status, and a sign of life now and then. Before anything
    is known there is nothing to tell, so that a model that is not there can still be an ordinary 404."""

    def __init__(self) -> None:
        self.anything = False
        self.downloaded = 0
        self._last: tuple[str, int | None] | None = None
        self._when = 0.0

    def of(self, progress: Progress) -> bytes | None:
        """The event, if this progress is worth one."""
        if not progress.completed and progress.total is None:
            return None
        percent = progress.completed * 100 // progress.total if progress.total else None
        self.downloaded = progress.completed
        now = time.monotonic()
        if self._last == (progress.status, percent) and now - self._when < QUIET:
            return None
        self._last, self._when = (progress.status, percent), now
        self.anything = True
        body: dict[str, Json] = {
            "event": "progress", "downloaded": progress.completed, "total": progress.total, "percent": percent,
        }  # fmt: skip
        return encoded(body)


def encoded(event: dict[str, Json]) -> bytes:
    """One server-sent event."""
    return b"data: " + msgspec.json.encode(event) + b"\n\n"
