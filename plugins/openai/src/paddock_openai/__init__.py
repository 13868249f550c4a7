"""Any OpenAI-compatible server as a provider of chat and embeddings: vLLM, LM Studio, llama-server, Lemonade, OpenAI."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ChatModel, Embedder, Environment, ModelServer
from paddock_openai.chat import LemonadeChat, OpenAIChat
from paddock_openai.embedder import OpenAIEmbedder
from paddock_openai.server import LemonadeServer, OpenAIServer
from paddock_openai.settings import OpenAISettings

__all__ = [
    "LemonadeChat",
    "LemonadeServer",
    "OpenAIChat",
    "OpenAIEmbedder",
    "OpenAIPlugin",
    "OpenAIServer",
    "OpenAISettings",
    "plugin",
]


class OpenAIPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``openai``."""
        return "openai", OpenAISettings

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        """Types openai and lemonade."""
        return [OpenAIChat(env.http, env.settings), LemonadeChat(env.http, env.settings)]

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        """openai and lemonade."""
        return [OpenAIServer(env.http, env.settings), LemonadeServer(env.http, env.settings)]

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        """Type OpenAIEmbedder."""
        return [OpenAIEmbedder(env.http, env.settings)]


plugin = OpenAIPlugin()
