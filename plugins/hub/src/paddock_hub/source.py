"""The model source ``universal``: a hub and the cache of its models."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from paddock.builtin.hub_cache import RESERVE, HubCache, long_size
from paddock.builtin.model_names import ModelName, Quantization, choose
from paddock.contracts.base import Json
from paddock.contracts.providers import (
    Freed,
    Health,
    HttpClient,
    ModelFile,
    ModelInfo,
    ModelSource,
    Progress,
    TypeName,
    timed_health,
)
from paddock.errors import BadRequest, Conflict, ModelNotFound, ProviderUnavailable
from paddock_hub import publishing
from paddock_hub.blobs import arrived, own_folder
from paddock_hub.selection import Selection, offered, select
from paddock_hub.settings import HubSettings
from paddock_hub.sharing import Downloads, Report
from paddock_hub.transfer import Transfer
from paddock_hub.wire import Hub

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


FRESH = 1.0  # seconds that a listing holds: the gateway may ask for it with every request


class HubSource(ModelSource):
    """Type ``universal``. `cache` is the folder of the model cache."""

    local = True

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("universal"),)

    def __init__(self, http: HttpClient, settings: HubSettings, cache: Path) -> None:
        self._settings = settings
        self._cache = HubCache(cache)
        self._hub = Hub(http, settings)
        self._downloads = Downloads()
        self._deleting: set[str] = set()
        self._listed: tuple[float, list[ModelInfo]] = (float("-inf"), [])

    async def catalogue(self) -> list[ModelInfo]:
        """What is cached; `details` are the keys of ``GET /v1/models``. Nothing is asked of the hub. What other processes
        change is seen after `FRESH` seconds."""
        if time.monotonic() - self._listed[0] > FRESH:
            start = time.monotonic()
            self._listed = (start, await self._catalogue())
        return self._listed[1]

    def _changed(self) -> None:
        self._listed = (float("-inf"), [])

    async def _catalogue(self) -> list[ModelInfo]:
        found = await asyncio.to_thread(self._cache.models)
        return [
            ModelInfo(
                id=model.repo, owned_by=self.name, created=int(model.modified), size=model.size, details=model.details()
            )
            for model in found
        ]

    async def show(self, model: str) -> dict[str, Json]:
        """What is cached of a model: size, revisions, files, GGUF quantizations."""
        return await asyncio.to_thread(self._show, model)

    def _show(self, model: str) -> dict[str, Json]:
        name = self._cache.resolve(model)
        found, snapshot = self._cache.model(name.repo), self._cache.snapshot(name.repo)
        if found is None or snapshot is None:
            raise self._cache.missing(model)
        files = {file: path.stat().st_size for file, path in self._cache.files(snapshot).items()}
        ggufs = [one.quantization for one in self._cache.quantizations(snapshot)]
        return {**found.details(), "files": files, "quantizations": ggufs}

    async def size(self, model: str) -> int | None:
        """What is missing of a model, in bytes; 0 when it is cached and the hub may not be asked."""
        name = await self._named(model)
        if self._settings.offline:
            await self._cached(name)
            return 0
        return await self._missing(select(await self._hub.info(name.repo), name, self._settings))

    async def quantizations(self, model: str) -> list[ModelFile]:
        """From the hub; from the cache when it may not be asked, or does not know or answer."""
        name = await self._named(model)
        if self._settings.offline:
            await self._cached(ModelName(name.repo))
            return [described(one) for one in await asyncio.to_thread(self._cached_quantizations, name.repo)]
        try:
            return [described(one) for one in offered(await self._hub.info(name.repo))]
        except (ModelNotFound, ProviderUnavailable):
            here = await asyncio.to_thread(self._cached_quantizations, name.repo)
            if not here:
                raise
            return [described(one) for one in here]

    def _cached_quantizations(self, repo: str) -> list[Quantization]:
        found: dict[tuple[str, ...], Quantization] = {}
        for snapshot in self._cache.snapshots(repo):
            found = {one.files: one for one in self._cache.quantizations(snapshot)} | found
        return sorted(found.values(), key=lambda one: one.size)

    async def pull(self, model: str) -> AsyncIterator[Progress]:
        """See `ModelSource.pull`. A model becomes visible when all of its files are whole and verified."""
        name = await self._named(model)
        if name.repo in self._deleting:
            raise Conflict(f"{name.repo} is being deleted: try again")

        async def work(report: Report) -> None:
            await self._fetch(name, report)

        follower = cast("AsyncGenerator[Progress, None]", self._downloads.follow(str(name), work))
        async with aclosing(follower):
            async for progress in follower:
                yield progress

    async def _named(self, model: str) -> ModelName:
        return await asyncio.to_thread(self._cache.resolve, model)

    async def _cached(self, name: ModelName) -> None:
        """Raise ModelNotFound for what is not here while the hub may not be asked."""
        if not await asyncio.to_thread(self._cache.holds, str(name)):
            missing = await asyncio.to_thread(self._cache.missing, str(name))
            raise ModelNotFound(f"{missing.message} (after switching hub.offline off)")

    async def _fetch(self, name: ModelName, report: Report) -> None:
        if self._settings.offline:
            await self._cached(name)
            report(Progress(status="cached"))
            return
        chosen = select(await self._hub.info(name.repo), name, self._settings)
        try:
            await self._fetch_files(chosen, report)
        except OSError as error:
            reason = error.strerror or "the disk failed"
            raise ProviderUnavailable(f"{name} can't be stored ({reason}): free some space and try again") from error

    async def _fetch_files(self, chosen: Selection, report: Report) -> None:
        folder = self._cache.folder(chosen.repo)
        await self._make_room(folder, chosen)
        transfer = Transfer(self._hub, self._settings, folder, chosen.repo, chosen.commit)
        here = {file.etag: await asyncio.to_thread(arrived, folder / "blobs", file) for file in chosen.files}
        report(Progress(status="downloading", completed=sum(here.values()), total=chosen.size))
        for file in chosen.files:

            def moved(size: int, etag: str = file.etag) -> None:
                here[etag] = size
                report(Progress(status="downloading", completed=sum(here.values()), total=chosen.size))

            await transfer.fetch(file, moved)
            moved(file.size)
        await asyncio.to_thread(publishing.publish, folder, chosen)
        self._changed()

    async def _make_room(self, folder: Path, chosen: Selection) -> None:
        """The folders, old leftovers swept away. Raises BadRequest when the model does not fit on the disk."""

        def prepare() -> int:
            own_folder(own_folder(folder) / "blobs")
            publishing.sweep(self._cache.root, self._settings.keep_partial_hours)
            return shutil.disk_usage(folder).free

        free = await asyncio.to_thread(prepare)
        needed = await self._missing(chosen)
        if needed + RESERVE > free:
            raise BadRequest(
                f"{chosen.repo} needs {long_size(needed)}, and of {long_size(free)} that are free {long_size(RESERVE)} stay so: "
                "delete a model that is not needed"
            )

    async def _missing(self, chosen: Selection) -> int:
        """The bytes that still have to come."""
        blobs = self._cache.folder(chosen.repo) / "blobs"

        def count() -> int:
            return sum({file.etag: file.size - arrived(blobs, file) for file in chosen.files}.values())

        return await asyncio.to_thread(count)

    async def delete(self, model: str) -> Freed:
        """See `ModelSource.delete`. With a quantization only that file goes."""
        name = await self._named(model)
        if any(key == name.repo or key.startswith(f"{name.repo}:") for key in self._downloads.running()):
            raise Conflict(f"{name.repo} is being fetched: end the download first")
        self._deleting.add(name.repo)
        try:
            return await asyncio.to_thread(self._delete, name)
        finally:
            self._deleting.discard(name.repo)
            self._changed()

    def _delete(self, name: ModelName) -> Freed:
        folder = self._cache.folder(name.repo)
        if not name.quantization:
            if not folder.is_dir():
                raise self._cache.missing(str(name))
            return publishing.remove(folder)
        doomed = []
        for snapshot in self._cache.snapshots(name.repo):
            one = choose(self._cache.quantizations(snapshot), name.quantization)
            if one is not None:
                doomed.append((snapshot, one.files))
        if not doomed:
            raise self._cache.missing(str(name))
        return publishing.remove_files(folder, doomed)

    async def sweep(self) -> int:
        """Delete what crashes left in the cache long ago; returns how many files and folders."""
        return await asyncio.to_thread(publishing.sweep, self._cache.root, self._settings.keep_partial_hours)

    async def health(self) -> Health:
        """Whether the cache's folder can be read. The hub is not asked: models in the cache work without it."""
        return await timed_health(self._look)

    async def _look(self) -> str:
        try:
            found = await asyncio.to_thread(self._cache.models)
        except OSError as error:
            raise ProviderUnavailable(f"the model cache can't be read ({error.strerror}): check its folder") from error
        return f"{len(found)} models are cached"

    async def close(self) -> None:
        """End the downloads that run."""
        await self._downloads.close()


def described(one: Quantization) -> ModelFile:
    """A quantization as the contract has it."""
    return ModelFile(filename=one.files[0], quantization=one.quantization, size=one.size)
