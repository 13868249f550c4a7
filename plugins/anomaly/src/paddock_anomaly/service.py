"""The endpoints of the anomaly detectors."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from paddock.builtin.trained import Fits, InMemory, Key, ModelFiles, shown
from paddock.contracts.anomaly import (
    AnomalyDeleted,
    AnomalyFilePath,
    AnomalyFit,
    AnomalyFitted,
    AnomalyFittedVersioned,
    AnomalyFitVersioned,
    AnomalyList,
    AnomalyLoaded,
    AnomalyModel,
    AnomalySave,
    AnomalySaved,
    AnomalyScore,
    Backend,
    Detected,
    Scored,
)
from paddock.contracts.base import Caller, Context, Service, hookimpl
from paddock.contracts.providers import Host
from paddock.errors import BadRequest, Forbidden, ModelNotFound, PaddockError
from paddock.storage import check_name
from paddock_anomaly.detector import Detector, Facts
from paddock_anomaly.fitting import check_rows, fit
from paddock_anomaly.replies import about, detected, filename, fitted, item, missing, named, scored, wanted
from paddock_anomaly.settings import AnomalySettings

SCORING = (
    4  # requests that are scored at once: neighbours of many rows take long, and the server's own threads stay free
)


class AnomalyService(Service):
    """Implements `paddock.contracts.anomaly` over one folder of models."""

    def __init__(self, settings: AnomalySettings, folder: Path, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._files = ModelFiles(folder, depth=2)  # NAME/BACKEND
        self._memory = InMemory(self._read, settings.keep_loaded)
        self._fits = Fits(host, AnomalyFit, self._fit, about)
        self._threads = ThreadPoolExecutor(SCORING, thread_name_prefix="anomaly")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do the fits that an earlier run left."""
        async with self._fits.running():
            yield
        self._threads.shutdown(wait=False)

    # -- learning

    async def _fit(self, request: AnomalyFit) -> AnomalyFitted:
        started = time.perf_counter()
        try:
            facts, path = await asyncio.to_thread(self._learn, request)
        except Exception as error:
            self._record(request, started, error)
            raise
        self._memory.drop((request.model, request.backend))
        return fitted(request.model, facts, path, self._record(request, started))

    def _record(self, request: AnomalyFit, started: float, error: Exception | None = None) -> float:
        """Write the event; the milliseconds since `started`."""
        seconds = time.perf_counter() - started
        elapsed = round(seconds * 1000, 2)
        found = {"model": request.model, "backend": request.backend, "samples": len(request.data)}
        self._host.record("anomaly_fit", error=error, seconds=seconds, training_time_ms=elapsed, **found)
        return elapsed

    def _learn(self, request: AnomalyFit) -> tuple[Facts, Path]:
        facts, graph = fit(request.data, wanted(request, self._host.stopping.is_set), self._settings)
        key = (request.model, request.backend)
        return facts, self._files.write(key, graph, msgspec.to_builtins(facts), request.description)

    async def _run(self, request: AnomalyFit) -> AnomalyFitted:
        check_name(request.model, "model")
        if request.backend != "autoencoder" and (request.epochs is not None or request.batch_size is not None):
            raise BadRequest("epochs and batch_size are for the backend autoencoder: leave them out")
        try:
            check_rows(request.data, request.schema, self._settings)  # what is refused does not wait for its turn
        except PaddockError as error:
            self._record(request, time.perf_counter(), error)
            raise
        return await self._fits.run(request)

    @hookimpl
    async def anomaly_fit(self, data: AnomalyFit) -> AnomalyFitted:
        """See the contract."""
        return await self._run(data)

    @hookimpl
    async def ml_anomaly_fit(self, data: AnomalyFitVersioned) -> AnomalyFittedVersioned:
        """See the contract."""
        name = await self._fits.name_for(data.model, self._files, overwrite=data.overwrite)
        fields = {field: getattr(data, field) for field in AnomalyFit.__struct_fields__}
        done = await self._run(AnomalyFit(**{**fields, "model": name}))
        return AnomalyFittedVersioned(
            **msgspec.structs.asdict(done), base_name=data.model, versioned_name=name, overwrite=data.overwrite
        )

    # -- finding

    def _read(self, key: Key) -> Detector:
        saved, graph = self._files.read(key)
        return Detector(key[0], saved.facts, graph, self._settings)

    async def _key(self, caller: Caller, name: str, backend: Backend | None, *, latest: bool) -> Key:
        """The saved model that is meant. Raises BadName, Forbidden, ModelNotFound."""
        check_name(name, "model")
        keys = await asyncio.to_thread(
            self._files.find, name, latest=latest, wanted=lambda key: backend in (None, key[1])
        )
        found, backends = keys[0][0] if keys else name, [key[1] for key in keys]
        if not caller.may_use(found):
            raise Forbidden(f"the key may not use the model {found}")
        if "isolation_forest" in backends:
            return found, "isolation_forest"
        if len(backends) == 1:
            return found, backends[0]
        if backends:
            raise BadRequest(f"the model {found} has several backends, {' and '.join(backends)}: name one")
        keys = await asyncio.to_thread(self._files.keys)
        raise ModelNotFound(missing(name, backend, [key for key in keys if caller.may_use(key[0])]))

    # -- scoring

    async def _scores(self, ctx: Context, data: AnomalyScore, *, latest: bool, anomalies: bool = False) -> Scored:
        key = await self._key(ctx.caller, data.model, data.backend, latest=latest)
        detector = await self._memory.get(key)
        left = threading.Event()
        work = partial(
            scored,
            key[0],
            detector,
            data,
            anomalies=anomalies,
            stopped=lambda: left.is_set() or self._host.stopping.is_set(),
        )
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except asyncio.CancelledError:
            left.set()
            raise

    @hookimpl
    async def anomaly_score(self, ctx: Context, data: AnomalyScore) -> Scored:
        """See the contract."""
        return await self._scores(ctx, data, latest=False)

    @hookimpl
    async def ml_anomaly_score(self, ctx: Context, data: AnomalyScore) -> Scored:
        """See the contract."""
        return await self._scores(ctx, data, latest=True)

    @hookimpl
    async def anomaly_detect(self, ctx: Context, data: AnomalyScore) -> Detected:
        """See the contract."""
        return detected(await self._scores(ctx, data, latest=False, anomalies=True))

    @hookimpl
    async def ml_anomaly_detect(self, ctx: Context, data: AnomalyScore) -> Detected:
        """See the contract."""
        return detected(await self._scores(ctx, data, latest=True, anomalies=True))

    # -- keeping

    async def _save(self, ctx: Context, data: AnomalySave, *, latest: bool) -> AnomalySaved:
        key = await self._key(ctx.caller, data.model, data.backend, latest=latest)
        saved = await asyncio.to_thread(self._files.describe, key, data.description)
        return AnomalySaved(
            model=key[0],
            backend=key[1],
            filename=filename(key),
            path=shown(self._files.path(key), 2),
            description=saved.description,
        )

    async def _load(self, ctx: Context, data: AnomalyModel, *, latest: bool) -> AnomalyLoaded:
        key = await self._key(ctx.caller, data.model, data.backend, latest=latest)
        detector = await self._memory.get(key)
        return AnomalyLoaded(
            model=key[0],
            backend=key[1],
            filename=filename(key),
            path=shown(self._files.path(key), 2),
            threshold=detector.facts.threshold,
        )

    async def _models(self, ctx: Context) -> AnomalyList:
        found = await asyncio.to_thread(self._files.all)
        items = [item(one) for one in found if ctx.caller.may_use(one.key[0])]
        fitting = [one for one in self._fits.under_way() if ctx.caller.may_use(one.model)]
        return AnomalyList(data=items, models_dir=shown(self._files.root, 0), total=len(items), fitting=fitting)

    async def _delete(self, params: AnomalyFilePath) -> AnomalyDeleted:
        key = named(params.filename, await asyncio.to_thread(self._files.keys))
        await asyncio.to_thread(self._files.delete, key)
        self._memory.drop(key)
        return AnomalyDeleted(filename=filename(key))

    @hookimpl
    async def anomaly_save(self, ctx: Context, data: AnomalySave) -> AnomalySaved:
        """See the contract."""
        return await self._save(ctx, data, latest=False)

    @hookimpl
    async def ml_anomaly_save(self, ctx: Context, data: AnomalySave) -> AnomalySaved:
        """See the contract."""
        return await self._save(ctx, data, latest=True)

    @hookimpl
    async def anomaly_load(self, ctx: Context, data: AnomalyModel) -> AnomalyLoaded:
        """See the contract."""
        return await self._load(ctx, data, latest=False)

    @hookimpl
    async def ml_anomaly_load(self, ctx: Context, data: AnomalyModel) -> AnomalyLoaded:
        """See the contract."""
        return await self._load(ctx, data, latest=True)

    @hookimpl
    async def anomaly_models(self, ctx: Context) -> AnomalyList:
        """See the contract."""
        return await self._models(ctx)

    @hookimpl
    async def ml_anomaly_models(self, ctx: Context) -> AnomalyList:
        """See the contract."""
        return await self._models(ctx)

    @hookimpl
    async def anomaly_delete(self, params: AnomalyFilePath) -> AnomalyDeleted:
        """See the contract."""
        return await self._delete(params)

    @hookimpl
    async def ml_anomaly_delete(self, params: AnomalyFilePath) -> AnomalyDeleted:
        """See the contract."""
        return await self._delete(params)
