"""Chat through Ollama's /v1.

Reasoning (`ChatCall.think`) goes into ``reasoning_effort``: "medium" or "none", the only switch that Ollama's /v1 knows
(``think`` and ``chat_template_kwargs`` have no effect there). Ollama takes the token limit as ``max_tokens`` only. What it
would silently ignore is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import ClassVar

from paddock.builtin import openai_wire as wire
from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ChatModel, Health, HttpClient, ModelInfo, TypeName, timed_health
from paddock.errors import BadRequest, ModelNotFound, PaddockError, UpstreamError
from paddock_ollama.settings import OllamaSettings

EFFORT = "medium"
_CONTEXT = (
    "Ollama's /v1 takes no context size in a request: set OLLAMA_CONTEXT_LENGTH where Ollama runs, or create a model "
    "with PARAMETER num_ctx"
)
_LOADING = "Ollama's /v1 takes no loading options in a request: create a model with a PARAMETER line instead"
# Fields that Ollama's /v1 drops without a word.
IGNORED = {
    "n_ctx": _CONTEXT,
    "num_ctx": _CONTEXT,
    "options": _CONTEXT,
    **dict.fromkeys(
        (
            "n_batch", "n_gpu_layers", "n_threads", "flash_attn", "use_mmap", "use_mlock", "cache_type_k", "cache_type_v",
        ),
        _LOADING,
    ),
    "logit_bias": "Ollama has no logit_bias",
}  # fmt: skip


class OllamaChat(ChatModel):
    """Type ``ollama``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("ollama"),)

    def __init__(self, http: HttpClient, settings: OllamaSettings) -> None:
        self._http = http
        self._settings = settings
        self.default_base_url = settings.target().base_url

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        """See `ChatModel.chat`. A model that is not there: ModelNotFound with the command that fetches it."""
        refuse_ignored({**call.body, **call.options})
        wire.refuse_options(call.options, self.name)
        target = self._settings.wire(call.base_url, call.api_key)
        body = wire.with_token_total(call.body, call, key="max_tokens")
        if call.think is not None:
            body = {"reasoning_effort": EFFORT if call.think else "none", **body}
        async with aclosing(wire.chat(self._http, target, body, stream=call.stream)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except UpstreamError as error:
                raise model_error(error, call.body.get("model")) from error

    async def models(self) -> list[ModelInfo]:
        """The models that are pulled. Raises ProviderUnavailable."""
        return await wire.models(self._http, self._settings.wire(), self.name)

    async def health(self) -> Health:
        """Whether Ollama answers."""
        return await timed_health(self._look)

    async def _look(self) -> str:
        target = self._settings.wire()
        found = await wire.models(self._http, target, self.name, timeout=1)
        return f"Ollama at {target.where} has {len(found)} models"


def refuse_ignored(fields: dict[str, Json]) -> None:
    """Raise BadRequest for a field that Ollama would drop silently."""
    for name, reason in IGNORED.items():
        if fields.get(name) is not None:
            raise BadRequest(f"{name}: {reason}")
    if fields.get("n") not in (None, 1):
        raise BadRequest("n: Ollama makes one choice; leave n out or ask several times")


def model_error(error: UpstreamError, model: object) -> PaddockError:
    """Ollama's 404 is a model that is not there: tell the command. Anything else stays as it is."""
    if error.upstream_status != 404 or "model" not in error.message.lower():
        return error
    shown = str(model)[:128].encode("ascii", "backslashreplace").decode()
    return ModelNotFound(f"Ollama has no model {shown!r}: fetch it with `ollama pull {shown}`")
