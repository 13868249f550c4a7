"""Embeddings through Ollama's /v1."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import msgspec

from paddock.builtin import openai_wire as wire
from paddock.contracts.providers import Embedder, Health, HttpClient, Progress, TextKind, TypeName, Vectors
from paddock.errors import ModelNotFound, PaddockError, UpstreamError
from paddock_ollama.chat import OllamaChat, model_error
from paddock_ollama.settings import OllamaSettings
from paddock_ollama.source import OllamaSource

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

RETRIES = 3


class OllamaEmbedderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Config of OllamaEmbedder. `base_url` null: the one in the settings. `timeout` in seconds for one batch.
    `dimension` must be what the model makes. `auto_pull`: a model that is not there is fetched first."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] = "nomic-embed-text"
    base_url: str | None = None
    dimension: Annotated[int, msgspec.Meta(ge=128, le=4096)] = 768
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=128)] = 16
    timeout: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60
    auto_pull: bool = True


class OllamaEmbedder(Embedder):
    """Type ``OllamaEmbedder``. `backoff` is the first wait before a retry, in seconds."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("OllamaEmbedder", OllamaEmbedderConfig),)

    def __init__(self, http: HttpClient, settings: OllamaSettings, *, backoff: float = 0.5) -> None:
        self._http = http
        self._settings = settings
        self._backoff = backoff
        self._pulling: dict[tuple[str, str], asyncio.Lock] = {}

    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:  # noqa: ARG002  alike for both
        """See `Embedder.embed_batch`. Passing failures are tried again three times."""
        try:
            vectors = await self._embed(texts, config)
        except ModelNotFound:
            if not config.auto_pull:
                raise
            await self._pull(config)
            vectors = await self._embed(texts, config)
        return wire.check_dimension(vectors, config.dimension, config.model)

    async def _embed(self, texts: Sequence[str], config: OllamaEmbedderConfig) -> Vectors:
        target = msgspec.structs.replace(self._settings.wire(config.base_url), timeout=config.timeout)

        async def once() -> Vectors:
            return await wire.embeddings(self._http, target, config.model, texts)

        try:
            return await wire.retried(once, RETRIES, self._backoff)
        except UpstreamError as error:
            translated: PaddockError = model_error(error, config.model)
            raise translated from error

    async def _pull(self, config: OllamaEmbedderConfig) -> None:
        """Fetch the model; whoever needs the same one meanwhile waits for this pull and finds it done."""
        target = self._settings.target(config.base_url)
        key = (target.base_url, config.model)
        lock = self._pulling.setdefault(key, asyncio.Lock())
        waited = lock.locked()
        async with lock:
            if waited:
                return
            source = OllamaSource(self._http, self._settings)
            progress = cast("AsyncGenerator[Progress, None]", source.pull(config.model, target))
            async with aclosing(progress):
                async for _ in progress:
                    pass
        self._pulling.pop(key, None)

    async def health(self) -> Health:
        """As Ollama's itself."""
        return await OllamaChat(self._http, self._settings).health()
