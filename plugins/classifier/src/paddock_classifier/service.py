"""The endpoints of the text classifiers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from paddock.builtin.trained import (
    Damaged,
    Fits,
    Found,
    InMemory,
    Key,
    ModelFiles,
    base_name,
    is_version,
    not_there,
    shown,
)
from paddock.contracts.base import Caller, Context, Json, Service, hookimpl
from paddock.contracts.classifiers import (
    Classified,
    ClassifiedList,
    ClassifierDeleted,
    ClassifierFit,
    ClassifierFitted,
    ClassifierFittedVersioned,
    ClassifierFitVersioned,
    ClassifierItem,
    ClassifierList,
    ClassifierLoaded,
    ClassifierModel,
    ClassifierPath,
    ClassifierPredict,
    ClassifierSave,
    ClassifierSaved,
)
from paddock.contracts.fits import Fitting
from paddock.contracts.providers import Host
from paddock.errors import Conflict, Forbidden, ModelNotFound, PaddockError
from paddock.storage import check_name
from paddock_classifier.base_models import BaseModel, chosen, named
from paddock_classifier.examples import limit_scores, limit_texts, prepared
from paddock_classifier.graph import Scorer, head_graph
from paddock_classifier.learning import Options, learn
from paddock_classifier.settings import ClassifierSettings


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of a classifier but its graph. `space` is the fingerprint of the base model at the fit."""

    base_model: str
    space: str
    labels: list[str]
    samples_fitted: int
    num_iterations: int
    batch_size: int


class Loaded(msgspec.Struct, frozen=True):
    """A classifier in memory."""

    facts: Facts
    scorer: Scorer


class ClassifierService(Service):
    """Implements `paddock.contracts.classifiers` over one folder of models."""

    def __init__(self, settings: ClassifierSettings, folder: Path, host: Host) -> None:
        self._settings = settings
        self._host = host
        self._files = ModelFiles(folder)
        self._memory = InMemory(self._read, settings.keep_loaded)
        self._fits = Fits(host, ClassifierFit, self._fit, about)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do the fits that an earlier run left."""
        async with self._fits.running():
            yield

    # -- learning

    async def _fit(self, request: ClassifierFit) -> ClassifierFitted:
        started = time.perf_counter()
        try:
            facts, path = await self._learn(request)
        except Exception as error:
            self._record(request, started, error=error)
            raise
        self._memory.drop((request.model,))
        elapsed = self._record(request, started, base_model=facts.base_model, classes=len(facts.labels))
        return ClassifierFitted(
            model=request.model,
            base_model=facts.base_model,
            samples_fitted=facts.samples_fitted,
            num_classes=len(facts.labels),
            labels=facts.labels,
            training_time_ms=elapsed,
            saved_path=shown(path, 1),
        )

    def _record(self, request: ClassifierFit, started: float, error: Exception | None = None, **found: Json) -> float:
        """Write the event; the milliseconds since `started`."""
        seconds = time.perf_counter() - started
        elapsed = round(seconds * 1000, 2)
        found |= {"model": request.model, "samples": len(request.training_data), "training_time_ms": elapsed}
        self._host.record("classifier_fit", error=error, seconds=seconds, **found)
        return elapsed

    async def _learn(self, request: ClassifierFit) -> tuple[Facts, Path]:
        texts, places, labels = prepared(request.training_data, self._settings)
        base = await chosen(self._host, request.base_model, self._settings.base_model)
        vectors = await base.embed(texts)
        facts = Facts(
            base_model=base.name,
            space=base.fingerprint,
            labels=labels,
            samples_fitted=len(request.training_data),
            num_iterations=request.num_iterations,
            batch_size=request.batch_size,
        )
        graph = await asyncio.to_thread(self._graph, vectors, places, request)
        return facts, await asyncio.to_thread(self._files.write, (request.model,), graph, msgspec.to_builtins(facts))

    def _graph(self, vectors: object, places: Sequence[int], request: ClassifierFit) -> bytes:
        import numpy as np  # noqa: PLC0415  heavy: on first use
        from threadpoolctl import threadpool_limits  # noqa: PLC0415  as above

        options = Options(
            num_iterations=request.num_iterations,
            batch_size=request.batch_size,
            stopped=self._host.stopping.is_set,
        )
        with threadpool_limits(self._settings.threads):
            return head_graph(learn(np.asarray(vectors), np.array(places), options))

    async def _run(self, request: ClassifierFit) -> ClassifierFitted:
        check_name(request.model, "model")
        try:
            prepared(request.training_data, self._settings)  # what is refused does not wait for its turn
        except PaddockError as error:
            self._record(request, time.perf_counter(), error=error)
            raise
        return await self._fits.run(request)

    @hookimpl
    async def classifier_fit(self, data: ClassifierFit) -> ClassifierFitted:
        """See the contract."""
        return await self._run(data)

    @hookimpl
    async def ml_classifier_fit(self, data: ClassifierFitVersioned) -> ClassifierFittedVersioned:
        """See the contract."""
        name = await self._fits.name_for(data.model, self._files, overwrite=data.overwrite)
        fields = {field: getattr(data, field) for field in ClassifierFit.__struct_fields__}
        done = await self._run(ClassifierFit(**{**fields, "model": name}))
        return ClassifierFittedVersioned(
            **msgspec.structs.asdict(done), base_name=data.model, versioned_name=name, overwrite=data.overwrite
        )

    # -- finding

    def _read(self, key: Key) -> Loaded:
        saved, graph = self._files.read(key)
        facts = facts_of(key, saved.facts)
        return Loaded(facts, Scorer(key[0], graph, len(facts.labels), self._settings.threads))

    async def _key(self, caller: Caller, name: str, *, latest: bool) -> Key:
        """The saved model that is meant. Raises BadName, Forbidden, ModelNotFound."""
        check_name(name, "model")
        keys = await asyncio.to_thread(self._files.find, name, latest=latest)
        found = keys[0][0] if keys else name
        if not caller.may_use(found):
            raise Forbidden(f"the key may not use the model {found}")
        if keys:
            return keys[0]
        names = [key[0] for key in await asyncio.to_thread(self._files.keys)]
        raise ModelNotFound(not_there("classifier", name, [one for one in names if caller.may_use(one)]))

    # -- classifying

    async def _predict(self, ctx: Context, data: ClassifierPredict, *, latest: bool) -> ClassifiedList:
        key = await self._key(ctx.caller, data.model, latest=latest)
        limit_texts(data.texts, "texts", self._settings)
        model = await self._memory.get(key)
        limit_scores(len(data.texts), len(model.facts.labels), self._settings)
        base = self._base(key, model)
        vectors = await base.embed(data.texts)
        scores = await asyncio.to_thread(model.scorer.scores, vectors) if data.texts else ()
        rows = [
            classified(text, model.facts.labels, row.tolist()) for text, row in zip(data.texts, scores, strict=True)
        ]
        return ClassifiedList(data=rows, total_count=len(rows), model=key[0])

    def _base(self, key: Key, model: Loaded) -> BaseModel:
        base = named(self._host, model.facts.base_model)
        if base.fingerprint != model.facts.space:
            raise Conflict(
                f"the base model {base.name} of {key[0]} makes other vectors now than at its fit: fit the model again"
            )
        return base

    @hookimpl
    async def classifier_predict(self, ctx: Context, data: ClassifierPredict) -> ClassifiedList:
        """See the contract."""
        return await self._predict(ctx, data, latest=False)

    @hookimpl
    async def ml_classifier_predict(self, ctx: Context, data: ClassifierPredict) -> ClassifiedList:
        """See the contract."""
        return await self._predict(ctx, data, latest=True)

    # -- keeping

    async def _save(self, ctx: Context, data: ClassifierSave, *, latest: bool) -> ClassifierSaved:
        key = await self._key(ctx.caller, data.model, latest=latest)
        saved = await asyncio.to_thread(self._files.describe, key, data.description)
        labels = facts_of(key, saved.facts).labels
        return ClassifierSaved(
            model=key[0],
            path=shown(self._files.path(key), 1),
            description=saved.description,
            labels=labels,
            num_classes=len(labels),
        )

    async def _load(self, ctx: Context, data: ClassifierModel, *, latest: bool) -> ClassifierLoaded:
        key = await self._key(ctx.caller, data.model, latest=latest)
        labels = (await self._memory.get(key)).facts.labels
        return ClassifierLoaded(
            model=key[0], path=shown(self._files.path(key), 1), labels=labels, num_classes=len(labels)
        )

    async def _models(self, ctx: Context) -> ClassifierList:
        found = await asyncio.to_thread(self._files.all)
        items = [item(one) for one in found if ctx.caller.may_use(one.key[0])]
        fitting = [one for one in self._fits.under_way() if ctx.caller.may_use(one.model)]
        return ClassifierList(data=items, models_dir=shown(self._files.root, 0), total=len(items), fitting=fitting)

    async def _delete(self, params: ClassifierPath) -> ClassifierDeleted:
        key = (check_name(params.model_name, "model"),)
        try:
            await asyncio.to_thread(self._files.delete, key)
        except ModelNotFound as error:
            names = [one[0] for one in await asyncio.to_thread(self._files.keys)]
            raise ModelNotFound(not_there("classifier", key[0], names)) from error
        self._memory.drop(key)
        return ClassifierDeleted(model=key[0], path=shown(self._files.path(key), 1))

    @hookimpl
    async def classifier_save(self, ctx: Context, data: ClassifierSave) -> ClassifierSaved:
        """See the contract."""
        return await self._save(ctx, data, latest=False)

    @hookimpl
    async def ml_classifier_save(self, ctx: Context, data: ClassifierSave) -> ClassifierSaved:
        """See the contract."""
        return await self._save(ctx, data, latest=True)

    @hookimpl
    async def classifier_load(self, ctx: Context, data: ClassifierModel) -> ClassifierLoaded:
        """See the contract."""
        return await self._load(ctx, data, latest=False)

    @hookimpl
    async def ml_classifier_load(self, ctx: Context, data: ClassifierModel) -> ClassifierLoaded:
        """See the contract."""
        return await self._load(ctx, data, latest=True)

    @hookimpl
    async def classifier_models(self, ctx: Context) -> ClassifierList:
        """See the contract."""
        return await self._models(ctx)

    @hookimpl
    async def ml_classifier_models(self, ctx: Context) -> ClassifierList:
        """See the contract."""
        return await self._models(ctx)

    @hookimpl
    async def classifier_delete(self, params: ClassifierPath) -> ClassifierDeleted:
        """See the contract."""
        return await self._delete(params)

    @hookimpl
    async def ml_classifier_delete(self, params: ClassifierPath) -> ClassifierDeleted:
        """See the contract."""
        return await self._delete(params)


def facts_of(key: Key, facts: dict[str, Json]) -> Facts:
    """The facts of a saved model. Raises Damaged."""
    try:
        return msgspec.convert(facts, Facts)
    except msgspec.ValidationError as error:
        raise Damaged(f"the saved model {key[0]} is damaged: delete it and fit it again") from error


def classified(text: str, labels: Sequence[str], scores: Sequence[float]) -> Classified:
    """A text with its scores; the first of equal ones wins."""
    best = max(range(len(labels)), key=scores.__getitem__)
    return Classified(
        text=text, label=labels[best], score=scores[best], all_scores=dict(zip(labels, scores, strict=True))
    )


def item(found: Found) -> ClassifierItem:
    """A model in the list."""
    saved, facts, error = found.saved, None, found.error
    try:
        facts = facts_of(found.key, saved.facts) if saved else None
    except Damaged as damaged:
        error = damaged.message
    return ClassifierItem(
        name=found.key[0],
        base_name=base_name(found.key[0]),
        base_model=facts.base_model if facts else None,
        path=shown(found.path, 1),
        labels=facts.labels if facts else [],
        num_classes=len(facts.labels) if facts else 0,
        size_bytes=found.size,
        created=saved.created if saved else 0.0,
        modified=saved.modified if saved else 0.0,
        is_versioned=is_version(found.key[0]),
        description=saved.description if saved else None,
        error=error,
    )


def about(request: ClassifierFit) -> Fitting:
    """A fit in the list."""
    return Fitting(model=request.model, samples=len(request.training_data))
