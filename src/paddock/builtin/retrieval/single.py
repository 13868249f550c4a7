"""Strategies that search once: by vectors, by words, by both, with filters, and for variety."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.builtin.retrieval.base import Ask, BaseStrategy, Count, MetricName, Share, TopConfig, gathered, metric_of
from paddock.builtin.retrieval.filters import both, matches
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, Metric, RetrievalTools, TypeName, Vectors
from paddock.contracts.providers.fusion import DEFAULT_ALPHA, depth, fuse


class SimilarityConfig(TopConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`distance_metric` None: the database's own, which is the fast one."""

    distance_metric: MetricName | None = None


class HybridConfig(SimilarityConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`hybrid_alpha`: the weight of the vectors; 1 is vectors alone, 0 words alone."""

    hybrid_alpha: Share = DEFAULT_ALPHA


class FilteredConfig(SimilarityConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`filters` hold besides the query's. `filter_mode` pre: the search sees only what passes; post: `fallback_multiplier`
    times as many hits are fetched and filtered then, so fewer than asked for may remain."""

    filters: dict[str, Json] = msgspec.field(default_factory=dict)
    filter_mode: Literal["pre", "post"] = "pre"
    fallback_multiplier: Annotated[int, Meta(ge=1, le=10)] = 3


class VarietyConfig(SimilarityConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`lambda_mult`: the weight of relevance; the rest is for being unlike the hits before. Chosen from `initial_k`."""

    lambda_mult: Share = 0.7
    initial_k: Count = 30


class BasicSimilarityStrategy(BaseStrategy):
    """The chunks whose vectors are nearest to the query's."""

    types = (
        TypeName("BasicSimilarityStrategy", SimilarityConfig),
        TypeName("VectorRetriever", SimilarityConfig),
        TypeName("semantic", SimilarityConfig),
    )

    async def search(self, ask: Ask, tools: RetrievalTools, config: SimilarityConfig) -> list[Hit]:
        """By vectors."""
        return await nearest(ask, tools, config, ask.k)


class BM25Retriever(BaseStrategy):
    """The chunks that hold the query's words, ranked by BM25. Embeds nothing."""

    types = (TypeName("BM25Retriever", TopConfig), TypeName("bm25", TopConfig))
    has_vectors = False

    async def search(self, ask: Ask, tools: RetrievalTools, config: TopConfig) -> list[Hit]:  # noqa: ARG002  no options
        """By words."""
        return await tools.store.search_text(ask.text, ask.k, ask.filters)


class HybridRetriever(BaseStrategy):
    """Vectors and words together, see `paddock.contracts.providers.fusion.fuse`."""

    types = (TypeName("HybridRetriever", HybridConfig), TypeName("hybrid", HybridConfig))
    has_alpha = True

    async def search(self, ask: Ask, tools: RetrievalTools, config: HybridConfig) -> list[Hit]:
        """By both; the store's own way, unless another metric is asked for."""
        alpha = config.hybrid_alpha if ask.alpha is None else ask.alpha
        ask.trace["hybrid_alpha"] = alpha
        metric = used_metric(ask, config)
        if alpha == 0:
            return await tools.store.search_text(ask.text, ask.k, ask.filters)
        vector = await tools.embed(ask.text)
        if metric is None:
            return await tools.store.search_hybrid(ask.text, vector, ask.k, alpha, ask.filters)
        near, said = await gathered(
            tools.store.search_vectors(vector, depth(ask.k), ask.filters, metric),
            tools.store.search_text(ask.text, depth(ask.k), ask.filters),
        )
        return fuse(near, said, alpha, ask.k)


class MetadataFilteredStrategy(BaseStrategy):
    """The nearest chunks among those whose metadata passes the config's filters and the query's."""

    types = (TypeName("MetadataFilteredStrategy", FilteredConfig),)

    async def search(self, ask: Ask, tools: RetrievalTools, config: FilteredConfig) -> list[Hit]:
        """Filter first, or afterwards."""
        filters = both(config.filters, ask.filters)
        ask.trace.update(filters=filters, filter_mode=config.filter_mode)
        if config.filter_mode == "pre":
            return await nearest(msgspec.structs.replace(ask, filters=filters), tools, config, ask.k)
        everything = msgspec.structs.replace(ask, filters={})
        found = await nearest(everything, tools, config, ask.k * config.fallback_multiplier)
        kept = [hit for hit in found if matches(hit, filters)]
        ask.trace.update(fetched=len(found), passed=len(kept))
        return kept[: ask.k]

    def warn(self, type_name: str, config: FilteredConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """A multiplier without post filtering multiplies nothing."""
        if config.filter_mode == "pre" and config.fallback_multiplier != 3:
            yield "fallback_multiplier: without effect while filter_mode is pre"


class MMRStrategy(BaseStrategy):
    """The nearest chunks, one after another, each unlike those before it (maximal marginal relevance).

    Likeness is the cosine of the texts' hashing vectors. The score is ``lambda * relevance + (1 - lambda) * (1 - likeness
    to the nearest before)``, which never grows along the list.
    """

    types = (TypeName("MMRStrategy", VarietyConfig), TypeName("mmr", VarietyConfig))

    def __init__(self) -> None:
        self._hashing = HashingEmbedder()

    async def search(self, ask: Ask, tools: RetrievalTools, config: VarietyConfig) -> list[Hit]:
        """Fetch, then choose."""
        found = await nearest(ask, tools, config, max(ask.k, config.initial_k))
        vectors = await self._hashing.embed([hit.content for hit in found], HashingConfig(), "document")
        return varied(found, vectors, config.lambda_mult, ask.k)


def varied(hits: list[Hit], vectors: Vectors, weight: float, k: int) -> list[Hit]:
    """Choose k by maximal marginal relevance; `weight` is relevance's."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    relevance = np.array([hit.score for hit in hits])
    likeness = np.zeros(len(hits))
    left = set(range(len(hits)))
    chosen: list[Hit] = []
    while left and len(chosen) < k:
        values = weight * relevance + (1 - weight) * (1 - likeness)
        best = max(left, key=lambda at: (values[at], -at))
        chosen.append(msgspec.structs.replace(hits[best], score=float(min(1.0, max(0.0, values[best])))))
        left.remove(best)
        likeness = np.clip(np.maximum(likeness, vectors @ vectors[best]), 0.0, 1.0)
    return chosen


def used_metric(ask: Ask, config: SimilarityConfig) -> Metric | None:
    """The query's metric, else the config's, else None: the database's own."""
    return ask.metric or metric_of(config.distance_metric)


async def nearest(ask: Ask, tools: RetrievalTools, config: SimilarityConfig, k: int) -> list[Hit]:
    """The k nearest to the query's vector."""
    metric = used_metric(ask, config)
    if metric:
        ask.trace["distance_metric"] = metric
    return await tools.store.search_vectors(await tools.embed(ask.text), k, ask.filters, metric)


__all__ = [
    "BM25Retriever",
    "BasicSimilarityStrategy",
    "FilteredConfig",
    "HybridConfig",
    "HybridRetriever",
    "MMRStrategy",
    "MetadataFilteredStrategy",
    "SimilarityConfig",
    "VarietyConfig",
]
