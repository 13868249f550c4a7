"""Ordering hits anew with a reranker model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from paddock.contracts.providers import Hit, RetrievalTools
from paddock.errors import ProviderUnavailable, UpstreamTimeout


class RerankOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to ask: `batch_size` texts at a time (None: all), of `max_chars` each, within `timeout` seconds; `normalize`
    stretches the scores to the range from 0 to 1 (all equal: 0.5)."""

    batch_size: int | None = None
    max_chars: int | None = None
    timeout: float = 60.0
    normalize: bool = False


async def reranked(
    tools: RetrievalTools,
    model: str | None,
    question: str,
    hits: Sequence[Hit],
    options: RerankOptions = RerankOptions(),  # noqa: B008  frozen
) -> list[Hit]:
    """All hits in the reranker's order with its scores, and with reranker_score, rerank_position (from 1) and
    reranker_model in their metadata. Raises ProviderUnavailable while there is no reranker, or it is down;
    UpstreamTimeout. The order of the first stage never stands in for it.
    """
    texts = [hit.content[: options.max_chars] for hit in hits]
    size = options.batch_size or max(1, len(texts))
    scores: list[float] = []
    try:
        async with asyncio.timeout(options.timeout):
            # One call even for no texts: a reranker that is missing is told, whatever was found.
            for at in range(0, max(1, len(texts)), size):
                scores += await tools.rerank(model, question, texts[at : at + size])
    except TimeoutError as error:
        raise UpstreamTimeout(f"the reranker did not answer within {options.timeout:g} s") from error
    if len(scores) != len(hits):
        raise ProviderUnavailable(f"the reranker returned {len(scores)} scores for {len(hits)} texts: check the model")
    return _ordered(hits, stretched(scores) if options.normalize else scores, model)


def stretched(scores: Sequence[float], equal: float = 0.5) -> list[float]:
    """Scores spread over the range from 0 to 1; `equal` when all are the same."""
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else equal for score in scores]


def _ordered(hits: Sequence[Hit], scores: Sequence[float], model: str | None) -> list[Hit]:
    pairs = sorted(zip(scores, hits, strict=True), key=lambda pair: -pair[0])
    return [
        msgspec.structs.replace(
            hit,
            score=min(1.0, max(0.0, float(score))),
            metadata={**hit.metadata, "reranker_score": float(score), "rerank_position": at, "reranker_model": model},
        )
        for at, (score, hit) in enumerate(pairs, 1)
    ]
