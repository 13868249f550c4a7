"""Putting ranked lists together. Every function takes lists that are best first, with scores in [0, 1], and returns new
hits, best first, whose score is divided by the greatest that was possible; equal scores keep the order of appearance.
The lists given are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from paddock.contracts.providers.hits import Hit
from paddock.errors import FieldError, ValidationFailed

__all__ = [
    "DEFAULT_ALPHA",
    "average",
    "depth",
    "fuse",
    "highest",
    "reciprocal_rank",
    "relative",
]

DEFAULT_ALPHA = 0.25
DEPTH = 100
RANK_CONSTANT = 60.0


def depth(k: int) -> int:
    """How many hits of each kind `fuse` needs to choose k: three times as many, and 100 at least.

    On Cranfield (hashing embedder, alpha 0.2 to 0.4) 50 loses 0.001 to 0.004 nDCG@10, and 200 gains at most 0.002.
    """
    return max(DEPTH, 3 * k)


def fuse(vectors: Sequence[Hit], texts: Sequence[Hit], alpha: float, k: int) -> list[Hit]:
    """The k best of a vector search and a text search: ``alpha * vector score + (1 - alpha) * text score``.

    Give both lists `depth(k)` long. A hit that the text search did not find has the text score 0; one that the vector
    search did not find gets the last score of its list, because it is the greatest it can have. 1 takes the vectors
    alone, 0 the texts alone. Raises ValidationFailed for an alpha outside [0, 1].

    Adding scores was chosen by measurement, nDCG@10 on Cranfield. With the hashing embedder all ways that were tried are
    above BM25 alone (0.356; whole documents, alpha 0.3): adding 0.361, reciprocal ranks 0.365 to 0.370, scores stretched
    to each list's range 0.364. With vectors that carry more meaning (latent semantic analysis, alpha 0.5) adding leads:
    0.394, 0.388 to 0.389, 0.390. Unlike those of the others, its scores can be compared between queries: only so does a
    threshold mean anything, and can the hits of several questions be merged.
    """
    if not 0 <= alpha <= 1:
        raise ValidationFailed.of([FieldError("hybrid_alpha", f"must be from 0 to 1, not {alpha:g}")])
    if alpha in {0, 1}:
        return list(vectors if alpha else texts)[:k]
    near, said = _scores(vectors), _scores(texts)
    unseen = min(near.values(), default=0.0)
    return _best(
        [vectors, texts], k, lambda chunk: alpha * near.get(chunk, unseen) + (1 - alpha) * said.get(chunk, 0.0)
    )


def average(lists: Sequence[Sequence[Hit]], k: int, weights: Sequence[float] | None = None) -> list[Hit]:
    """By the weighted mean of the scores; a list without the hit counts 0. Raises ValidationFailed for bad weights."""
    shares = _shares(lists, weights)
    tables = [_scores(hits) for hits in lists]
    return _best(
        lists, k, lambda chunk: sum(w * table.get(chunk, 0.0) for w, table in zip(shares, tables, strict=True))
    )


def relative(lists: Sequence[Sequence[Hit]], k: int, weights: Sequence[float] | None = None) -> list[Hit]:
    """Like `average`, after the scores of each list were divided by its best: for lists with scores of different kinds."""
    return average([_over_best(hits) for hits in lists], k, weights)


def highest(lists: Sequence[Sequence[Hit]], k: int) -> list[Hit]:
    """By the best score that a hit has in any list."""
    tables = [_scores(hits) for hits in lists]
    return _best(lists, k, lambda chunk: max(table.get(chunk, 0.0) for table in tables))


def reciprocal_rank(
    lists: Sequence[Sequence[Hit]], k: int, weights: Sequence[float] | None = None, constant: float = RANK_CONSTANT
) -> list[Hit]:
    """By the weighted sum of ``1 / (constant + rank)``; first in all lists is 1. Raises ValidationFailed for bad weights."""
    shares = _shares(lists, weights)
    ranks = [{hit.chunk_id: rank for rank, hit in reversed(list(enumerate(hits)))} for hits in lists]

    def score(chunk: str) -> float:
        return sum(
            share * (constant + 1) / (constant + 1 + rank[chunk])
            for share, rank in zip(shares, ranks, strict=True)
            if chunk in rank
        )

    return _best(lists, k, score)


def _scores(hits: Sequence[Hit]) -> Mapping[str, float]:
    return {hit.chunk_id: hit.score for hit in reversed(hits)}


def _over_best(hits: Sequence[Hit]) -> list[Hit]:
    best = max((hit.score for hit in hits), default=0.0)
    return [msgspec.structs.replace(hit, score=hit.score / best) for hit in hits] if best > 0 else list(hits)


def _shares(lists: Sequence[object], weights: Sequence[float] | None) -> list[float]:
    """The weights divided by their sum."""
    given = [1.0] * len(lists) if weights is None else [float(weight) for weight in weights]
    if len(given) != len(lists):
        raise ValidationFailed.of([FieldError("weights", f"{len(given)} given for {len(lists)} lists")])
    total = sum(given)
    if lists and (min(given) < 0 or not 0 < total < float("inf")):
        raise ValidationFailed.of([FieldError("weights", "none may be negative, and one at least must be above 0")])
    return [weight / total for weight in given]


def _best(lists: Sequence[Sequence[Hit]], k: int, score: Callable[[str], float]) -> list[Hit]:
    """Each hit once, with its new score, the k best."""
    found: dict[str, Hit] = {}
    for hits in lists:
        for hit in hits:
            found.setdefault(hit.chunk_id, hit)
    scored = [msgspec.structs.replace(hit, score=min(1.0, max(0.0, score(chunk)))) for chunk, hit in found.items()]
    return sorted(scored, key=lambda hit: -hit.score)[: max(0, k)]
