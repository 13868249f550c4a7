"""The conformance suite of rerankers. Needs the packages pytest and pytest-asyncio.

::

    class TestMine(RerankerSuite):
        @pytest.fixture
        def reranker(self):
            return Mine()
"""

from __future__ import annotations

import asyncio
import math

import pytest

from paddock.contracts.providers import Health, Reranker

__all__ = ["RerankerSuite"]

QUESTION = "How much water does a cow drink?"
DOCUMENTS = [
    "The museum opens at nine on weekdays.",
    "A cow drinks between 80 and 120 litres of water a day.",
    "Tickets cost four euros; children go free.",
]
RELEVANT = 1


class RerankerSuite:
    """What holds for every reranker. Override the fixture `reranker`, and `model` if it needs the name of one."""

    model = "default"

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The reranker to test."""
        raise NotImplementedError("override the fixture `reranker`")

    async def test_every_document_gets_one_score_in_its_place(self, reranker: Reranker) -> None:
        """If this fails, scores are missing, sorted, or outside of [0, 1]: they belong to the documents in their order."""
        scores = await reranker.rerank(self.model, QUESTION, DOCUMENTS)
        assert len(scores) == len(DOCUMENTS)
        assert all(isinstance(score, float) and math.isfinite(score) and 0 <= score <= 1 for score in scores)
        turned = await reranker.rerank(self.model, QUESTION, DOCUMENTS[::-1])
        assert turned[::-1] == pytest.approx(scores, abs=1e-3)

    async def test_the_document_that_answers_scores_highest(self, reranker: Reranker) -> None:
        """If this fails, scores say how strange a document is, not how well it answers."""
        scores = await reranker.rerank(self.model, QUESTION, DOCUMENTS)
        assert scores.index(max(scores)) == RELEVANT

    async def test_no_documents_give_no_scores(self, reranker: Reranker) -> None:
        """If this fails, the model is asked with an empty batch."""
        assert list(await reranker.rerank(self.model, QUESTION, [])) == []

    @pytest.mark.parametrize("odd", ["", " ", "\x00", "💥" * 50, "word " * 20_000], ids=ascii)
    async def test_odd_texts_are_scored_too(self, reranker: Reranker, odd: str) -> None:
        """If this fails, an empty or very long document breaks the whole query."""
        assert len(await reranker.rerank(self.model, QUESTION, [odd, DOCUMENTS[RELEVANT]])) == 2
        assert len(await reranker.rerank(self.model, odd or "?", DOCUMENTS)) == len(DOCUMENTS)

    async def test_calls_at_the_same_time_do_not_mix(self, reranker: Reranker) -> None:
        """If this fails, concurrent queries share a buffer."""
        alone = await reranker.rerank(self.model, QUESTION, DOCUMENTS)
        together = await asyncio.gather(*(reranker.rerank(self.model, QUESTION, DOCUMENTS) for _ in range(8)))
        assert all(scores == pytest.approx(alone, abs=1e-3) for scores in together)

    async def test_health_is_told_and_close_may_be_called(self, reranker: Reranker) -> None:
        """If this fails, health raises instead of telling, or close is not harmless."""
        assert isinstance(await reranker.health(), Health)
        await reranker.close()
