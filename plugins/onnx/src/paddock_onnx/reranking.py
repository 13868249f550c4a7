"""Documents in the order of their relevance to a query, by cross-encoders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from paddock_onnx.model import Model


class Scored(msgspec.Struct, frozen=True):
    """A score in [0, 1] for each document, in their order, and how many tokens were read."""

    scores: list[float]
    tokens: int


async def score(
    model: Model, query: str, documents: Sequence[str], *, refuse: bool = False, most: int | None = None
) -> Scored:
    """How well each document answers, by its first `most` tokens. Raises BadRequest (no reranker), TooLarge."""
    model.must("rerank")
    items = await model.pairs(query, documents, model.cut(refuse=refuse), most)
    rows = await model.run(items)
    return Scored([sigmoid(float(row.reshape(-1)[0])) for row in rows], sum(len(item.ids) for item in items))


def sigmoid(value: float) -> float:
    """The logistic function, without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    grown = math.exp(value)
    return grown / (1 + grown)
