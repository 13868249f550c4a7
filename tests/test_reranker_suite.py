"""The suite of rerankers passes for a good one, and finds each fault of the broken ones."""

from collections.abc import Sequence

import pytest

from paddock.contracts.providers import Reranker, TypeName
from paddock.testing.proof import failures_of
from paddock.testing.reranker import RerankerSuite


class Overlap(Reranker):
    """The share of the question's words that a document has."""

    types = (TypeName("overlap"),)

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        wanted = set(query.lower().strip("?").split())
        found = [wanted & set(document.lower().split()) for document in documents]
        return [len(words) / max(1, len(wanted)) for words in found]


class Sorted(Overlap):
    """Scores without their place."""

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        return sorted(await super().rerank(model, query, documents), reverse=True)


class Distances(Overlap):
    """Lower is better."""

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        return [1 - score for score in await super().rerank(model, query, documents)]


class NeedsOne(Overlap):
    """Breaks without documents."""

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        assert documents
        return await super().rerank(model, query, documents)


class NeedsText(Overlap):
    """Breaks for empty texts."""

    async def rerank(self, model: str, query: str, documents: Sequence[str]) -> list[float]:
        assert all(document.strip() for document in documents)
        return await super().rerank(model, query, documents)


class TestOverlap(RerankerSuite):
    @pytest.fixture
    def reranker(self) -> Reranker:
        return Overlap()


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Sorted, {"every_document_gets_one_score_in_its_place", "the_document_that_answers_scores_highest"}),
        (Distances, {"the_document_that_answers_scores_highest"}),
        (NeedsOne, {"no_documents_give_no_scores"}),
        (NeedsText, {"odd_texts_are_scored_too"}),
    ],
)
async def test_a_broken_reranker_is_found(broken: type[Reranker], found: set[str]) -> None:
    assert await failures_of(RerankerSuite(), reranker=broken()) == found
