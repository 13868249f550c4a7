"""Ollama: catalogue, pull, show, delete, health; chat and embeddings through its /v1."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ChatModel, Embedder, Environment, ModelServer, ModelSource
from paddock_ollama.chat import OllamaChat
from paddock_ollama.embedder import OllamaEmbedder
from paddock_ollama.server import OllamaServer
from paddock_ollama.settings import OllamaSettings
from paddock_ollama.source import OllamaSource

__all__ = ["OllamaChat", "OllamaEmbedder", "OllamaPlugin", "OllamaServer", "OllamaSettings", "OllamaSource", "plugin"]


class OllamaPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``ollama``."""
        return "ollama", OllamaSettings

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        """Type ollama."""
        return [OllamaChat(env.http, env.settings)]

    @hookimpl
    def paddock_model_sources(self, env: Environment) -> Sequence[ModelSource]:
        """Type ollama."""
        return [OllamaSource(env.http, env.settings)]

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        """Type ollama."""
        return [OllamaServer(env.http, env.settings)]

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        """Type OllamaEmbedder."""
        return [OllamaEmbedder(env.http, env.settings)]


plugin = OllamaPlugin()
