"""Text models as a model server: ``/v1/embeddings`` and ``/v1/rerank``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import ClassVar

from paddock.builtin.hub_cache import CachedModel
from paddock.builtin.model_names import parse_model
from paddock.builtin.serving import MadeReply
from paddock.contracts.providers import (
    GatewayCall,
    Health,
    HttpReply,
    ModelInfo,
    ModelServer,
    Operation,
    Sample,
    TypeName,
)
from paddock.errors import BadName, PaddockError, ValidationFailed
from paddock_onnx.bodies import (
    EmbeddingRequest,
    RerankRequest,
    decoded,
    embedding_reply,
    refuses,
    rerank_reply,
)
from paddock_onnx.cache import can_run, pick_graph, repo_of
from paddock_onnx.embeddings import Wanted, embed, prompt_for
from paddock_onnx.facts import elsewhere, read_facts
from paddock_onnx.reranking import score
from paddock_onnx.residency import Residency


class OnnxServer(ModelServer):
    """Type ``onnx``: the embedding models and rerankers of the model cache."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("onnx"),)
    operations = frozenset({"embeddings", "rerank"})
    local = True

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._kinds: dict[str, str | None] = {}  # what each snapshot's model does

    @asynccontextmanager
    async def serve(self, call: GatewayCall) -> AsyncIterator[HttpReply]:
        """See `ModelServer.serve`."""
        if call.operation == "rerank":
            yield MadeReply(await self._rerank(call))
        else:
            yield MadeReply(await self._embed(call))

    async def _embed(self, call: GatewayCall) -> bytes:
        request = decoded(call.body, EmbeddingRequest)
        texts, refuse = request.texts, refuses(request.truncate)
        async with self._residency.using(call.model) as model:
            prompt = prompt_for(model.facts, request.kind)
            wanted = Wanted(prompt=prompt, dimension=request.dimensions, normalize=True, refuse=refuse)
            found = await embed(model, texts, wanted)
            return await model.aside(lambda: embedding_reply(request, found))

    async def _rerank(self, call: GatewayCall) -> bytes:
        request = decoded(call.body, RerankRequest)
        texts = request.texts
        refuse = refuses(request.truncate if request.truncation is None else request.truncation)
        count = request.count
        assert count >= 0
        async with self._residency.using(call.model) as model:
            most = request.max_tokens_per_doc
            found = await score(model, request.query, texts, refuse=refuse, most=most)
            return await model.aside(lambda: rerank_reply(request, texts, found))

    async def models(self) -> list[ModelInfo]:
        """The models of the cache that can be run here, and whether they are loaded."""
        return await asyncio.to_thread(self._models, {one.id for one in self._residency.loaded()})

    def _models(self, loaded: set[str]) -> list[ModelInfo]:
        found = []
        for cached in self._residency.cache.models():
            kind = self._kind(cached)
            if kind is not None:
                state = "loaded" if cached.repo in loaded else "unloaded"
                details = {**cached.details(), "type": kind, "loaded": cached.repo in loaded, "status": state}
                made = int(cached.modified)
                found.append(
                    ModelInfo(id=cached.repo, owned_by="onnx", created=made, size=cached.size, details=details)
                )
        return found

    def _kind(self, cached: CachedModel) -> str | None:
        """What a cached model does; None when it can't be run here."""
        snapshot = self._residency.cache.snapshot(cached.repo)
        if snapshot is None:
            return None
        key = f"{snapshot} {cached.modified}"
        if key not in self._kinds:
            if len(self._kinds) > 1000:
                self._kinds.clear()
            self._kinds[key] = None
            names = self._residency.cache.files(snapshot)
            try:
                facts = read_facts(snapshot)
            except ValidationFailed:
                if pick_graph(list(names)) is not None:
                    self._kinds[key] = "unknown"  # whoever asks for it is told what is wrong
            else:
                if can_run(names, facts) and elsewhere(snapshot) is None:
                    self._kinds[key] = facts.task
        return self._kinds[key]

    def claims(self, model: str) -> str | None:
        """A short name of sentence-transformers whose model is in the cache. One look at a folder's name, and only for names
        that are such short ones, is no I/O that anybody would notice."""
        if "/" in model:
            return None
        try:
            full = parse_model(model).completed().repo
        except BadName:
            return None
        if full == model or not os.path.isdir(self._residency.cache.folder(full)):  # noqa: PTH112  as cheap as can be
            return None
        return full

    def fetches(self, model: str, operation: Operation) -> bool:
        """A repository, or a short name of sentence-transformers; none of GGUF files."""
        try:
            name = parse_model(model).completed()
        except BadName:
            return False
        fits = "/" in name.repo and not name.quantization and "gguf" not in model.lower()
        return fits and operation in self.operations

    def loaded(self) -> list[str]:
        """The ids of the models in memory."""
        return [one.id for one in self._residency.loaded()]

    async def unload(self, model: str | None) -> list[str]:
        """Unload one model, by any of its names, or all."""
        if model is None:
            return self._residency.unload()
        try:
            return self._residency.unload(await asyncio.to_thread(repo_of, self._residency.cache, model))
        except BadName:  # nobody's, or that of a GGUF file
            return []

    def metrics(self) -> Iterable[Sample]:
        """The bytes of each model in memory."""
        text = "Bytes of the ONNX models in memory."
        return [
            Sample(name="onnx_model_bytes", help=text, value=float(one.size), labels={"model": one.id})
            for one in self._residency.loaded()
        ]

    async def health(self) -> Health:
        """What is loaded, and whether the cache can be read."""
        try:
            count = len(await self.models())
        except (PaddockError, OSError) as error:
            return Health(status="unhealthy", message=f"the model cache can't be read: {type(error).__name__}")
        return Health(message=f"{count} models, {len(self.loaded())} of them loaded", details={"loaded": self.loaded()})

    async def close(self) -> None:
        """Unload all."""
        await self._residency.close()
