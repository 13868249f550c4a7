"""What all strategies of the core have in common; a plugin's strategy may stand on it too.

`BaseStrategy` checks the query, runs `search` for it and for its expansions, reranks, applies the threshold and cuts. An
author writes `search` and a config struct, and gets every field of `Query` honoured.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from paddock.builtin.retrieval.expansion import expansions
from paddock.builtin.retrieval.rerank import reranked
from paddock.contracts.base import Json
from paddock.contracts.providers import Filters, Hit, Metric, Query, RetrievalStrategy, RetrievalTools, Retrieved
from paddock.contracts.providers.fusion import average, depth
from paddock.errors import FieldError, ValidationFailed

DEFAULT_K = 10
REWRITTEN = 0.5  # what an expanded query weighs beside the question itself

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1000)]
MetricName = Literal["cosine", "l2", "euclidean", "l1", "manhattan", "dot", "ip"]
_METRICS: dict[str, Metric] = {
    "cosine": "cosine", "l2": "l2", "euclidean": "l2", "l1": "l1", "manhattan": "l1", "dot": "dot", "ip": "dot"
}  # fmt: skip


class CommonConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of every strategy. `score_threshold`: hits below it are left out."""

    score_threshold: Share | None = None


class TopConfig(CommonConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`top_k`: how many hits, unless the query says it."""

    top_k: Count = DEFAULT_K


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One search, as `search` gets it: how many hits, and what the query demands. None means: as the config says.

    What is worth knowing of the way there goes into `trace`.
    """

    text: str
    k: int
    filters: Filters
    metric: Metric | None
    alpha: float | None
    expansion: bool | None
    rerank_model: str | None
    trace: dict[str, Json]


class BaseStrategy(RetrievalStrategy):
    """A strategy with one abstract method, `search`.

    Class attributes tell what a query may ask: `has_vectors` (a distance metric), `has_alpha` (the weight of vectors beside
    text), and what `search` does by itself: `expands` (the query's `expansion`) and `reranks` (its `rerank_model`).
    """

    has_vectors: ClassVar[bool] = True
    has_alpha: ClassVar[bool] = False
    expands: ClassVar[bool] = False
    reranks: ClassVar[bool] = False

    @abstractmethod
    async def search(self, ask: Ask, tools: RetrievalTools, config: Any) -> list[Hit]:
        """At most `ask.k` hits, best first, scores in [0, 1]."""

    def wanted(self, config: Any) -> int:
        """How many hits the config asks for."""
        return int(getattr(config, "top_k", DEFAULT_K))

    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        """Find. The trace holds strategy, queries (all that ran), and what the strategy adds to it."""
        errors = list(self._wrong(query))
        if errors:
            raise ValidationFailed.of(errors)
        k = query.top_k or self.wanted(config)
        reranks = query.rerank_model is not None and not self.reranks
        ask = Ask(
            text=query.text,
            k=depth(k) // 2 if reranks else k,
            filters=query.filters,
            metric=query.metric,
            alpha=query.alpha,
            expansion=query.expansion,
            rerank_model=query.rerank_model,
            trace={"strategy": self.name, "queries": [query.text]},
        )
        hits = await self._found(ask, tools, config)
        if reranks:
            hits = await reranked(tools, query.rerank_model, query.text, hits)
            ask.trace["rerank_model"] = query.rerank_model
        least = query.score_threshold if query.score_threshold is not None else config.score_threshold
        kept = [hit for hit in hits if least is None or hit.score >= least]
        if least is not None:
            ask.trace["below_threshold"] = len(hits) - len(kept)
        return Retrieved(hits=kept[:k], trace=ask.trace)

    async def _found(self, ask: Ask, tools: RetrievalTools, config: Any) -> list[Hit]:
        first = await self.search(ask, tools, config)
        if not ask.expansion or self.expands:
            return first
        more = await expansions(ask.text, first, tools, 1, ask.trace)
        note_queries(ask.trace, more)
        rest = await search_all(self, ask, more, tools, config)
        return average([first, *rest], ask.k, [1.0, *(REWRITTEN for _ in rest)])

    def _wrong(self, query: Query) -> Iterator[FieldError]:
        """What of the query can't be honoured."""
        if query.top_k is not None and query.top_k < 1:
            yield FieldError("top_k", "must be at least 1")
        for field, value in (("score_threshold", query.score_threshold), ("hybrid_alpha", query.alpha)):
            if value is not None and not 0 <= value <= 1:
                yield FieldError(field, "must be from 0 to 1")
        if query.alpha is not None and not self.has_alpha:
            yield FieldError("hybrid_alpha", f"{self.name} does not combine vectors with text; use the strategy hybrid")
        if query.metric is not None and not self.has_vectors:
            yield FieldError("distance_metric", f"{self.name} does not compare vectors; use semantic or hybrid")


async def search_all(
    strategy: BaseStrategy, ask: Ask, texts: Sequence[str], tools: RetrievalTools, config: Any
) -> list[list[Hit]]:
    """The same search for other texts, at once."""
    return await gathered(*(strategy.search(msgspec.structs.replace(ask, text=text), tools, config) for text in texts))


async def gathered(*searches: Any) -> list[Any]:
    """All results in order; the first error ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(search) for search in searches]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def note_queries(trace: dict[str, Json], queries: Sequence[str]) -> None:
    """Add queries that ran to the trace, each once."""
    trace["queries"] = list(dict.fromkeys([*trace["queries"], *queries]))


def metric_of(name: str | None) -> Metric | None:
    """A config's metric by the name that the contract uses."""
    return _METRICS[name] if name else None
