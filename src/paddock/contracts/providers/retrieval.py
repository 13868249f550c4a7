"""Retrieval strategies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers.base import Provider
from paddock.contracts.providers.hits import Hit
from paddock.contracts.providers.store import Filters, Metric, VectorStore
from paddock.contracts.providers.vectors import Vectors


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked. None means: as the strategy's config says."""

    text: str
    top_k: int | None = None
    score_threshold: float | None = None
    filters: Filters = {}
    metric: Metric | None = None
    alpha: float | None = None
    rerank_model: str | None = None
    expansion: bool | None = None


class Retrieved(msgspec.Struct, kw_only=True):
    """What came back, best first, and what really ran: queries, steps, weights (for people and tests)."""

    hits: list[Hit]
    trace: dict[str, Json] = {}


class RetrievalTools(Protocol):
    """What a strategy may use; bound to one project database."""

    store: VectorStore

    async def embed(self, text: str) -> Vectors:
        """The query's vector, shape (dimension,)."""

    async def rerank(self, model: str | None, query: str, documents: Sequence[str]) -> list[float]:
        """Scores in [0, 1]. `model` is a name of the project's models or a reranker's model. ProviderUnavailable while no
        plugin provides a reranker."""

    def can_ask(self, model: str | None) -> bool:
        """Whether `ask` with this model would write an answer; False when the model is extractive. ModelNotFound."""

    async def ask(self, model: str | None, prompt: str) -> str | None:
        """One short answer of a chat model (a name of the project's models; None: its default). None when the model is
        extractive, which can't rewrite."""

    async def run(self, type_name: str, config: Mapping[str, Json], query: Query) -> Retrieved:
        """Run another strategy, to compose. UnknownType, ValidationFailed."""


class RetrievalStrategy(Provider):
    """A way to find chunks."""

    @abstractmethod
    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        """Find. Honours every field of the query that is not None, or raises ValidationFailed naming it."""
