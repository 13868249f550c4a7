"""The servers of the settings behind the gateway: requests pass as they are."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from paddock.builtin.serving import WireServer
from paddock.contracts.providers import GatewayCall, Health, HttpClient, HttpReply, ModelInfo, TypeName
from paddock_openai.chat import check_key, is_openai
from paddock_openai.settings import OpenAISettings


class OpenAIServer(WireServer):
    """``openai/MODEL``: the server at ``openai.base_url``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("openai"),)

    def __init__(self, http: HttpClient, settings: OpenAISettings) -> None:
        super().__init__(http, settings.openai)

    def serve(self, call: GatewayCall) -> AbstractAsyncContextManager[HttpReply]:
        """See `ModelServer.serve`. Raises ProviderUnavailable while OpenAI has no key."""
        check_key(self.target)
        return super().serve(call)

    async def models(self) -> list[ModelInfo]:
        """What the server lists. Raises ProviderUnavailable, also while it has no key."""
        check_key(self.target)
        return await super().models()

    async def health(self) -> Health:
        """As `OpenAIChat.health`."""
        if is_openai(self.target.base_url) and not self.target.api_key:
            return Health(status="degraded", message="not configured: set openai.api_key or openai.base_url")
        return await super().health()


class LemonadeServer(WireServer):
    """``lemonade/MODEL``: the server at ``openai.lemonade_base_url``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("lemonade"),)

    def __init__(self, http: HttpClient, settings: OpenAISettings) -> None:
        super().__init__(http, settings.lemonade)
