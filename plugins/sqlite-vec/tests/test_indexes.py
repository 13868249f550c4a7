"""The derived indexes: level, behind, lost, damaged, of another history; the answers are always SQLite's."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paddock_sqlite_vec.schema import FILE_NAME, INDEX_FOLDER
from paddock_sqlite_vec.settings import SqliteVecSettings
from paddock_sqlite_vec.store import SqliteVecStore
from sqlite_vec_kit import DIMENSION, FAST, PLAIN, check, content, fill, found, opened


def graphs(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / INDEX_FOLDER / "vectors").glob("*.usearch"))


async def states(store: SqliteVecStore) -> dict[str, Any]:
    indexes = (await store.stats()).indexes
    return {name: indexes[name] for name in ("vectors", "texts")}


async def test_there_are_no_indexes_up_to_the_threshold(tmp_path: Path) -> None:
    async with opened(tmp_path, SqliteVecSettings(fast_above=40)) as store:
        await fill(store, range(2))
        await store.level()
        assert not (tmp_path / INDEX_FOLDER).exists()
        await fill(store, range(2, 3))
        await store.level()
        assert all(state["answers"] for state in (await states(store)).values())
        assert (await store.stats()).index_size_bytes > 0
        await check(store, tmp_path)


async def test_indexes_follow_every_change(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(12):
            await fill(store, range(number, number + 1))
            await check(store, tmp_path)
            await fill(store, range(number // 2, number // 2 + 1), version=f"again{number}")
            await check(store, tmp_path)
            await store.delete("set0", f"{number - 4:064x}" if number % 2 else "unknown")
            await check(store, tmp_path)
        await store.level()
        await check(store, tmp_path)
        assert await store.delete("set1") > 0
        await check(store, tmp_path)


async def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, range(5))
        await store.level()
    before = graphs(tmp_path)
    assert len(before) == 1
    async with opened(tmp_path) as store:
        await store.level()
        assert all(state["answers"] and state["up_to"] == 100 for state in (await states(store)).values())
        await check(store, tmp_path)
    assert graphs(tmp_path) == before


async def test_what_came_and_went_meanwhile_is_caught_up(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, range(5))
        await store.level()
    async with opened(tmp_path, PLAIN) as store:
        await store.delete("set1")
        await fill(store, range(2, 3), version="again")
        await fill(store, range(7, 9))
    async with opened(tmp_path) as store:
        await check(store, tmp_path)
        await store.level()
        await check(store, tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 7):
        data[at] ^= 0x5A
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm",
    [truncate, garble, lambda path: path.write_bytes(b""), Path.unlink],
    ids=["cut", "garbled", "emptied", "lost"],
)
@pytest.mark.parametrize(
    "kind", ["vectors/manifest.json", "vectors/*.usearch", "texts/manifest.json", "texts/meta.json", "texts/*.*"]
)
async def test_damaged_indexes_are_built_again(
    tmp_path: Path, harm: Callable[[Path], None], kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as store:
        await fill(store, range(5))
        await store.level()
    harmed = [path for path in (tmp_path / INDEX_FOLDER).glob(kind) if path.is_file()]
    assert harmed
    for path in harmed:
        harm(path)
    async with opened(tmp_path) as store:
        await check(store, tmp_path)
        await store.level()
        await check(store, tmp_path)
        assert all(state["answers"] and "problem" not in state for state in (await states(store)).values())
    assert "is built again" in caplog.text


async def test_lost_indexes_are_built_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, range(5))
        await store.level()
    shutil.rmtree(tmp_path / INDEX_FOLDER)
    async with opened(tmp_path) as store:
        await store.level()
        assert all(state["up_to"] == 100 for state in (await states(store)).values())
        await check(store, tmp_path)


async def test_a_restored_backup_does_not_meet_the_indexes_of_its_future(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await fill(store, range(3))
    shutil.copy(tmp_path / FILE_NAME, tmp_path / "backup")
    async with opened(tmp_path) as store:
        await fill(store, range(3, 6))
        await store.level()
    shutil.copy(tmp_path / "backup", tmp_path / FILE_NAME)
    async with opened(tmp_path, PLAIN) as store:  # ids and sequence numbers are given a second time
        await fill(store, range(6, 9), version="other")
    async with opened(tmp_path) as store:
        await check(store, tmp_path)
        await store.level()
        await check(store, tmp_path)


async def test_another_metric_builds_the_graph_again(tmp_path: Path) -> None:
    for metric in ("cosine", "l2", "dot", "l1", "cosine"):
        async with opened(tmp_path, metric=metric) as store:
            await fill(store, range(5))
            await store.level()
            assert (await states(store))["vectors"]["answers"] == (metric in {"cosine", "l2"})
            async with opened(tmp_path, PLAIN, metric=metric) as plain:
                query = content(99, 1, "query")[2][0]
                assert found(await store.search_vectors(query, 5)) == found(await plain.search_vectors(query, 5))


async def test_a_second_opener_answers_from_sqlite(tmp_path: Path) -> None:
    async with opened(tmp_path) as first:
        await fill(first, range(3))
        await first.level()  # now it holds the folder; opened side by side, either of the two might
        async with opened(tmp_path) as second:
            await second.level()
            assert all("somebody else" in state["problem"] for state in (await states(second)).values())
            await fill(second, range(3, 5))
            await check(first, tmp_path)
            await check(second, tmp_path)


async def test_a_graph_full_of_dead_chunks_is_built_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for version in range(8):
            await fill(store, range(1), count=400, version=f"v{version}")
            await store.level()
            await check(store, tmp_path)
        assert store._keeper is not None
        assert store._keeper.vectors is not None
        assert len(store._keeper.vectors) <= 400 * 1.5 + 1000
    assert len(graphs(tmp_path)) == 1


async def test_a_filter_that_allows_few_is_answered_in_full(tmp_path: Path) -> None:
    async with opened(tmp_path, FAST) as store:
        await fill(store, range(40), count=100)
        await store.level()
        query = content(99, 1, "query")[2][0]
        for filters in ({"filename": "file7.txt", "part": 3}, {"chunk_index": 99}, {"part": {"ne": 0}}):
            async with opened(tmp_path, PLAIN) as plain:
                for k in (5, 20, 60):
                    assert found(await store.search_vectors(query, k, filters)) == found(
                        await plain.search_vectors(query, k, filters)
                    )
                    assert len(await store.search_text("common", k, filters)) == len(
                        await plain.search_text("common", k, filters)
                    )


@pytest.mark.parametrize("settings", [PLAIN, FAST])
async def test_words_are_found_by_their_stems(tmp_path: Path, settings: SqliteVecSettings) -> None:
    async with opened(tmp_path, settings) as store:
        file, chunks, vectors = content(1, 3, "stems")
        texts = ["running databases", "he runs a database", "an élève"]
        await store.replace(file, [chunk_with(chunk, text) for chunk, text in zip(chunks, texts, strict=True)], vectors)
        await store.level()
        assert len(await store.search_text("run databases", 5)) == 2
        assert len(await store.search_text("eleve", 5)) == 1


def chunk_with(chunk: Any, text: str) -> Any:
    return type(chunk)(chunk_id=chunk.chunk_id, index=chunk.index, text=text, metadata={"dimension": DIMENSION})
