"""The reranker of projects, behind CrossEncoderRerankedStrategy and ``rerank_model``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from paddock.contracts.providers import Health, Reranker, TypeName
from paddock_onnx.reranking import score
from paddock_onnx.residency import Residency


class OnnxReranker(Reranker):
    """Type ``onnx``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("onnx"),)

    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        """See `Reranker.rerank`. Also raises BadRequest for a model that is no reranker."""
        async with self._residency.using(model) as loaded:
            return (await score(loaded, query, documents)).scores

    async def health(self) -> Health:
        """The rerankers in memory."""
        loaded = [one.id for one in self._residency.loaded() if one.facts.task == "rerank"]
        return Health(message=f"{len(loaded)} rerankers loaded", details={"loaded": loaded})
