"""Strategies that fetch many and order them anew: by weighted factors, or with a reranker model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from paddock.builtin.hashing import STOP_WORDS, words
from paddock.builtin.retrieval import nested
from paddock.builtin.retrieval.base import Ask, BaseStrategy, CommonConfig, Count, Share
from paddock.builtin.retrieval.rerank import RerankOptions, reranked, stretched
from paddock.builtin.retrieval.single import SimilarityConfig, nearest
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, RetrievalTools, TypeName
from paddock.errors import FieldError, ValidationFailed

Weight = Annotated[float, Meta(ge=0, le=1e6)]
FULL_LENGTH = 100  # words at which a chunk counts as long enough
DATES = ("last_modified", "modified", "modified_at", "updated", "updated_at", "date", "published", "created",
         "created_at", "creation_date", "timestamp", "ingested_at")  # fmt: skip
TITLES = (
    "title",
    "filename",
    "subject",
    "headings",
    "heading",
    "section",
    "keywords",
    "description",
    "summary",
    "author",
)


class Factors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What each factor weighs. Similarity: the first search's score. Recency: where the chunk's date lies between the
    oldest and the newest of the candidates. Length: words up to 100. Metadata: how much of the question's words stand in
    title, file name, headings and keywords. A factor that no candidate has (dates, say) is left out."""

    similarity_weight: Weight = 0.7
    recency_weight: Weight = 0.1
    length_weight: Weight = 0.1
    metadata_weight: Weight = 0.1


class RerankedConfig(SimilarityConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`initial_k` candidates by vectors, `final_k` hits. `normalize_scores` stretches the similarities of the candidates
    to the range from 0 to 1 before they are weighed."""

    initial_k: Count = 30
    final_k: Count = 10
    rerank_factors: Factors = Factors()
    normalize_scores: bool = True


class CrossEncoderConfig(CommonConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`model_name`: a name of the project's models, or a reranker's own. `initial_k` candidates of `base_strategy`;
    `final_k` hits whose score is at least `relevance_threshold`. `normalize_scores` stretches the reranker's scores to
    the range from 0 to 1 over the candidates. `timeout` in seconds; `batch_size` texts in one call (None: all)."""

    model_name: str = "reranker"
    initial_k: Count = 30
    final_k: Count = 10
    base_strategy: str = "BasicSimilarityStrategy"
    base_strategy_config: dict[str, Json] = msgspec.field(default_factory=dict)
    relevance_threshold: Share = 0.0
    timeout: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    batch_size: Annotated[int, Meta(ge=1, le=1000)] | None = None
    normalize_scores: bool = True
    max_chars_per_doc: Annotated[int, Meta(ge=1)] | None = None


class RerankedStrategy(BaseStrategy):
    """The nearest chunks, ordered by a weighted sum of factors; needs no model."""

    types = (TypeName("RerankedStrategy", RerankedConfig), TypeName("RerankedRetriever", RerankedConfig))

    def wanted(self, config: RerankedConfig) -> int:
        """`final_k`."""
        return config.final_k

    async def search(self, ask: Ask, tools: RetrievalTools, config: RerankedConfig) -> list[Hit]:
        """Fetch, weigh, cut."""
        found = await nearest(ask, tools, config, max(config.initial_k, ask.k))
        ask.trace["candidates"] = len(found)
        return weighed(ask.text, found, config)[: ask.k]

    def warn(self, type_name: str, config: RerankedConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """Weights that add up to nothing order nothing."""
        if not any(msgspec.structs.astuple(config.rerank_factors)):
            raise ValidationFailed.of([FieldError("rerank_factors", "one weight at least must be above 0")])
        if config.initial_k < config.final_k:
            yield f"initial_k: without effect, final_k ({config.final_k}) candidates are fetched"


class CrossEncoderRerankedStrategy(BaseStrategy):
    """Another strategy's hits, ordered by a reranker model. The query's `rerank_model` replaces `model_name`."""

    types = (TypeName("CrossEncoderRerankedStrategy", CrossEncoderConfig),)
    has_alpha = True
    reranks = True

    def __init__(self, known: nested.Known) -> None:
        self._known = known

    def wanted(self, config: CrossEncoderConfig) -> int:
        """`final_k`."""
        return config.final_k

    async def search(self, ask: Ask, tools: RetrievalTools, config: CrossEncoderConfig) -> list[Hit]:
        """Fetch, rerank, drop what is below `relevance_threshold`."""
        k = max(config.initial_k, ask.k)
        found = await nested.run_base(ask, tools, config.base_strategy, config.base_strategy_config, k)
        return (await ordered_by_model(ask, tools, config, found))[: ask.k]

    def warn(self, type_name: str, config: CrossEncoderConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """The inner config is checked here, with its path."""
        inner = config.base_strategy_config
        for warning in nested.check(self._known, "base_strategy", config.base_strategy, inner):
            yield warning.replace("base_strategy.config.", "base_strategy_config.")
        yield from nested.warn_counts("base_strategy_config", inner, "initial_k")
        if config.initial_k < config.final_k:
            yield f"initial_k: without effect, final_k ({config.final_k}) candidates are fetched"


async def ordered_by_model(
    ask: Ask, tools: RetrievalTools, config: CrossEncoderConfig, hits: Sequence[Hit]
) -> list[Hit]:
    """Hits in the reranker's order, those below `relevance_threshold` left out."""
    model = ask.rerank_model or config.model_name
    ask.trace.update(rerank_model=model, candidates=len(hits))
    options = RerankOptions(
        batch_size=config.batch_size,
        max_chars=config.max_chars_per_doc,
        timeout=config.timeout,
        normalize=config.normalize_scores,
    )
    found = await reranked(tools, model, ask.text, hits, options)
    return [hit for hit in found if hit.score >= config.relevance_threshold]


def weighed(question: str, hits: Sequence[Hit], config: RerankedConfig) -> list[Hit]:
    """Hits by the weighted mean of their factors."""
    weights = config.rerank_factors
    similarity = [hit.score for hit in hits]
    columns = [
        (weights.similarity_weight, stretched(similarity, 1.0) if config.normalize_scores else similarity),
        (weights.recency_weight, _recency(hits)),
        (weights.length_weight, [min(1.0, len(words(hit.content)) / FULL_LENGTH) for hit in hits]),
        (weights.metadata_weight, _titles(question, hits)),
    ]
    used = [(weight, column) for weight, column in columns if weight > 0 and any(column)]
    total = sum(weight for weight, _ in used) or 1.0
    scored = [
        msgspec.structs.replace(hit, score=min(1.0, sum(weight * column[at] for weight, column in used) / total))
        for at, hit in enumerate(hits)
    ]
    return sorted(scored, key=lambda hit: -hit.score)


def _recency(hits: Sequence[Hit]) -> list[float]:
    """From 0 (oldest, or undated) to 1 (newest)."""
    dates = [next(filter(None, (_seconds(hit.metadata.get(key)) for key in DATES)), None) for hit in hits]
    known = [date for date in dates if date is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return [0.0 if date is None else (date - low) / (high - low) if high > low else 1.0 for date in dates]


def _seconds(value: Json) -> float | None:
    """A date of the metadata in seconds since 1970: a number, or a text in ISO 8601. Anything else is no date."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, str):
        return None
    try:
        date = datetime.fromisoformat(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None  # metadata are free text: most of it is no date


def _titles(question: str, hits: Sequence[Hit]) -> list[float]:
    """The share of the question's telling words in what the metadata say about the chunk."""
    asked = set(words(question)) - STOP_WORDS
    named = [" ".join(str(hit.metadata.get(key, "")) for key in TITLES) for hit in hits]
    return [len(asked & set(words(text))) / len(asked) if asked else 0.0 for text in named]
