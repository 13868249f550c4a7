"""Fields, answers and kinds of documents: Donut and LayoutLMv3 on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import hookimpl
from paddock.contracts.providers import DocumentExtractor, Environment, ModelImporter
from paddock_extraction.extractor import OnnxExtractor
from paddock_extraction.importer import DocumentModelImporter
from paddock_extraction.settings import ExtractionSettings

__all__ = ["ExtractionPlugin", "ExtractionSettings", "plugin"]


class ExtractionPlugin:
    """The entry point. No helper process starts before the first page."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``extraction``."""
        return "extraction", ExtractionSettings

    @hookimpl
    def paddock_document_extractors(self, env: Environment) -> Sequence[DocumentExtractor]:
        """Donut and LayoutLMv3 from the model cache."""
        return [OnnxExtractor(env.settings, HubCache(env.hub_cache))]

    @hookimpl
    def paddock_model_importers(self, env: Environment) -> Sequence[ModelImporter]:
        """Optimum's exports of the same."""
        return [DocumentModelImporter(env.settings, HubCache(env.hub_cache))]


plugin = ExtractionPlugin()
