"""For authors of retrieval strategies: tools to run one with, a small collection, and the conformance suite.

::

    class TestMine(RetrievalStrategySuite):
        @pytest.fixture
        def strategy(self):
            return Mine()

Needs the packages pytest and pytest-asyncio.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from paddock.builtin.hashing import HashingConfig, HashingEmbedder, words
from paddock.builtin.retrieval import builtin_strategies
from paddock.contracts.base import Json
from paddock.contracts.providers import (
    Query,
    RetrievalStrategy,
    Retrieved,
    StoredChunk,
    StoredFile,
    Vectors,
    VectorStore,
)
from paddock.errors import FieldError, ModelNotFound, ProviderUnavailable, UnknownType, ValidationFailed
from paddock.testing.memory_store import MemoryConfig, MemoryStore

COLLECTION: Mapping[str, tuple[str, ...]] = {
    "cows.md": (
        "Cows graze in the meadow and chew the cud. A cow gives milk twice a day.",
        "The milk of cows becomes butter, cheese and cream in the dairy.",
        "Calves drink milk for six months, then they graze with the cows.",
    ),
    "ships.md": (
        "The ship sails out of the harbour at noon with a load of timber.",
        "Sailors mend the sails and paint the hull while the ship lies in the harbour.",
    ),
    "bread.md": (
        "Bread is baked from flour, water, salt and yeast. The dough rests for an hour.",
        "The baker sells bread, butter and milk from six in the morning.",
    ),
}
QUESTION = "How much milk does a cow give?"
Rank = Callable[[str, str], float]
Answer = Callable[[str], str]


class StoreTools:
    """`RetrievalTools` over a store, with the hashing embedder and the core's strategies.

    `rank` plays the reranker (question and text to a score), `answer` the chat model (prompt to answer); without them
    there is no reranker, and the chat model only extracts. What was asked of them is kept in `reranked` and `asked`.
    `only` names the models that exist (None: all do).
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        rank: Rank | None = None,
        answer: Answer | None = None,
        more: Iterable[RetrievalStrategy] = (),
        only: Sequence[str | None] | None = None,
    ) -> None:
        self.store = store
        self.embedded: list[str] = []
        self.reranked: list[tuple[str | None, int]] = []
        self.asked: list[str] = []
        self._rank, self._answer, self._only = rank, answer, only
        self._embedder, self._config = HashingEmbedder(), HashingConfig()
        self._strategies = {item.name: one for one in (*builtin_strategies(), *more) for item in one.types}

    async def embed(self, text: str) -> Vectors:
        """By the hashing embedder."""
        self.embedded.append(text)
        vectors = await self._embedder.embed([text], self._config, "query")
        vector: Vectors = vectors[0]
        return vector

    async def rerank(self, model: str | None, query: str, documents: Sequence[str]) -> list[float]:
        """By `rank`."""
        if self._rank is None:
            raise ProviderUnavailable("no reranker is installed")
        self._check(model)
        self.reranked.append((model, len(documents)))
        return [self._rank(query, document) for document in documents]

    def can_ask(self, model: str | None) -> bool:
        """Whether there is an `answer`."""
        self._check(model)
        return self._answer is not None

    async def ask(self, model: str | None, prompt: str) -> str | None:
        """By `answer`."""
        self._check(model)
        self.asked.append(prompt)
        return None if self._answer is None else self._answer(prompt)

    async def run(self, type_name: str, config: Mapping[str, Json], query: Query) -> Retrieved:
        """Any of the core's strategies, and of `more`."""
        strategy = self._strategies.get(type_name)
        if strategy is None:
            raise UnknownType.of([FieldError("type", f"unknown strategy {type_name[:64]!r}")])
        return await strategy.retrieve(query, self, strategy.configure(type_name, config).config)

    def _check(self, model: str | None) -> None:
        if self._only is not None and model not in self._only:
            raise ModelNotFound(f"no model {model!r}")


def shared_words(question: str, text: str) -> float:
    """A reranker for tests: the share of the question's words that a text has."""
    asked = set(words(question))
    return len(asked & set(words(text))) / len(asked)


async def fill(store: VectorStore, files: Mapping[str, Sequence[str]], **metadata: Sequence[Json]) -> None:
    """Put files with their chunks into a store, embedded by the hashing embedder.

    Each keyword is a metadata key with one value for each file. Chunk ids are ``{filename}#{index}``.
    """
    embedder, config = HashingEmbedder(), HashingConfig()
    for at, (name, texts) in enumerate(files.items()):
        own = {key: values[at] for key, values in metadata.items()}
        chunks = [
            StoredChunk(chunk_id=f"{name}#{index}", index=index, text=text, metadata=own)
            for index, text in enumerate(texts)
        ]
        digest = f"{zlib.crc32(name.encode()):064x}"
        file = StoredFile(
            file_hash=digest, dataset="tests", filename=name, size=1, parser="none", token="", ingested_at=1.0 + at
        )
        await store.replace(file, chunks, await embedder.embed(texts, config, "document"))


class RetrievalStrategySuite:
    """What holds for every strategy. Override the fixture `strategy`, and what else differs.

    `alpha` and `metric` tell whether the strategy honours the query's; one that does not must refuse it by name.
    """

    type_name: str | None = None  # None: the canonical one
    raw_config: ClassVar[dict[str, Json]] = {}
    alpha = False
    metric = True

    @pytest.fixture
    def strategy(self) -> RetrievalStrategy:
        """The strategy under test."""
        raise NotImplementedError("override the fixture `strategy`")

    @pytest.fixture
    async def tools(self, strategy: RetrievalStrategy) -> StoreTools:
        """Tools over the small collection, with a reranker and a chat model."""
        store = MemoryStore(MemoryConfig())
        await fill(store, COLLECTION, kind=["farm", "sea", "shop"])
        return StoreTools(store, rank=shared_words, answer=lambda _: "milk of cows\ndairy products", more=[strategy])

    @pytest.fixture
    def config(self, strategy: RetrievalStrategy) -> Any:
        """The decoded config."""
        return strategy.configure(self.type_name or strategy.name, self.raw_config).config

    async def test_hits_are_ordered_scored_and_distinct(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails: best first, scores in [0, 1], each chunk once."""
        hits = (await strategy.retrieve(Query(text=QUESTION), tools, config)).hits
        scores = [hit.score for hit in hits]
        assert hits, "nothing found"
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores), scores
        assert len({hit.chunk_id for hit in hits}) == len(hits)

    async def test_the_fitting_file_comes_first(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, the question is not looked at."""
        for question, name in ((QUESTION, "cows.md"), ("Which ship lies in the harbour?", "ships.md")):
            hits = (await strategy.retrieve(Query(text=question), tools, config)).hits
            assert hits[0].metadata["filename"] == name

    @pytest.mark.parametrize("k", [1, 2, 3])
    async def test_top_k_of_the_query_counts(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any, k: int
    ) -> None:
        """If this fails, top_k is ignored, or the config's number of hits goes before it."""
        assert len((await strategy.retrieve(Query(text="milk", top_k=k), tools, config)).hits) == k

    async def test_no_hit_is_below_the_threshold(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, score_threshold is not applied to the score that is shown."""
        everything = (await strategy.retrieve(Query(text=QUESTION), tools, config)).hits
        least = everything[0].score
        kept = (await strategy.retrieve(Query(text=QUESTION, score_threshold=least), tools, config)).hits
        assert [hit.chunk_id for hit in kept] == [hit.chunk_id for hit in everything if hit.score >= least]

    async def test_filters_hold(self, strategy: RetrievalStrategy, tools: StoreTools, config: Any) -> None:
        """If this fails, a chunk that the filter excludes is found."""
        for filters in (
            {"kind": "shop"},
            {"filename": ["bread.md"]},
            {"chunk_index": {"gte": 0}, "kind": {"ne": "farm"}},
        ):
            hits = (await strategy.retrieve(Query(text="milk bread ship", filters=filters), tools, config)).hits
            assert hits, filters
            assert "farm" not in {hit.metadata["kind"] for hit in hits}, filters

    async def test_an_unknown_filter_operator_is_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, a filter that means nothing is taken for one that lets everything through."""
        with pytest.raises(ValidationFailed):
            await strategy.retrieve(Query(text=QUESTION, filters={"kind": {"like": "farm"}}), tools, config)

    async def test_the_metric_is_honoured_or_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, distance_metric is ignored: another metric gives other scores, or is a ValidationFailed."""
        await self._honoured_or_refused(strategy, tools, config, "distance_metric", honoured=self.metric, metric="l1")

    async def test_alpha_is_honoured_or_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, hybrid_alpha is ignored: another weight gives other scores, or is a ValidationFailed."""
        await self._honoured_or_refused(strategy, tools, config, "hybrid_alpha", honoured=self.alpha, alpha=0.9)

    async def _honoured_or_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any, field: str, *, honoured: bool, **asked: Any
    ) -> None:
        query = Query(text=QUESTION, **asked)
        if not honoured:
            with pytest.raises(ValidationFailed) as caught:
                await strategy.retrieve(query, tools, config)
            assert field in {error.field for error in caught.value.errors}
            return
        plain = (await strategy.retrieve(Query(text=QUESTION), tools, config)).hits
        other = (await strategy.retrieve(query, tools, config)).hits
        assert [(hit.chunk_id, hit.score) for hit in plain] != [(hit.chunk_id, hit.score) for hit in other]

    async def test_an_alpha_out_of_range_is_refused(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, weights are not checked."""
        for alpha in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValidationFailed):
                await strategy.retrieve(Query(text=QUESTION, alpha=alpha), tools, config)

    async def test_the_rerank_model_orders_the_hits(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, rerank_model is ignored: hits carry reranker_score, rerank_position and reranker_model."""
        hits = (await strategy.retrieve(Query(text=QUESTION, rerank_model="judge"), tools, config)).hits
        assert {hit.metadata["reranker_model"] for hit in hits} == {"judge"}
        assert [hit.metadata["rerank_position"] for hit in hits] == list(range(1, len(hits) + 1))
        assert ("judge", len(hits)) in tools.reranked or tools.reranked[-1][1] >= len(hits)

    async def test_a_missing_reranker_is_an_error(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, the order of the first stage is passed off as the reranker's."""
        without = StoreTools(tools.store, answer=lambda _: "milk", more=[strategy])
        with pytest.raises(ProviderUnavailable):
            await strategy.retrieve(Query(text=QUESTION, rerank_model="judge"), without, config)

    async def test_expansion_runs_other_queries(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, expansion is ignored, or the trace does not show the queries that ran."""
        found = await strategy.retrieve(Query(text=QUESTION, expansion=True), tools, config)
        assert len(found.trace["queries"]) > 1
        assert found.hits

    async def test_the_trace_shows_the_query(self, strategy: RetrievalStrategy, tools: StoreTools, config: Any) -> None:
        """If this fails, nobody can see what ran."""
        found = await strategy.retrieve(Query(text=QUESTION, expansion=False), tools, config)
        assert found.trace["queries"] == [QUESTION]

    @pytest.mark.parametrize(
        "text", ["", " ", '"', "NEAR(a b) OR *", "a" * 5000, "日本語", "\x00\x1b[31m", "' OR 1=1 --"]
    )
    async def test_any_text_is_a_query(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any, text: str
    ) -> None:
        """If this fails, a strange question is an error."""
        found = await strategy.retrieve(Query(text=text), tools, config)
        assert isinstance(found.hits, list)

    async def test_an_empty_database_has_no_hits(self, strategy: RetrievalStrategy, config: Any) -> None:
        """If this fails, the first question to a new database is an error."""
        tools = StoreTools(MemoryStore(MemoryConfig()), rank=shared_words, answer=lambda _: "milk", more=[strategy])
        for expansion in (None, True):
            assert (await strategy.retrieve(Query(text=QUESTION, expansion=expansion), tools, config)).hits == []

    async def test_concurrent_queries_do_not_mix(
        self, strategy: RetrievalStrategy, tools: StoreTools, config: Any
    ) -> None:
        """If this fails, state of one query leaks into another."""
        queries = [Query(text=text) for text in (QUESTION, "Which ship lies in the harbour?", "bread and flour")]
        alone = [await strategy.retrieve(query, tools, config) for query in queries]
        together = await asyncio.gather(*(strategy.retrieve(query, tools, config) for query in queries))
        assert [one.hits for one in alone] == [one.hits for one in together]

    async def test_an_unknown_option_is_refused_by_name(self, strategy: RetrievalStrategy) -> None:
        """If this fails, a mistyped option is ignored."""
        with pytest.raises(ValidationFailed) as caught:
            strategy.configure(self.type_name or strategy.name, {**self.raw_config, "no_such_option": 1})
        assert "no_such_option" in caught.value.message
