"""The retrieval strategies of the core."""

from __future__ import annotations

from paddock.builtin.retrieval.base import Ask, BaseStrategy, CommonConfig, TopConfig
from paddock.builtin.retrieval.many import HybridUniversalStrategy, MultiQueryStrategy
from paddock.builtin.retrieval.multiturn import MultiTurnRAGStrategy
from paddock.builtin.retrieval.ordered import CrossEncoderRerankedStrategy, RerankedStrategy
from paddock.builtin.retrieval.single import (
    BasicSimilarityStrategy,
    BM25Retriever,
    HybridRetriever,
    MetadataFilteredStrategy,
    MMRStrategy,
)
from paddock.contracts.providers import RetrievalStrategy

__all__ = ["Ask", "BaseStrategy", "CommonConfig", "TopConfig", "builtin_strategies"]


def builtin_strategies() -> list[RetrievalStrategy]:
    """One of each; those that hold other strategies know all of them, to check their configs."""
    known: dict[str, RetrievalStrategy] = {}
    strategies: list[RetrievalStrategy] = [
        HybridRetriever(),
        BasicSimilarityStrategy(),
        BM25Retriever(),
        MetadataFilteredStrategy(),
        MultiQueryStrategy(),
        RerankedStrategy(),
        HybridUniversalStrategy(known),
        CrossEncoderRerankedStrategy(known),
        MultiTurnRAGStrategy(known),
        MMRStrategy(),
    ]
    known.update((declared.name, strategy) for strategy in strategies for declared in strategy.types)
    return strategies
