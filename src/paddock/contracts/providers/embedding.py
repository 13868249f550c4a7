"""Embedders and rerankers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

from paddock.contracts.providers.base import Provider
from paddock.contracts.providers.vectors import Vectors
from paddock.errors import ProviderUnavailable

TextKind = Literal["document", "query"]


class Embedder(Provider):
    """Texts to vectors. Callers use `embed`, which batches and checks; authors write `embed_batch`."""

    batch_size: int = 64

    @abstractmethod
    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        """One batch, in order. Raises ProviderUnavailable, UpstreamError, UpstreamTimeout, ModelNotFound."""

    async def embed(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        """All texts, in batches; shape (len(texts), dimension). NaN, infinity and ragged replies are refused."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        size = max(1, getattr(config, "batch_size", None) or self.batch_size)
        parts = [await self.embed_batch(texts[at : at + size], config, kind) for at in range(0, len(texts), size)]
        if not parts:
            return np.empty((0, self.dimension(config) or 0), dtype=np.float32)
        vectors = np.ascontiguousarray(np.concatenate(parts), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ProviderUnavailable(f"{self.name} returned {vectors.shape} for {len(texts)} texts: check the model")
        if not bool(np.isfinite(vectors).all()):
            raise ProviderUnavailable(f"{self.name} returned NaN or infinity: check the model")
        return vectors

    def dimension(self, config: Any) -> int | None:
        """Length of a vector if the config tells it, else None (then the first reply decides)."""
        return getattr(config, "dimension", None)

    def fingerprint(self, config: Any) -> str:
        """Names the embedding space: two configs with the same fingerprint give comparable vectors."""
        model = getattr(config, "model", None) or getattr(config, "model_name", "")
        return f"{self.name}:{model}:{self.dimension(config) or ''}"


class Reranker(Provider):
    """Orders texts by relevance to a query (cross-encoders)."""

    @abstractmethod
    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        """One score in [0, 1] for each document, in order. Raises ModelNotFound, ProviderUnavailable."""
