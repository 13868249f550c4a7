"""Text models on ONNX Runtime: embeddings, reranking, classification, entities; import without torch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Service, hookimpl
from paddock.contracts.providers import (
    Embedder,
    EntityRecogniser,
    Environment,
    Extractor,
    Host,
    ModelImporter,
    ModelServer,
    Reranker,
    TextClassifier,
)
from paddock_onnx.settings import OnnxSettings

if TYPE_CHECKING:
    from paddock_onnx.residency import Residency

__all__ = ["OnnxPlugin", "OnnxSettings", "plugin"]


class Running(Service):
    """The time in which models may be used from other threads."""

    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """See `Service.running`."""
        async with self._residency.running():
            yield


class OnnxPlugin:
    """The entry point. All providers of one application share the models in memory."""

    def __init__(self) -> None:
        self._shared: WeakKeyDictionary[Host, Residency] = WeakKeyDictionary()

    def _residency(self, env: Environment) -> Residency:
        from paddock_onnx.residency import Residency  # noqa: PLC0415  importing a plugin is free
        from paddock_onnx.trial import Trials  # noqa: PLC0415  as above

        found = self._shared.get(env.host)
        if found is None:
            settings = env.settings or OnnxSettings()
            fetch, trials = env.host.fetch_model, Trials(settings)
            found = Residency(HubCache(env.hub_cache), settings, fetch=fetch, trials=trials)
            self._shared[env.host] = found
        return found

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``onnx``."""
        return "onnx", OnnxSettings

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        """Type onnx."""
        from paddock_onnx.server import OnnxServer  # noqa: PLC0415  with the first application

        return [OnnxServer(self._residency(env))]

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        """Types UniversalEmbedder, HuggingFaceEmbedder, SentenceTransformerEmbedder."""
        from paddock_onnx.embedder import OnnxEmbedder  # noqa: PLC0415  with the first application

        return [OnnxEmbedder(self._residency(env))]

    @hookimpl
    def paddock_rerankers(self, env: Environment) -> Sequence[Reranker]:
        """Type onnx."""
        from paddock_onnx.reranker import OnnxReranker  # noqa: PLC0415  with the first application

        return [OnnxReranker(self._residency(env))]

    @hookimpl
    def paddock_text_classifiers(self, env: Environment) -> Sequence[TextClassifier]:
        """Type onnx."""
        from paddock_onnx.classification import OnnxClassifier  # noqa: PLC0415  with the first application

        return [OnnxClassifier(self._residency(env))]

    @hookimpl
    def paddock_entity_recognisers(self, env: Environment) -> Sequence[EntityRecogniser]:
        """Type onnx."""
        from paddock_onnx.entities import OnnxRecogniser  # noqa: PLC0415  with the first application

        return [OnnxRecogniser(self._residency(env))]

    @hookimpl
    def paddock_extractors(self, env: Environment) -> Sequence[Extractor]:
        """Type EntityExtractor."""
        from paddock_onnx.extractor import EntityExtractor  # noqa: PLC0415  with the first application

        return [EntityExtractor(self._residency(env))]

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        """No endpoints: it tells the extractor which loop to ask."""
        return [Running(self._residency(env))]

    @hookimpl
    def paddock_model_importers(self, env: Environment) -> Sequence[ModelImporter]:
        """Type onnx."""
        from paddock_onnx.importing.importer import OnnxImporter  # noqa: PLC0415  with the first application

        return [OnnxImporter(HubCache(env.hub_cache), env.settings or OnnxSettings())]


plugin = OnnxPlugin()
