"""What the single strategies and their options do; what holds for all is in test_retrieval_suite.py."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from paddock.builtin.retrieval import builtin_strategies
from paddock.builtin.retrieval.multiturn import MultiTurnConfig
from paddock.contracts.base import Json
from paddock.contracts.providers import Configured, Query, Retrieved
from paddock.errors import ModelNotFound, ProviderUnavailable, UnknownType, UpstreamTimeout, ValidationFailed
from paddock.testing.memory_store import MemoryConfig, MemoryStore
from paddock.testing.retrieval import COLLECTION, QUESTION, StoreTools, fill, shared_words

CROSS, MULTI, UNIVERSAL = "CrossEncoderRerankedStrategy", "MultiQueryStrategy", "HybridUniversalStrategy"
TURNS = "MultiTurnRAGStrategy"
TWO = "Where does the ship go with the timber, and how much milk does a cow give us?"


@pytest.fixture
async def store() -> MemoryStore:
    store = MemoryStore(MemoryConfig())
    dates = ["2026-01-01", "2020-01-01T00:00:00Z", "2023-06-01"]
    await fill(store, COLLECTION, kind=["farm", "sea", "shop"], date=dates)
    return store


@pytest.fixture
def tools(store: MemoryStore) -> StoreTools:
    return StoreTools(store, rank=shared_words, answer=lambda _: "Where does the ship go?\nHow much milk is there?")


def configure(type_name: str, raw: Mapping[str, Json]) -> Configured:
    known = {item.name: one for one in builtin_strategies() for item in one.types}
    return known[type_name].configure(type_name, raw)


async def run(tools: StoreTools, type_name: str, raw: Mapping[str, Json] | None = None, **asked: Any) -> Retrieved:
    return await tools.run(type_name, raw or {}, Query(**{"text": QUESTION, **asked}))


def ids(found: Retrieved) -> list[str]:
    return [hit.chunk_id for hit in found.hits]


def shown(found: Retrieved) -> list[tuple[str, float]]:
    return [(hit.chunk_id, round(hit.score, 6)) for hit in found.hits]


MANY: dict[str, Json] = {"strategies": [{"type": "semantic"}, {"type": "bm25", "weight": 0.5}]}


@pytest.mark.parametrize(
    ("type_name", "base", "options"),
    [
        ("semantic", {}, {"top_k": 2}),
        ("semantic", {}, {"score_threshold": 0.2}),
        ("semantic", {}, {"distance_metric": "euclidean"}),
        ("semantic", {}, {"distance_metric": "manhattan"}),
        ("semantic", {}, {"distance_metric": "dot"}),
        ("bm25", {}, {"top_k": 1}),
        ("bm25", {}, {"score_threshold": 0.5}),
        ("hybrid", {}, {"hybrid_alpha": 0.8}),
        ("hybrid", {}, {"distance_metric": "l2"}),
        ("MetadataFilteredStrategy", {}, {"filters": {"kind": ["sea", "shop"]}}),
        ("MetadataFilteredStrategy", {"filters": {"kind": "farm"}, "top_k": 4}, {"filter_mode": "post", "top_k": 1}),
        (
            "MetadataFilteredStrategy",
            {"filters": {"kind": "sea"}, "filter_mode": "post", "top_k": 2},
            {"fallback_multiplier": 1},
        ),
        (MULTI, {}, {"num_queries": 1}),
        (MULTI, {}, {"aggregation_method": "max"}),
        (MULTI, {}, {"aggregation_method": "mean"}),
        (MULTI, {}, {"aggregation_method": "reciprocal_rank"}),
        (MULTI, {}, {"query_weights": [1, 5, 5]}),
        (MULTI, {"aggregation_method": "reciprocal_rank"}, {"query_weights": [1, 5, 5]}),
        ("RerankedStrategy", {}, {"final_k": 2}),
        ("RerankedStrategy", {"final_k": 2}, {"initial_k": 2}),
        ("RerankedStrategy", {}, {"normalize_scores": False}),
        ("RerankedStrategy", {}, {"rerank_factors": {"similarity_weight": 0.1}}),
        ("RerankedStrategy", {}, {"rerank_factors": {"recency_weight": 0.9}}),
        ("RerankedStrategy", {}, {"rerank_factors": {"length_weight": 0.9}}),
        ("RerankedStrategy", {}, {"rerank_factors": {"metadata_weight": 0.9}}),
        (UNIVERSAL, MANY, {"combination_method": "rank_fusion"}),
        (UNIVERSAL, MANY, {"combination_method": "score_fusion"}),
        (UNIVERSAL, MANY, {"final_k": 2}),
        (UNIVERSAL, MANY, {"strategies": [{"type": "semantic"}, {"type": "bm25", "weight": 5}]}),
        (UNIVERSAL, MANY, {"strategies": [{"type": "semantic", "config": {"top_k": 1}}, {"type": "bm25"}]}),
        (CROSS, {}, {"model_name": "other"}),
        (CROSS, {}, {"final_k": 2}),
        (CROSS, {"final_k": 2}, {"initial_k": 2}),
        (CROSS, {}, {"relevance_threshold": 0.9}),
        (CROSS, {}, {"normalize_scores": False}),
        (CROSS, {}, {"max_chars_per_doc": 5}),
        (CROSS, {"initial_k": 3, "final_k": 3}, {"base_strategy": "bm25"}),
        (CROSS, {"base_strategy": "MetadataFilteredStrategy"}, {"base_strategy_config": {"filters": {"kind": "sea"}}}),
        (TURNS, {}, {"final_top_k": 2}),
        (TURNS, {}, {"max_sub_queries": 1}),
        (TURNS, {}, {"complexity_threshold": 200}),
        (TURNS, {}, {"min_query_length": 200}),
        (TURNS, {}, {"sub_query_top_k": 1}),
        (TURNS, {}, {"base_strategy": "bm25"}),
        (TURNS, {}, {"base_strategy_config": {"distance_metric": "l2"}}),
        (TURNS, {}, {"dedup_similarity_threshold": 0.1}),
        (TURNS, {}, {"enable_reranking": True}),
        (TURNS, {"enable_reranking": True}, {"reranker_strategy": "RerankedStrategy"}),
        (TURNS, {"enable_reranking": True}, {"reranker_config": {"relevance_threshold": 0.9}}),
        ("mmr", {}, {"lambda_mult": 0.1}),
        ("mmr", {"top_k": 3, "lambda_mult": 0.1}, {"initial_k": 3}),
    ],
)
async def test_each_option_changes_what_is_found(
    store: MemoryStore, type_name: str, base: dict[str, Json], options: dict[str, Json]
) -> None:
    lines = "Where does the ship go?\nmilk of the dairy"
    tools = StoreTools(store, rank=shared_words, answer=lambda _: lines)
    text = TWO if type_name == TURNS else "bread, milk and ship"
    one = await run(tools, type_name, base, text=text)
    other = await run(tools, type_name, {**base, **options}, text=text)
    models = [[hit.metadata.get("reranker_model") for hit in found.hits] for found in (one, other)]
    assert (shown(one), models[0]) != (shown(other), models[1])


@pytest.mark.parametrize(
    ("type_name", "raw"),
    [
        ("semantic", {"top_k": 0}),
        ("semantic", {"top_k": 1001}),
        ("semantic", {"score_threshold": 1.5}),
        ("semantic", {"distance_metric": "hamming"}),
        ("hybrid", {"hybrid_alpha": 2}),
        ("MetadataFilteredStrategy", {"filter_mode": "sometimes"}),
        (MULTI, {"num_queries": 11}),
        (MULTI, {"query_weights": [1, 2]}),
        (MULTI, {"query_weights": [0, 1, 1]}),
        (MULTI, {"query_weights": [1, -1, 1]}),
        ("RerankedStrategy", {"rerank_factors": {"beauty_weight": 1}}),
        (
            "RerankedStrategy",
            {"rerank_factors": dict.fromkeys(
                ("similarity_weight", "recency_weight", "length_weight", "metadata_weight"), 0
            )},
        ),
        (UNIVERSAL, {"strategies": [{"type": "semantic"}]}),
        (UNIVERSAL, {"strategies": [{"type": "semantic"}] * 6}),
        (UNIVERSAL, {"strategies": [{"type": "semantic", "weight": 0}] * 2}),
        (UNIVERSAL, {"strategies": [{"type": "semantic", "config": {"top_q": 1}}, {"type": "bm25"}]}),
        (CROSS, {"base_strategy_config": {"top_q": 1}}),
        (TURNS, {"reranker_strategy": "hybrid"}),
    ],
)  # fmt: skip
def test_bad_options_are_refused(type_name: str, raw: dict[str, Json]) -> None:
    with pytest.raises(ValidationFailed):
        configure(type_name, raw)


def test_an_error_in_an_inner_config_is_named_by_its_path() -> None:
    with pytest.raises(ValidationFailed) as caught:
        configure(UNIVERSAL, {"strategies": [{"type": "bm25"}, {"type": "semantic", "config": {"top_q": 1}}]})
    assert caught.value.errors[0].field == "strategies[1].config.top_q"


@pytest.mark.parametrize(
    ("type_name", "raw", "named"),
    [
        ("MetadataFilteredStrategy", {"fallback_multiplier": 5}, "fallback_multiplier"),
        (MULTI, {"aggregation_method": "max", "query_weights": [1, 1, 1]}, "query_weights"),
        ("RerankedStrategy", {"initial_k": 5, "final_k": 10}, "initial_k"),
        (CROSS, {"base_strategy_config": {"top_k": 5}}, "base_strategy_config.top_k"),
        (CROSS, {"initial_k": 5, "final_k": 10}, "initial_k"),
        (TURNS, {"base_strategy_config": {"top_k": 5}}, "base_strategy_config.top_k"),
        (TURNS, {"reranker_config": {"timeout": 5}}, "reranker_config"),
        (
            UNIVERSAL,
            {
                "strategies": [
                    {"type": "MetadataFilteredStrategy", "config": {"fallback_multiplier": 2}},
                    {"type": "bm25"},
                ]
            },
            "strategies[0].config.fallback_multiplier",
        ),
    ],
)
def test_options_without_effect_are_warnings(type_name: str, raw: dict[str, Json], named: str) -> None:
    assert any(warning.startswith(named) for warning in configure(type_name, raw).warnings)


async def test_words_alone_embed_nothing(tools: StoreTools) -> None:
    await run(tools, "bm25")
    await run(tools, "hybrid", alpha=0.0)
    assert tools.embedded == []


async def test_the_query_goes_before_the_config(tools: StoreTools) -> None:
    assert (
        len((await run(tools, "hybrid", {"top_k": 1, "score_threshold": 1.0}, top_k=3, score_threshold=0.0)).hits) == 3
    )
    assert (await run(tools, "hybrid", {"hybrid_alpha": 0.9}, alpha=0.1)).trace["hybrid_alpha"] == 0.1
    assert (await run(tools, "semantic", {"distance_metric": "l2"}, metric="l1")).trace["distance_metric"] == "l1"


async def test_filters_of_the_query_and_the_config_hold_both(tools: StoreTools) -> None:
    raw: dict[str, Json] = {"filters": {"kind": ["farm", "sea"]}}
    for mode in ("pre", "post"):
        found = await run(
            tools, "MetadataFilteredStrategy", {**raw, "filter_mode": mode}, filters={"kind": ["sea", "shop"]}
        )
        assert {hit.metadata["kind"] for hit in found.hits} == {"sea"}
    nothing = await run(tools, "MetadataFilteredStrategy", raw, filters={"kind": "shop"})
    assert nothing.hits == []


async def test_expansion_without_a_chat_model_uses_words_of_the_first_hits(store: MemoryStore) -> None:
    found = await run(StoreTools(store), "hybrid", expansion=True)
    assert found.trace["expansion"] == "feedback"
    assert found.trace["queries"][0] == QUESTION
    assert found.trace["queries"][1].startswith(f"{QUESTION} ")


async def test_expansion_with_a_chat_model_uses_its_rewrite(tools: StoreTools) -> None:
    found = await run(tools, "hybrid", expansion=True)
    assert found.trace["expansion"] == "model"
    assert found.trace["queries"] == [QUESTION, "Where does the ship go?"]
    assert QUESTION in tools.asked[0]


async def test_a_project_without_models_expands_by_feedback(store: MemoryStore) -> None:
    found = await run(StoreTools(store, answer=lambda _: "x", only=[]), "hybrid", expansion=True)
    assert found.trace["expansion"] == "feedback"


async def test_a_chat_model_that_is_down_is_an_error(store: MemoryStore) -> None:
    def down(_: str) -> str:
        raise ProviderUnavailable("the model is down")

    with pytest.raises(ProviderUnavailable):
        await run(StoreTools(store, answer=down), "hybrid", expansion=True)


async def test_several_queries_without_a_chat_model_are_all_different(store: MemoryStore) -> None:
    queries = (await run(StoreTools(store), MULTI)).trace["queries"]
    assert len(set(queries)) == 3


async def test_a_reranker_that_is_missing_is_told_even_without_candidates() -> None:
    with pytest.raises(ProviderUnavailable):
        await run(StoreTools(MemoryStore(MemoryConfig())), CROSS)


async def test_a_slow_reranker_is_a_timeout(store: MemoryStore) -> None:
    class Slow(StoreTools):
        async def rerank(self, model: str | None, query: str, documents: Sequence[str]) -> list[float]:
            await asyncio.Event().wait()
            return []

    with pytest.raises(UpstreamTimeout):
        await run(Slow(store), CROSS, {"timeout": 0.01})


async def test_a_reranker_with_the_wrong_number_of_scores_is_an_error(store: MemoryStore) -> None:
    class Short(StoreTools):
        async def rerank(self, model: str | None, query: str, documents: Sequence[str]) -> list[float]:
            return [0.5]

    with pytest.raises(ProviderUnavailable):
        await run(Short(store), CROSS)


async def test_the_cross_encoder_stretches_its_scores(tools: StoreTools) -> None:
    hits = (await run(tools, CROSS)).hits
    assert hits[0].score == 1
    assert hits[-1].score == 0
    equal = StoreTools(tools.store, rank=lambda *_: 0.9)
    assert {hit.score for hit in (await run(equal, CROSS)).hits} == {0.5}


async def test_the_cross_encoder_asks_in_batches(tools: StoreTools) -> None:
    await run(tools, CROSS, {"batch_size": 3})
    assert [size for _, size in tools.reranked] == [3, 3, 1]


async def test_the_rerank_model_of_the_query_replaces_the_cross_encoders(tools: StoreTools) -> None:
    found = await run(tools, CROSS, rerank_model="judge")
    assert {model for model, _ in tools.reranked} == {"judge"} == {found.trace["rerank_model"]}


async def test_a_base_strategy_nobody_has_is_an_unknown_type(tools: StoreTools) -> None:
    with pytest.raises(UnknownType):
        await run(tools, CROSS, {"base_strategy": "Nobody"})


async def test_alpha_goes_to_those_strategies_that_can_use_it(tools: StoreTools) -> None:
    raw: dict[str, Json] = {"strategies": [{"type": "bm25"}, {"type": "hybrid"}]}
    one, other = [await run(tools, UNIVERSAL, raw, alpha=alpha) for alpha in (0.0, 1.0)]
    assert shown(one) != shown(other)


async def test_newer_chunks_go_first_when_recency_weighs(tools: StoreTools) -> None:
    only = {"similarity_weight": 0, "recency_weight": 1, "length_weight": 0, "metadata_weight": 0}
    hits = (await run(tools, "RerankedStrategy", {"rerank_factors": only})).hits
    assert [hit.metadata["kind"] for hit in hits] == ["farm"] * 3 + ["shop"] * 2 + ["sea"] * 2


async def test_dates_that_are_none_are_left_out() -> None:
    odd = MemoryStore(MemoryConfig())
    await fill(odd, COLLECTION, date=["yesterday", True, ""])
    only = {"similarity_weight": 1, "recency_weight": 1, "length_weight": 0, "metadata_weight": 0}
    assert (await run(StoreTools(odd), "RerankedStrategy", {"rerank_factors": only})).hits[0].score == 1


async def test_variety_puts_unlike_chunks_first() -> None:
    store = MemoryStore(MemoryConfig())
    await fill(store, {"a": ["milk of cows", "the milk of the cows", "goats give milk and cheese", "a ship"]})
    tools = StoreTools(store)
    assert set(ids(await run(tools, "semantic", text="milk"))[:2]) == {"a#0", "a#1"}
    assert ids(await run(tools, "mmr", {"lambda_mult": 0.5}, text="milk"))[1] == "a#2"


async def test_a_question_of_two_parts_is_taken_apart(tools: StoreTools) -> None:
    found = await run(tools, TURNS, text=TWO)
    assert found.trace["queries"] == ["Where does the ship go?", "How much milk is there?"]
    assert {"cows.md", "ships.md"} <= {hit.metadata["filename"] for hit in found.hits[:4]}


async def test_a_simple_question_costs_no_chat(tools: StoreTools) -> None:
    assert (await run(tools, TURNS)).trace["queries"] == [QUESTION]
    assert tools.asked == []


@pytest.mark.parametrize("text", [QUESTION, TWO])
async def test_an_extractive_model_takes_nothing_apart(store: MemoryStore, text: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await run(StoreTools(store), TURNS, text=text)
    assert caught.value.errors[0].field == "model_name"


async def test_a_chat_model_nobody_has_is_not_found(store: MemoryStore) -> None:
    with pytest.raises(ModelNotFound):
        await run(StoreTools(store, answer=lambda _: "x", only=[None]), TURNS, {"model_name": "nobody"})


async def test_at_most_so_many_searches_run_at_once(store: MemoryStore) -> None:
    class Counting(StoreTools):
        running = most = 0

        async def run(self, type_name: str, config: Mapping[str, Json], query: Query) -> Retrieved:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0)
            try:
                return await super().run(type_name, config, query)
            finally:
                self.running -= 1

    for workers in (1, 2):
        tools = Counting(store, answer=lambda _: "milk\nship\nbread\ncow")
        found = await builtin_strategies()[8].retrieve(
            Query(text=TWO), tools, MultiTurnConfig(max_workers=workers, max_sub_queries=4)
        )
        assert len(found.trace["queries"]) == 4
        assert tools.most == workers


async def test_fewer_chunks_than_asked_for_are_no_error(tools: StoreTools) -> None:
    assert len((await run(tools, "hybrid", top_k=500)).hits) == 7


def test_there_is_one_strategy_for_each_name() -> None:
    names = [item.name for one in builtin_strategies() for item in one.types]
    assert len(names) == len(set(names))
    assert {"semantic", "bm25", "hybrid", "mmr", "VectorRetriever", "RerankedRetriever"} <= set(names)
