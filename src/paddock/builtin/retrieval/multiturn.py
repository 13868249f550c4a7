"""MultiTurnRAGStrategy: a question that asks several things is taken apart by a chat model and searched in parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.builtin.retrieval import nested
from paddock.builtin.retrieval.base import Ask, BaseStrategy, CommonConfig, Count, Share, gathered, note_queries
from paddock.builtin.retrieval.expansion import ask_lines
from paddock.builtin.retrieval.ordered import CrossEncoderConfig, RerankedConfig, ordered_by_model, weighed
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, RetrievalTools, TypeName, Vectors
from paddock.contracts.providers.fusion import highest
from paddock.errors import FieldError, ValidationFailed

_JOINED = re.compile(r"\b(?:and|also|additionally|furthermore|moreover)\b", re.IGNORECASE)

SPLIT = """Split the question below into at most {count} simple questions that can be answered one by one. Each must make \
sense alone. Write one question on each line, without numbers and without any other text.

Question: {question}"""


class MultiTurnConfig(CommonConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`model_name`: a chat model of the project's (None: its default). A question is taken apart when it has at least
    `min_query_length` characters and either two question marks, or more than `complexity_threshold` characters and a
    joining word (and, also …). Of two hits whose texts are alike by `dedup_similarity_threshold` the better stays.
    `enable_reranking` orders the merged hits once more, by `reranker_strategy` with `reranker_config`."""

    model_name: str | None = None
    max_sub_queries: Annotated[int, Meta(ge=1, le=10)] = 3
    complexity_threshold: Annotated[int, Meta(ge=0, le=10_000)] = 50
    min_query_length: Annotated[int, Meta(ge=0, le=10_000)] = 20
    base_strategy: str = "BasicSimilarityStrategy"
    base_strategy_config: dict[str, Json] = msgspec.field(default_factory=dict)
    sub_query_top_k: Count = 10
    final_top_k: Count = 10
    enable_reranking: bool = False
    reranker_strategy: Literal["CrossEncoderRerankedStrategy", "RerankedStrategy"] = "CrossEncoderRerankedStrategy"
    reranker_config: dict[str, Json] = msgspec.field(default_factory=dict)
    dedup_similarity_threshold: Share = 0.95
    max_workers: Annotated[int, Meta(ge=1, le=16)] = 3


class MultiTurnRAGStrategy(BaseStrategy):
    """Needs a chat model that can write; with the extractive one it is refused, whatever is asked."""

    types = (TypeName("MultiTurnRAGStrategy", MultiTurnConfig),)
    has_alpha = True
    expands = True

    def __init__(self, known: nested.Known) -> None:
        self._known = known
        self._hashing = HashingEmbedder()

    def wanted(self, config: MultiTurnConfig) -> int:
        """`final_top_k`."""
        return config.final_top_k

    async def search(self, ask: Ask, tools: RetrievalTools, config: MultiTurnConfig) -> list[Hit]:
        """Parts of the question, or the question. `expansion` True takes apart always, False never."""
        if not tools.can_ask(config.model_name):
            reason = (
                "MultiTurnRAGStrategy needs a chat model that writes: name one of runtime.models, not an extractive one"
            )
            raise ValidationFailed.of([FieldError("model_name", reason)])
        split = is_complex(ask.text, config) if ask.expansion is None else ask.expansion
        parts = await self._parts(ask, tools, config) if split else [ask.text]
        ask.trace["queries"] = []
        note_queries(ask.trace, parts)
        k = max(config.sub_query_top_k, ask.k if len(parts) == 1 else 0)
        limit = asyncio.Semaphore(config.max_workers)

        async def one(text: str) -> list[Hit]:
            async with limit:
                inner = msgspec.structs.replace(ask, text=text)
                return await nested.run_base(inner, tools, config.base_strategy, config.base_strategy_config, k)

        lists = await gathered(*(one(text) for text in parts))
        merged = highest(lists, sum(map(len, lists)))
        kept = await self._distinct(merged, config.dedup_similarity_threshold)
        ask.trace["duplicates"] = len(merged) - len(kept)
        return (await self._reordered(ask, tools, config, kept))[: ask.k]

    async def _parts(self, ask: Ask, tools: RetrievalTools, config: MultiTurnConfig) -> list[str]:
        prompt = SPLIT.format(count=config.max_sub_queries, question=ask.text)
        return await ask_lines(tools, config.model_name, prompt, config.max_sub_queries) or [ask.text]

    async def _distinct(self, hits: Sequence[Hit], likeness: float) -> list[Hit]:
        vectors = await self._hashing.embed([hit.content for hit in hits], HashingConfig(), "document")
        return [hits[at] for at in distinct(vectors, likeness)]

    async def _reordered(self, ask: Ask, tools: RetrievalTools, config: MultiTurnConfig, hits: list[Hit]) -> list[Hit]:
        if not config.enable_reranking:
            return hits
        strategy = self._known[config.reranker_strategy]
        options = strategy.configure(config.reranker_strategy, config.reranker_config).config
        if isinstance(options, CrossEncoderConfig):
            return await ordered_by_model(msgspec.structs.replace(ask, rerank_model=None), tools, options, hits)
        return weighed(ask.text, hits, msgspec.convert(options, RerankedConfig))

    def warn(self, type_name: str, config: MultiTurnConfig) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """The inner configs are checked here, with their paths."""
        for outer, type_, inner in (
            ("base_strategy", config.base_strategy, config.base_strategy_config),
            ("reranker", config.reranker_strategy, config.reranker_config),
        ):
            field = f"{outer}_config"
            for warning in nested.check(self._known, outer, type_, inner):
                yield warning.replace(f"{outer}.config.", f"{field}.")
        yield from nested.warn_counts("base_strategy_config", config.base_strategy_config, "sub_query_top_k")
        yield from nested.warn_counts("reranker_config", config.reranker_config, "final_top_k")
        if config.reranker_config and not config.enable_reranking:
            yield "reranker_config: without effect while enable_reranking is false"


def is_complex(question: str, config: MultiTurnConfig) -> bool:
    """Whether a question seems to ask several things."""
    if len(question) < config.min_query_length:
        return False
    return question.count("?") > 1 or (
        len(question) > config.complexity_threshold and _JOINED.search(question) is not None
    )


def distinct(vectors: Vectors, likeness: float) -> list[int]:
    """The rows that are less alike than `likeness` (cosine) to every row before that was kept."""
    kept: list[int] = []
    for at in range(len(vectors)):
        if not kept or float((vectors[kept] @ vectors[at]).max()) < likeness:
            kept.append(at)
    return kept
