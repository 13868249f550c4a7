"""Embeddings of OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from paddock.builtin import openai_wire as wire
from paddock.contracts.providers import Embedder, Health, HttpClient, TextKind, TypeName, Vectors
from paddock_openai.chat import OpenAIChat
from paddock_openai.settings import OpenAISettings

KNOWN_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
SHORTENED = "text-embedding-3"  # the models that can make shorter vectors


class OpenAIEmbedderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Config of OpenAIEmbedder. `base_url` null: the one in the settings, with its key. `timeout` in seconds for one
    batch. `dimension`: shortens the vectors of text-embedding-3 models; for others it must be what the model makes."""

    model: Annotated[str, msgspec.Meta(min_length=1)] = "text-embedding-3-small"
    api_key: str | None = None
    base_url: str | None = None
    organization: str | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=2048)] = 100
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 3
    timeout: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 60
    dimension: Annotated[int, msgspec.Meta(ge=1, le=16384)] | None = None


class OpenAIEmbedder(Embedder):
    """Type ``OpenAIEmbedder``. `backoff` is the first wait before a retry, in seconds."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("OpenAIEmbedder", OpenAIEmbedderConfig),)

    def __init__(self, http: HttpClient, settings: OpenAISettings, *, backoff: float = 0.5) -> None:
        self._http = http
        self._settings = settings
        self._backoff = backoff

    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:  # noqa: ARG002  alike for both
        """See `Embedder.embed_batch`. Passing failures are tried again up to `max_retries` times."""
        own = msgspec.structs.replace(self._settings.openai, timeout=config.timeout, first_byte_timeout=None)
        target = own.at(config.base_url, config.api_key, config.organization)
        shorten = config.dimension if config.model.startswith(SHORTENED) else None

        async def once() -> Vectors:
            return await wire.embeddings(self._http, target, config.model, texts, send_dimensions=shorten)

        vectors = await wire.retried(once, config.max_retries, self._backoff)
        return wire.check_dimension(vectors, config.dimension, config.model)

    def dimension(self, config: Any) -> int | None:
        """As configured, or as known of OpenAI's own models."""
        return config.dimension or KNOWN_DIMENSIONS.get(config.model)

    async def health(self) -> Health:
        """As the server's in the settings."""
        return await OpenAIChat(self._http, self._settings).health()
