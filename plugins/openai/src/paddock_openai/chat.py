"""Chat with OpenAI-compatible servers.

How reasoning is asked for (`ChatCall.think`), because no two servers agree:

- api.openai.com: ``reasoning_effort`` "medium" or "none". A model that can't do without answers 400, which is passed on.
  The token limit goes under ``max_completion_tokens``, the only name that its reasoning models take.
- others (vLLM, llama-server, LM Studio, SGLang): ``chat_template_kwargs: {"enable_thinking": …}``, which reaches the
  model's own chat template. A template that knows no such switch is not changed by it.
- Lemonade: its own field ``enable_thinking`` besides.

What the caller wrote into these fields himself wins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import lru_cache
from typing import ClassVar

from paddock.builtin import openai_wire as wire
from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ChatModel, Health, HttpClient, ModelInfo, TypeName, timed_health
from paddock.errors import BadRequest, ProviderUnavailable
from paddock.outgoing import parse_url
from paddock_openai.settings import OpenAISettings

EFFORT = "medium"


class OpenAIChat(ChatModel):
    """Type ``openai``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("openai"),)

    def __init__(self, http: HttpClient, settings: OpenAISettings) -> None:
        self._http = http
        self._target = self._own_target(settings)
        self.default_base_url = self._target.base_url

    def _own_target(self, settings: OpenAISettings) -> wire.Target:
        return settings.openai

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        """See `ChatModel.chat`. Fields of the body that this package does not know are the server's to judge."""
        wire.refuse_options(call.options, self.name)
        target = self._target.at(call.base_url, call.api_key)
        async with aclosing(wire.chat(self._http, target, self.body(call, target), stream=call.stream)) as pieces:
            async for piece in pieces:
                yield piece

    def body(self, call: ChatCall, target: wire.Target) -> dict[str, Json]:
        """The body as this server understands it."""
        if is_openai(target.base_url):
            body = wire.with_token_total(call.body, call, key="max_completion_tokens")
            return body if call.think is None else {"reasoning_effort": EFFORT if call.think else "none", **body}
        body = wire.with_token_total(call.body, call)
        return body if call.think is None else with_template_switch(body, call.think)

    async def models(self) -> list[ModelInfo]:
        """``/v1/models`` of the server in the settings. Raises ProviderUnavailable, also while it has no key."""
        check_key(self._target)
        return await wire.models(self._http, self._target, self.name)

    async def health(self) -> Health:
        """Whether the server in the settings lists its models. Without a key for OpenAI it isn't asked: degraded."""
        if is_openai(self._target.base_url) and not self._target.api_key:
            return Health(status="degraded", message="not configured: set openai.api_key or openai.base_url")
        return await timed_health(self._look)

    async def _look(self) -> str:
        found = await wire.models(self._http, self._target, self.name, timeout=1)
        return f"{self._target.where} offers {len(found)} models"


class LemonadeChat(OpenAIChat):
    """Type ``lemonade``: a Lemonade server."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("lemonade"),)

    def _own_target(self, settings: OpenAISettings) -> wire.Target:
        return settings.lemonade

    def body(self, call: ChatCall, target: wire.Target) -> dict[str, Json]:
        """As for others, and Lemonade's own switch."""
        body = super().body(call, target)
        return body if call.think is None else {"enable_thinking": call.think, **body}


def check_key(target: wire.Target) -> None:
    """Raise ProviderUnavailable when the server is OpenAI itself and there is no key for it."""
    if not target.api_key and is_openai(target.base_url):
        raise ProviderUnavailable("OpenAI has no key: set openai.api_key, or openai.base_url to a server of your own")


@lru_cache(maxsize=256)
def is_openai(base_url: str) -> bool:
    """Whether this is OpenAI itself, which takes its own names and refuses those of others."""
    host = parse_url(base_url).host
    return host == "api.openai.com" or host.endswith(".api.openai.com")


def with_template_switch(body: dict[str, Json], think: bool) -> dict[str, Json]:
    """The body with ``chat_template_kwargs.enable_thinking`` set unless the caller set it."""
    given = body.get("chat_template_kwargs") or {}
    if not isinstance(given, dict):
        raise BadRequest("chat_template_kwargs is an object")
    return {**body, "chat_template_kwargs": {"enable_thinking": think, **given}}
