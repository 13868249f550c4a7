"""The half of the vector stores' conformance suite that is about searching; see `paddock.testing.vector_store`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from paddock.contracts.providers import Metric, VectorStore, VectorStoreProvider
from paddock.errors import ValidationFailed
from paddock.testing.vector_store_kit import (
    DIMENSION,
    HOSTILE,
    LETTERS,
    METRICS,
    both,
    chunks_of,
    expected_scores,
    file_of,
    fill,
    ids,
    vectors_of,
)


class OpenedStore:
    """The fixtures: a provider, and an empty store of it."""

    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    @pytest.fixture
    def provider(self) -> VectorStoreProvider:
        """The provider under test."""
        raise NotImplementedError("override the fixture `provider` and return the provider under test")

    def configure(self, provider: VectorStoreProvider, metric: Metric) -> Any:
        """A config for this metric; override when the key is not called `metric`."""
        return provider.configure(provider.name, {"metric": metric}).config

    @pytest.fixture
    async def store(self, provider: VectorStoreProvider, tmp_path: Path) -> AsyncIterator[VectorStore]:
        """An empty store with cosine distance."""
        store = await provider.open(tmp_path / "database", self.configure(provider, "cosine"))
        yield store
        await store.close()


class SearchSuite(OpenedStore):
    """Scores, order, words, filters."""

    @pytest.mark.parametrize("query", [[1.0] * (DIMENSION + 1), [math.nan] * DIMENSION, [math.inf] * DIMENSION, []])
    async def test_a_bad_query_vector_is_refused(self, store: VectorStore, query: list[float]) -> None:
        """NaN sorts nowhere and poisons every comparison: refuse it."""
        await fill(store, "one", ["common"])
        with pytest.raises(ValidationFailed):
            await store.search_vectors(query, 3)

    @pytest.mark.parametrize("own", METRICS)
    @pytest.mark.parametrize("asked", [None, *METRICS])
    async def test_scores_follow_the_formula(
        self, provider: VectorStoreProvider, tmp_path: Path, own: Metric, asked: Metric | None
    ) -> None:
        """cosine max(0, cos); l2 and l1 1/(1+d), d not squared; dot sigmoid; whichever metric the store was made with."""
        if own not in self.metrics:
            pytest.skip(f"the store has no metric {own}")
        store = await provider.open(tmp_path / "database", self.configure(provider, own))
        stored, stored_vectors, query = file_of("one"), vectors_of(40), vectors_of(1, seed=9)[0]
        await store.replace(stored, chunks_of(stored, ["text"] * 40), stored_vectors)
        found = [hit.score for hit in await store.search_vectors(query, 40, metric=asked)]
        await store.close()
        assert found == pytest.approx(expected_scores(asked or own, stored_vectors, query), abs=1e-5)
        assert found == sorted(found, reverse=True)

    async def test_the_nearest_come_first(self, store: VectorStore) -> None:
        """The order is that of an exact search."""
        stored, stored_vectors, query = file_of("one"), vectors_of(200), vectors_of(1, seed=9)[0]
        chunks = chunks_of(stored, ["text"] * 200)
        names = [chunk.chunk_id for chunk in chunks]
        await store.replace(stored, chunks, stored_vectors)
        cosines = stored_vectors @ query / np.linalg.norm(stored_vectors, axis=1)
        expected = [names[at] for at in np.argsort(-cosines)[:10]]
        assert ids(await store.search_vectors(query, 10)) == expected
        assert ids(await store.search_vectors(query.tolist(), 10)) == expected

    @pytest.mark.parametrize("metric", METRICS)
    async def test_vectors_of_length_zero_are_no_trouble(self, store: VectorStore, metric: Metric) -> None:
        """A text without words may embed to zeros; by cosine it has score 0, and so has everything for a zero query."""
        stored, zero = file_of("one"), np.zeros(DIMENSION, dtype=np.float32)
        chunks = chunks_of(stored, ["common"] * 4)
        names = [chunk.chunk_id for chunk in chunks]
        rows = vectors_of(4)
        rows[1] = 0
        await store.replace(stored, chunks, rows)
        found = await store.search_vectors(rows[0], 9, metric=metric)
        assert set(ids(found)) == set(names)
        assert all(math.isfinite(hit.score) and 0 <= hit.score <= 1 for hit in found)
        zeros = {"cosine": 0, "dot": 0.5, "l2": 1.0, "l1": 1.0}
        hits = await store.search_vectors(zero, 9, metric=metric)
        assert {hit.chunk_id: hit.score for hit in hits}[names[1]] == pytest.approx(zeros[metric])
        assert len(hits) == 4
        assert set(ids(await store.search_vectors(rows[0], 9, {"chunk_index": 1}, metric))) == {names[1]}

    @pytest.mark.parametrize("k", [0, -1, 1, 7, 50, 4097, 100_000])
    async def test_any_k_is_allowed(self, store: VectorStore, k: int) -> None:
        """An index may have a limit of its own; the store must answer beyond it."""
        stored = file_of("one")
        await store.replace(stored, chunks_of(stored, ["common"] * 50), vectors_of(50))
        expected = max(0, min(k, 50))
        assert len(await store.search_vectors(vectors_of(1, seed=3)[0], k)) == expected
        assert len(await store.search_text("common", k)) == expected

    async def test_thousands_can_be_fetched_at_once(self, store: VectorStore) -> None:
        """More hits than an index returns (4096 for vec0): fall back to a scan."""
        stored = file_of("one")
        await store.replace(stored, chunks_of(stored, ["common"] * 4200), vectors_of(4200))
        assert len(set(ids(await store.search_vectors(vectors_of(1, seed=3)[0], 4150)))) == 4150

    async def test_more_and_rarer_words_rank_higher(self, store: VectorStore) -> None:
        """BM25: a rare word weighs more than a common one, two words more than one; scores are in (0, 1)."""
        names = await fill(store, "one", ["rose garden", "garden tools", "garden fence", "rose", "unrelated words"])
        found = await store.search_text("rose garden", 9)
        assert ids(found)[0] == names[0]
        assert set(ids(found)) == set(names[:4])
        scores = [hit.score for hit in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score < 1 for score in scores)

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "   ",
            '"',
            "'",
            '"alpha',
            "alpha AND",
            "NOT",
            "OR",
            "NEAR(alpha beta, 2)",
            "alpha*",
            "^alpha",
            "text:alpha",
            "(((",
            "{alpha}",
            "-alpha +beta",
            "a" * 100_000,
            "alpha beta " * 10_000,
            "".join(chr(at) for at in range(1, 0x300)),
            "\x00alpha\x00",
            "\ud800alpha",
            "🎉 \u202e ﷽",
            "'; DROP TABLE chunks; --",
        ],
        ids=lambda query: ascii(query[:20]),
    )
    async def test_any_text_can_be_asked(self, store: VectorStore, query: str) -> None:
        """No character of a query is an operator, and none may raise; a query without words finds nothing."""
        names = await fill(store, "one", ["alpha beta", "gamma"])
        found = await store.search_text(query, 5)
        assert set(ids(found)) <= {names[0]}
        if "alpha" in query:
            assert ids(found) == [names[0]]

    async def test_operators_of_query_languages_are_words(self, store: VectorStore) -> None:
        """``NOT`` and ``OR`` are looked for like other words."""
        names = await fill(store, "one", ["to be or not to be", "alpha", "near misses"])
        assert ids(await store.search_text("NOT OR", 5)) == [names[0]]
        assert set(ids(await store.search_text("alpha NOT near", 5))) == set(names)

    @pytest.mark.parametrize("word", ["größe", "GRÖSSE".lower(), "élève", "слово", "日本語", "naïve"])
    async def test_words_of_all_languages_are_found(self, store: VectorStore, word: str) -> None:
        """Words are Unicode words, upper and lower case alike."""
        names = await fill(store, "one", [f"before {word} after", "other"])
        assert ids(await store.search_text(word, 5)) == [names[0]]
        assert ids(await store.search_text(word.title(), 5)) == [names[0]]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({"kind": "a"}, [0, 2]),
            ({"kind": ["a", "b"]}, [0, 1, 2]),
            ({"kind": []}, []),
            ({"kind": "missing"}, []),
            ({"nokey": "a"}, []),
            ({"nokey": None}, [0, 1, 2, 3]),
            ({"kind": None}, [3]),
            ({"kind": ["b", None]}, [1, 3]),
            ({"kind": {"ne": "a"}}, [1, 3]),
            ({"kind": "a", "number": 2}, [2]),
            ({"number": 1}, [1]),
            ({"number": 1.0}, [1]),
            ({"number": "1"}, []),
            ({"number": [0, 3]}, [0, 3]),
            ({"number": {"gte": 1, "lt": 3}}, [1, 2]),
            ({"number": {"gt": 1, "lte": 3}}, [2, 3]),
            ({"number": {"gte": 1.5}}, [2, 3]),
            ({"number": {"gte": "0"}}, []),
            ({"number": {"ne": 2}}, [0, 1, 3]),
            ({"when": {"gte": "2024-02", "lt": "2024-04"}}, [1, 2]),
            ({"flag": True}, [0, 2]),
            ({"flag": {"ne": True}}, [1, 3]),
            ({"chunk_index": {"gte": 2}}, [2, 3]),
            ({"page": 2}, [2, 3]),
            ({"filename": "one.txt"}, [0, 1, 2, 3]),
            ({"filename": {"ne": "one.txt"}}, []),
            ({"dataset": ["notes", "other"]}, [0, 1, 2, 3]),
            ({"dataset": "other"}, []),
            ({"file_hash": file_of("one").file_hash, "kind": "b"}, [1]),
            ({"file_hash": "0" * 64}, []),
        ],
        ids=str,
    )
    async def test_filters_allow_exactly_what_they_say(
        self, store: VectorStore, filters: dict[str, Any], expected: list[int]
    ) -> None:
        """Text equals only text, numbers only numbers; a missing key is null and differs from every value."""
        metadata = [
            {"kind": kind, "number": at, "when": f"2024-0{at + 1}-15", "flag": at % 2 == 0}
            for at, kind in enumerate(["a", "b", "a", None])
        ]
        names = await fill(store, "one", [f"common {word}" for word in LETTERS[:4]], metadata)
        assert await both(store, filters) == [{names[at] for at in expected}] * 2
        hybrid = await store.search_hybrid("common", [1.0] * DIMENSION, 9, 0.5, filters)
        assert set(ids(hybrid)) == {names[at] for at in expected}

    async def test_filters_never_starve_a_search(self, store: VectorStore) -> None:
        """Chunks that a filter allows are found however far they are: filter first, or fetch more until k are there."""
        count, rare = 600, 7
        metadata = [{"kind": "rare" if at < rare else "common"} for at in range(count)]
        rows = np.abs(vectors_of(count))
        rows[:rare] *= -1  # far from the query
        texts = ["common"] * count
        texts[:rare] = ["common and with many more words of no use"] * rare
        stored = file_of("one")
        await store.replace(stored, chunks_of(stored, texts, metadata), rows)
        expected = {f"notes/one.txt/run-1/{at}" for at in range(rare)}
        assert await both(store, {"kind": "rare"}, k=rare) == [expected, expected]
        assert [len(found) for found in await both(store, {"kind": "common"}, k=20)] == [20, 20]

    @pytest.mark.parametrize(
        "filters",
        [
            {"kind": {"like": "a%"}},
            {"kind": {"$gte": 1}},
            {"kind": {}},
            {"kind": {"gte": None}},
            {"kind": {"gte": [1]}},
            {"kind": {"gte": math.nan}},
            {"kind": math.inf},
            {"kind": [["a"]]},
            {"kind": [{"a": 1}]},
            {"kind": 2**64},
            {"kind": b"bytes"},
            {"kind": "\ud800"},
            {"": "a"},
            {"a\x00b": "a"},
            {"k" * 1000: "a"},
            {3: "a"},
        ],
        ids=ascii,
    )
    async def test_malformed_filters_are_refused(self, store: VectorStore, filters: dict[Any, Any]) -> None:
        """A filter that can't be honoured must never be left out: that would show chunks which it forbids."""
        await fill(store, "one", ["common"])
        with pytest.raises(ValidationFailed):
            await store.search_vectors(np.ones(DIMENSION, dtype=np.float32), 3, filters)
        with pytest.raises(ValidationFailed):
            await store.search_text("common", 3, filters)

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_keys_and_values_of_filters_are_never_code(self, store: VectorStore, text: str) -> None:
        """Bind every key and value. A key with dots or quotes is one key, not a path."""
        metadata: list[dict[str, Any]] = [{text: "here"}, {"kind": text}, {"a": {"b": "here"}}, {"a": ["here"]}]
        names = await fill(store, "one", [f"common {word}" for word in LETTERS[:4]], metadata)
        assert await both(store, {text: "here"}) == [{names[0]}] * 2
        assert await both(store, {text: {"gte": "here"}}) == [{names[0]}] * 2
        assert await both(store, {"kind": text}) == [{names[1]}] * 2
        assert await both(store, {"kind": [text]}) == [{names[1]}] * 2
        assert await both(store, {"kind": {"ne": text}}) == [{names[0], names[2], names[3]}] * 2
        assert await both(store, {"filename": text}) == [set(), set()]
        assert await both(store, {"a": '["here"]'}) == [set(), set()]
        assert (await store.stats()).chunks == 4

    async def test_hybrid_search_weighs_both(self, store: VectorStore) -> None:
        """alpha 1 is the vectors' order, alpha 0 that of the words; between them a chunk good at both wins."""
        stored, rows = file_of("one"), np.eye(DIMENSION, dtype=np.float32)[:4]
        chunks = chunks_of(stored, ["x", "rose garden", "rose", "y"])
        names = [chunk.chunk_id for chunk in chunks]
        await store.replace(stored, chunks, rows)
        query = np.array([1, 0, 0.9, 0, 0, 0, 0, 0], dtype=np.float32)
        assert ids(await store.search_hybrid("rose garden", query, 4, 1.0))[:2] == [names[0], names[2]]
        assert ids(await store.search_hybrid("rose garden", query, 4, 0.0))[:2] == [names[1], names[2]]
        mixed = await store.search_hybrid("rose garden", query, 4, 0.5)
        assert ids(mixed)[0] == names[2]
        assert all(0 <= hit.score <= 1 for hit in mixed)
        assert len(await store.search_hybrid("rose garden", query, 1, 0.5)) == 1

    async def test_another_metric_in_the_config_changes_the_scores(
        self, provider: VectorStoreProvider, tmp_path: Path
    ) -> None:
        """A filled store that is opened with another metric answers with it, at once or after building again."""
        rows, query, stored = vectors_of(20), vectors_of(1, seed=9)[0], file_of("one")
        for metric in self.metrics:
            store = await provider.open(tmp_path / "database", self.configure(provider, metric))
            await store.replace(stored, chunks_of(stored, ["common"] * 20), rows)
            found = [hit.score for hit in await store.search_vectors(query, 20)]
            stats = await store.stats()
            await store.close()
            assert found == pytest.approx(expected_scores(metric, rows, query), abs=1e-5)
            assert (stats.metric, provider.metric(self.configure(provider, metric))) == (metric, metric)
