"""Every strategy of the core passes the suite, and a broken one does not."""

from typing import Any, ClassVar

import msgspec
import pytest

from paddock.builtin.retrieval import builtin_strategies
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, NoConfig, Query, RetrievalStrategy, RetrievalTools, Retrieved, TypeName
from paddock.errors import ValidationFailed
from paddock.testing.memory_store import MemoryConfig, MemoryStore
from paddock.testing.retrieval import COLLECTION, RetrievalStrategySuite, StoreTools, fill, shared_words


def named(type_name: str) -> RetrievalStrategy:
    return next(one for one in builtin_strategies() if type_name in {item.name for item in one.types})


class Builtin(RetrievalStrategySuite):
    type_name = "set by the subclass"

    @pytest.fixture
    def strategy(self) -> RetrievalStrategy:
        return named(self.type_name)


class TestBasicSimilarity(Builtin):
    type_name = "BasicSimilarityStrategy"


class TestVectorRetriever(Builtin):
    type_name = "VectorRetriever"


class TestSemantic(Builtin):
    type_name = "semantic"


class TestBM25Retriever(Builtin):
    type_name = "BM25Retriever"
    metric = False


class TestHybridRetriever(Builtin):
    type_name = "hybrid"
    alpha = True


class TestMetadataFiltered(Builtin):
    type_name = "MetadataFilteredStrategy"


class TestMetadataFilteredAfterwards(Builtin):
    type_name = "MetadataFilteredStrategy"
    raw_config: ClassVar[dict[str, Json]] = {"filter_mode": "post"}


class TestMultiQuery(Builtin):
    type_name = "MultiQueryStrategy"


class TestReranked(Builtin):
    type_name = "RerankedStrategy"


class TestMMR(Builtin):
    type_name = "mmr"


class TestHybridUniversal(Builtin):
    type_name = "HybridUniversalStrategy"
    alpha = True
    raw_config: ClassVar[dict[str, Json]] = {"strategies": [{"type": "hybrid"}, {"type": "semantic", "weight": 0.5}]}


class TestHybridUniversalOfVectorsAndWords(Builtin):
    type_name = "HybridUniversalStrategy"
    raw_config: ClassVar[dict[str, Json]] = {"strategies": [{"type": "bm25"}, {"type": "semantic"}]}


class TestCrossEncoder(Builtin):
    type_name = "CrossEncoderRerankedStrategy"
    raw_config: ClassVar[dict[str, Json]] = {"base_strategy": "hybrid", "initial_k": 1, "final_k": 1}
    alpha = True

    async def test_alpha_is_honoured_or_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """The reranker's scores do not depend on alpha; which candidates it gets does."""
        ask = [Query(text="sailor painting hulls and mending butter", alpha=alpha) for alpha in (0.0, 1.0)]
        words, vectors = [(await strategy.retrieve(query, tools, config)).hits for query in ask]
        assert words[0].chunk_id != vectors[0].chunk_id

    async def test_the_metric_is_honoured_or_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """As above."""
        with pytest.raises(ValidationFailed):
            await strategy.retrieve(
                Query(text="ship", metric="l1"), tools, msgspec.structs.replace(config, base_strategy="bm25")
            )


class TestMultiTurn(Builtin):
    type_name = "MultiTurnRAGStrategy"


class Deaf(RetrievalStrategy):
    """Breaks every rule: ignores the query's fields, orders by nothing, scores above 1."""

    types = (TypeName("Deaf", NoConfig),)

    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        found: list[Hit] = await tools.store.search_vectors(await tools.embed("ship"), 6)
        return Retrieved(hits=[msgspec.structs.replace(hit, score=2 - hit.score) for hit in found])


BROKEN = [
    "test_hits_are_ordered_scored_and_distinct",
    "test_the_fitting_file_comes_first",
    "test_filters_hold",
    "test_an_unknown_filter_operator_is_refused",
    "test_the_metric_is_honoured_or_refused",
    "test_alpha_is_honoured_or_refused",
    "test_an_alpha_out_of_range_is_refused",
    "test_the_rerank_model_orders_the_hits",
    "test_a_missing_reranker_is_an_error",
    "test_expansion_runs_other_queries",
    "test_the_trace_shows_the_query",
]


@pytest.mark.parametrize("name", BROKEN)
async def test_the_suite_fails_a_strategy_that_does_not_listen(name: str) -> None:
    store = MemoryStore(MemoryConfig())
    await fill(store, COLLECTION, kind=["farm", "sea", "shop"])
    tools = StoreTools(store, rank=shared_words, answer=lambda _: "milk")
    with pytest.raises((AssertionError, KeyError, pytest.fail.Exception)):
        await getattr(RetrievalStrategySuite(), name)(Deaf(), tools, NoConfig())


@pytest.mark.parametrize("k", [1, 2, 3])
async def test_the_suite_fails_a_strategy_with_its_own_number_of_hits(k: int) -> None:
    store = MemoryStore(MemoryConfig())
    await fill(store, COLLECTION, kind=["farm", "sea", "shop"])
    with pytest.raises(AssertionError):
        await RetrievalStrategySuite().test_top_k_of_the_query_counts(Deaf(), StoreTools(store), NoConfig(), k)


class Generous(Deaf):
    """Good scores, and no threshold."""

    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        return Retrieved(hits=await tools.store.search_vectors(await tools.embed(query.text), 6))


async def test_the_suite_fails_a_strategy_without_a_threshold() -> None:
    store = MemoryStore(MemoryConfig())
    await fill(store, COLLECTION, kind=["farm", "sea", "shop"])
    with pytest.raises(AssertionError):
        await RetrievalStrategySuite().test_no_hit_is_below_the_threshold(Generous(), StoreTools(store), NoConfig())


class Careless(Deaf):
    """Keeps what one query found for the next, and knows every option."""

    def __init__(self) -> None:
        self._last: list[Hit] = []

    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        last, self._last = self._last, (await super().retrieve(query, tools, config)).hits
        return Retrieved(hits=[*last[:1], tools.store_of_nobody])  # type: ignore[attr-defined]  # broken on purpose

    def configure(self, type_name: str, raw: Any) -> Any:
        return None


async def test_the_suite_fails_what_breaks_on_odd_queries_and_empty_databases() -> None:
    suite, strategy, tools = RetrievalStrategySuite(), Careless(), StoreTools(MemoryStore(MemoryConfig()))
    with pytest.raises(AttributeError):
        await suite.test_any_text_is_a_query(strategy, tools, None, "")
    with pytest.raises(AttributeError):
        await suite.test_an_empty_database_has_no_hits(strategy, None)
    with pytest.raises(pytest.fail.Exception):
        await suite.test_an_unknown_option_is_refused_by_name(strategy)
