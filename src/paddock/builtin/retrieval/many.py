"""Strategies that search several times: other words for the question, or several strategies at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from paddock.builtin.retrieval import nested
from paddock.builtin.retrieval.base import Ask, BaseStrategy, CommonConfig, Count, gathered, note_queries
from paddock.builtin.retrieval.expansion import expansions
from paddock.builtin.retrieval.single import SimilarityConfig, nearest
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, RetrievalTools, TypeName
from paddock.contracts.providers.fusion import average, depth, highest, reciprocal_rank, relative
from paddock.errors import FieldError, ValidationFailed

Weight = Annotated[float, Meta(ge=0, le=1e6)]
Aggregation = Literal["weighted", "max", "mean", "reciprocal_rank"]
DEPTH = 30  # hits of each query at least, so that lists have something in common


class MultiQueryConfig(SimilarityConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`num_queries` with the question itself, which comes first. `query_weights` are for weighted and reciprocal_rank;
    without them the weighted queries count 1, 1/2, 1/3 … and the ranked ones all 1."""

    num_queries: Annotated[int, Meta(ge=1, le=10)] = 3
    aggregation_method: Aggregation = "weighted"
    query_weights: list[Weight] | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the strategies of HybridUniversalStrategy."""

    type: str
    weight: Weight = 1.0
    config: dict[str, Json] = {}


class UniversalConfig(CommonConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`combination_method`: weighted_average of the scores; rank_fusion, by reciprocal ranks; score_fusion, the weighted
    average after each strategy's scores were divided by its best."""

    strategies: Annotated[list[Part], Meta(min_length=2, max_length=5)]
    combination_method: Literal["weighted_average", "rank_fusion", "score_fusion"] = "weighted_average"
    final_k: Count = 10


class MultiQueryStrategy(BaseStrategy):
    """Searches by vectors with the question and with other words for it, and puts the results together."""

    types = (TypeName("MultiQueryStrategy", MultiQueryConfig),)
    expands = True

    async def search(self, ask: Ask, tools: RetrievalTools, config: MultiQueryConfig) -> list[Hit]:
        """An `expansion` of False leaves the question alone."""
        k = max(DEPTH, 3 * ask.k)
        first = await nearest(ask, tools, config, k)
        others: list[str] = []
        if config.num_queries > 1 and ask.expansion is not False:
            others = await expansions(ask.text, first, tools, config.num_queries - 1, ask.trace)
        note_queries(ask.trace, others)
        rest = await gathered(*(nearest(msgspec.structs.replace(ask, text=text), tools, config, k) for text in others))
        ask.trace["aggregation_method"] = config.aggregation_method
        return combined([first, *rest], ask.k, config)

    def warn(self, type_name: str, config: MultiQueryConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """Weights must fit the queries, and are of no use to max and mean."""
        weights = config.query_weights
        if weights is None:
            return
        if len(weights) != config.num_queries or not sum(weights[:1]):
            reason = f"give {config.num_queries} weights (num_queries), the first above 0"
            raise ValidationFailed.of([FieldError("query_weights", reason)])
        if config.aggregation_method in {"max", "mean"}:
            yield f"query_weights: without effect while aggregation_method is {config.aggregation_method}"


def combined(lists: Sequence[Sequence[Hit]], k: int, config: MultiQueryConfig) -> list[Hit]:
    """The results of the queries, by the config's method."""
    weights = None if config.query_weights is None else config.query_weights[: len(lists)]
    match config.aggregation_method:
        case "max":
            return highest(lists, k)
        case "mean":
            return average(lists, k)
        case "reciprocal_rank":
            return reciprocal_rank(lists, k, weights)
        case _:
            return average(lists, k, weights or [1 / (at + 1) for at in range(len(lists))])


class HybridUniversalStrategy(BaseStrategy):
    """Two to five strategies at once, put together. A field of the query that none of them can use is refused."""

    types = (TypeName("HybridUniversalStrategy", UniversalConfig),)
    has_alpha = True

    def __init__(self, known: nested.Known) -> None:
        self._known = known

    def wanted(self, config: UniversalConfig) -> int:
        """`final_k`."""
        return config.final_k

    async def search(self, ask: Ask, tools: RetrievalTools, config: UniversalConfig) -> list[Hit]:
        """Each strategy gives `depth` hits, unless its own config says how many."""
        found = await gathered(
            *(
                nested.run(ask, tools, part.type, part.config, nested.count_of(part.config, depth(ask.k)))
                for part in config.strategies
            )
        )
        nested.refuse_unused(set.intersection(*(unused for _, unused in found)), "every one of the strategies")
        lists, weights = [hits for hits, _ in found], [part.weight for part in config.strategies]
        ask.trace.update(
            combination_method=config.combination_method,
            strategies=[
                {"type": part.type, "weight": part.weight, "hits": len(hits)}
                for part, hits in zip(config.strategies, lists, strict=True)
            ],
        )
        combine = {"weighted_average": average, "score_fusion": relative, "rank_fusion": reciprocal_rank}
        return combine[config.combination_method](lists, ask.k, weights)

    def warn(self, type_name: str, config: UniversalConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """Inner configs are checked here, with their path."""
        if not any(part.weight for part in config.strategies):
            raise ValidationFailed.of([FieldError("strategies", "one weight at least must be above 0")])
        for at, part in enumerate(config.strategies):
            yield from nested.check(self._known, f"strategies[{at}]", part.type, part.config)
