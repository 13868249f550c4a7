"""The conformance suite of vector stores. A store's whole test file is one subclass::

    class TestMyStore(VectorStoreSuite):
        @pytest.fixture
        def provider(self) -> VectorStoreProvider:
            return MyProvider()

It needs pytest-asyncio with ``asyncio_mode = "auto"``. Each test's docstring says what to look at when it fails. A store
that deviates marks the test in its subclass with ``xfail(strict=True, reason=…)``. `MemoryStore` is the reference.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import numpy as np
import pytest

from paddock.contracts.providers import Vectors, VectorStore, VectorStoreProvider
from paddock.errors import ValidationFailed
from paddock.testing.memory_store import MemoryConfig, MemoryStore, MemoryStorePlugin, MemoryStoreProvider
from paddock.testing.vector_store_kit import (
    DIMENSION,
    HOSTILE,
    LETTERS,
    both,
    chunks_of,
    file_of,
    fill,
    ids,
    vectors_of,
)
from paddock.testing.vector_store_search import SearchSuite

__all__ = [
    "MemoryConfig",
    "MemoryStore",
    "MemoryStorePlugin",
    "MemoryStoreProvider",
    "VectorStoreSuite",
    "chunks_of",
    "file_of",
]


class VectorStoreSuite(SearchSuite):
    """Everything that `VectorStore` and `VectorStoreProvider` promise. Override the fixture `provider`."""

    async def test_an_empty_store_answers_with_nothing(self, store: VectorStore) -> None:
        """A store without vectors has no dimension yet: nothing may raise."""
        assert await both(store, None) == [set(), set()]
        assert await both(store, {"kind": "a"}) == [set(), set()]
        assert await store.search_hybrid("common", [1.0] * DIMENSION, 5, 0.5) == []
        assert await store.documents(10) == []
        assert await store.chunks(["nobody"]) == []
        assert await store.find_file("notes", "0" * 64) is None
        assert await store.delete("notes") == 0
        stats = await store.stats()
        assert (stats.chunks, stats.documents) == (0, 0)

    async def test_a_hit_tells_everything_about_its_chunk(self, store: VectorStore) -> None:
        """Check that `metadata` holds filename, dataset, page and chunk_index besides the chunk's own values."""
        own = {
            "kind": "größe",
            "depth": 2,
            "tags": ["a", "b"],
            "ratio": 0.5,
            "done": True,
            "none": None,
            "in": {"a": 1},
        }
        stored = file_of("one")
        await store.replace(stored, chunks_of(stored, ["common\x00 text “quoted” 日本"], [own]), vectors_of(1))
        expected = {**own, "filename": "one.txt", "dataset": "notes", "page": 1, "chunk_index": 0}
        name = "notes/one.txt/run-1/0"
        for hit in (
            (await store.search_vectors(vectors_of(1)[0], 1))[0],
            (await store.search_text("text", 1))[0],
            (await store.chunks([name]))[0],
        ):
            assert (hit.chunk_id, hit.document_id, hit.metadata) == (name, stored.file_hash, expected)
            assert hit.content == "common\x00 text “quoted” 日本"

    async def test_replacing_with_the_same_changes_nothing(self, store: VectorStore) -> None:
        """`replace` is idempotent: a resumed task stores a file a second time."""
        names = await fill(store, "one", ["common alpha", "common beta"])
        assert await fill(store, "one", ["common alpha", "common beta"]) == names
        assert await both(store, None) == [set(names), set(names)]
        assert (await store.stats()).chunks == 2

    async def test_replacing_removes_what_the_file_had(self, store: VectorStore) -> None:
        """Look for rows that the earlier version left in the vectors, the full text or the chunk table."""
        old = await fill(store, "one", ["common alpha"] * 3)
        new = await fill(store, "one", ["common beta"], token="run-2")  # noqa: S106  no password
        assert await both(store, None) == [set(new), set(new)]
        assert await store.search_text("alpha", 5) == []
        assert await store.chunks(old) == []
        found = await store.find_file("notes", file_of("one").file_hash)
        assert found is not None
        assert (found.chunk_count, found.file.token) == (1, "run-2")

    async def test_a_file_without_chunks_is_stored(self, store: VectorStore) -> None:
        """An empty document is done too: it must be found, with no chunks, whatever shape its vectors have."""
        for empty in (np.empty((0, DIMENSION), dtype=np.float32), np.empty((0, 0), dtype=np.float32)):
            await store.replace(file_of("empty"), [], empty)
        found = await store.find_file("notes", file_of("empty").file_hash)
        assert found is not None
        assert found.chunk_count == 0
        assert await fill(store, "one", ["common"]) == ids(await store.search_text("common", 5))

    async def test_the_same_bytes_in_two_datasets_are_two_files(self, store: VectorStore) -> None:
        """A file is known by dataset and hash together."""
        first = await fill(store, "one", ["common alpha"], dataset="a")
        second = await fill(store, "one", ["common alpha"], dataset="b")
        assert await both(store, None) == [{*first, *second}] * 2
        assert await store.delete("a", file_of("one").file_hash) == 1
        assert await both(store, None) == [set(second)] * 2

    @pytest.mark.parametrize(
        ("vectors", "why"),
        [
            (vectors_of(2, dimension=DIMENSION + 1), "another dimension"),
            (vectors_of(1), "fewer vectors than chunks"),
            (vectors_of(3), "more vectors than chunks"),
            (np.full((2, DIMENSION), np.nan, dtype=np.float32), "NaN"),
            (np.array([[1.0] * DIMENSION, [math.inf] * DIMENSION], dtype=np.float32), "infinity"),
            (np.full((2, DIMENSION), 1e30, dtype=np.float32), "a length that float32 can't hold"),
            (np.ones(DIMENSION, dtype=np.float32), "one row"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_bad_vectors_are_refused_and_nothing_changes(
        self, store: VectorStore, vectors: Vectors, why: str
    ) -> None:
        """Check before the first row is written: the file's earlier version must still be whole."""
        assert why, "every case says what is wrong with its vectors"
        names = await fill(store, "one", ["common alpha", "common beta"])
        stored = file_of("one", token="run-2")  # noqa: S106  no password
        with pytest.raises(ValidationFailed):
            await store.replace(stored, chunks_of(stored, ["common gamma", "common delta"]), vectors)
        assert await both(store, None) == [set(names)] * 2

    async def test_names_of_files_are_never_code(self, store: VectorStore) -> None:
        """Dataset, token and file name come from outside."""
        for at, text in enumerate(HOSTILE):
            await fill(store, f"{at}{text}", ["common"], dataset=text, token=text)
        assert (await store.stats()).documents == len(HOSTILE)
        for at, text in enumerate(HOSTILE):
            assert await both(store, {"dataset": text}) == [{f"{text}/{at}{text}.txt/{text}/0"}] * 2
            assert await store.delete(text) == 1
        assert (await store.stats()).chunks == 0

    async def test_a_deleted_file_is_gone_everywhere(self, store: VectorStore) -> None:
        """Look into every table and index that the chunk was in."""
        gone = await fill(store, "one", ["common alpha", "common beta"])
        kept = await fill(store, "three", ["common gamma"])
        assert await store.delete("notes", file_of("one").file_hash) == 2
        assert await store.delete("notes", file_of("one").file_hash) == 0
        assert await both(store, None) == [set(kept)] * 2
        assert await store.search_text("alpha", 5) == []
        assert await store.chunks(gone) == []
        assert await store.find_file("notes", file_of("one").file_hash) is None
        assert [document.file.filename for document in await store.documents(9)] == ["three.txt"]

    async def test_a_deleted_dataset_takes_its_files_and_no_others(self, store: VectorStore) -> None:
        """The count is that of the chunks; a dataset nobody knows counts 0."""
        for name in ("one", "three", "fifth"):
            await fill(store, name, ["common", "common"], dataset="a")
        kept = await fill(store, "one", ["common"], dataset="b")
        assert await store.delete("nobody") == 0
        assert await store.delete("a") == 6
        assert await both(store, None) == [set(kept)] * 2

    async def test_documents_are_listed_newest_first(self, store: VectorStore) -> None:
        """Order by `ingested_at`, whatever the order of storing; all fields of the file come back."""
        times = {"one": 3.0, "three": 1.0, "fifth": 2.0}
        for name, at in times.items():
            await fill(store, name, ["common"] * (len(name)), at=at)
        found = await store.documents(9)
        assert [document.file.filename for document in found] == ["one.txt", "fifth.txt", "three.txt"]
        assert found[0].file == file_of("one", at=3.0)
        assert [document.chunk_count for document in found] == [3, 5, 5]
        assert await store.documents(1, 1) == found[1:2]
        assert await store.documents(5, 3) == []
        assert await store.documents(0) == []
        assert await store.find_file("notes", file_of("one").file_hash) == found[0]

    async def test_chunks_come_in_the_order_asked(self, store: VectorStore) -> None:
        """Unknown ids are left out, score is 0."""
        names = await fill(store, "one", list(LETTERS[:3]))
        found = await store.chunks([names[2], "nobody", *HOSTILE, names[0]])
        assert [(hit.chunk_id, hit.content, hit.score) for hit in found] == [
            (names[2], "gamma", 0),
            (names[0], "alpha", 0),
        ]

    async def test_statistics_count_what_is_stored(self, store: VectorStore) -> None:
        """Counts after storing and after deleting."""
        await fill(store, "one", ["common"] * 3)
        await fill(store, "three", ["common"] * 2)
        stats = await store.stats()
        assert (stats.chunks, stats.documents, stats.dimension, stats.metric) == (5, 2, DIMENSION, "cosine")
        assert stats.size_bytes > 0
        assert stats.last_updated is not None
        await store.delete("notes", file_of("one").file_hash)
        assert (await store.stats()).chunks == 2

    async def test_what_is_stored_survives_closing(self, provider: VectorStoreProvider, tmp_path: Path) -> None:
        """Close, open again: the same chunks, the same answers; closing twice does no harm."""
        config = self.configure(provider, "cosine")
        store = await provider.open(tmp_path / "database", config)
        names = await fill(store, "one", ["common alpha", "common beta"])
        before = await store.search_vectors(vectors_of(1)[0], 5)
        await store.close()
        await store.close()
        store = await provider.open(tmp_path / "database", config)
        after = await store.search_vectors(vectors_of(1)[0], 5)
        assert ids(after) == ids(before)
        assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before], abs=1e-5)
        assert await both(store, None) == [set(names)] * 2
        await store.close()

    async def test_a_dropped_database_is_empty_and_no_other_is(
        self, provider: VectorStoreProvider, tmp_path: Path
    ) -> None:
        """`drop` deletes for good; dropping what is not there counts as done."""
        config = self.configure(provider, "cosine")
        for name in ("first", "second"):
            store = await provider.open(tmp_path / name, config)
            await fill(store, "one", ["common"])
            await store.close()
        await provider.drop(tmp_path / "first", config)
        await provider.drop(tmp_path / "first", config)
        counts = []
        for name in ("first", "second"):
            store = await provider.open(tmp_path / name, config)
            counts.append((await store.stats()).chunks)
            await store.close()
        assert counts == [0, 1]

    async def test_readers_see_a_file_whole_or_not_at_all(self, store: VectorStore) -> None:
        """While a file is replaced and deleted, every search finds one of its versions, complete, or nothing."""
        count, done = 30, asyncio.Event()
        versions = {f"run-{at}": {f"notes/one.txt/run-{at}/{index}" for index in range(count)} for at in range(12)}

        async def write() -> None:
            for at, token in enumerate(versions):
                await fill(store, "one", ["common words"] * count, token=token)
                if at % 4 == 3:
                    await store.delete("notes", file_of("one").file_hash)
            done.set()

        async def read() -> int:
            rounds = 0
            while not done.is_set() or rounds < 2:
                for found in await both(store, None, k=3 * count):
                    assert not found or found in versions.values()
                rounds += 1
            return rounds

        _, *rounds = await asyncio.gather(write(), read(), read())
        assert min(rounds) >= 2

    async def test_files_stored_at_once_are_all_there(self, store: VectorStore) -> None:
        """Concurrent writers neither wait for ever nor lose anything."""
        names = await asyncio.gather(*(fill(store, f"file{at}", ["common words"] * 3) for at in range(20)))
        expected = {name for file in names for name in file}
        assert await both(store, None, k=100) == [expected, expected]
        assert (await store.stats()).chunks == 60
