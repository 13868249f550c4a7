"""Text models on ONNX Runtime: embeddings, reranking, classification, entities; import without torch."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Environment, ModelImporter
from paddock_onnx.settings import OnnxSettings

__all__ = ["OnnxPlugin", "OnnxSettings", "plugin"]


class OnnxPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``onnx``."""
        return "onnx", OnnxSettings

    @hookimpl
    def paddock_model_importers(self, env: Environment) -> Sequence[ModelImporter]:
        """Type onnx."""
        from paddock_onnx.importing.importer import OnnxImporter  # noqa: PLC0415  importing a plugin is free

        return [OnnxImporter(HubCache(env.hub_cache), env.settings or OnnxSettings())]


plugin = OnnxPlugin()
