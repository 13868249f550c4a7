"""The opened databases: shared, closed when idle, never used after they were closed or deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from paddock.errors import Conflict, DatabaseNotFound, ProjectNotFound, ProviderUnavailable, StrategyNotFound
from paddock.services.ingest import ChunkChange
from paddock.services.stores import OpenDatabase, Stores


@pytest.fixture
def stores(farm: Any) -> Stores:
    found: Stores = farm.services.stores
    return found


def database(tmp_path: Path) -> Path:
    return tmp_path / "data/projects/farm/field/lf_data/stores/main"


async def test_users_of_one_database_share_it(stores: Stores) -> None:
    async with stores.using("farm", "field", "main") as first, stores.using("farm", "field") as second:
        assert first.store is second.store
        assert first.config.name == second.config.name == "main"


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (("farm", "none", "main"), ProjectNotFound),
        (("farm", "field", "none"), DatabaseNotFound),
    ],
)
async def test_an_unknown_database_is_not_found_and_not_created(
    stores: Stores, tmp_path: Path, place: tuple[str, str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with stores.using(*place):
            pass
    assert not (tmp_path / "data/projects/farm/field/lf_data").exists()


async def test_an_unknown_embedding_strategy_is_not_found(stores: Stores) -> None:
    with pytest.raises(StrategyNotFound):
        async with stores.using("farm", "field", "main", embedding="none"):
            pass


async def test_idle_databases_are_closed_and_used_ones_are_not(stores: Stores) -> None:
    async with stores.using("farm", "field", "main") as used:
        async with stores.using("farm", "field", "other") as idle:
            pass
        assert await stores.close_idle(0) == 1
        assert (await used.store.stats()).chunks == 0
        with pytest.raises(Exception, match="closed"):
            await idle.store.stats()
    async with stores.using("farm", "field", "other") as again:
        assert (await again.store.stats()).chunks == 0


async def test_drop_waits_for_users_and_a_later_user_finds_an_empty_database(farm: Any, stores: Stores) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()
    order = []
    inside, go = asyncio.Event(), asyncio.Event()

    async def use() -> None:
        async with stores.using("farm", "field", "main") as opened:
            inside.set()
            await go.wait()
            order.append(("used", (await opened.store.stats()).chunks))

    async def drop() -> None:
        config = (await farm.services.files.config("farm", "field")).database("main")
        await stores.drop("farm", "field", config)
        order.append(("dropped", 0))

    using = asyncio.create_task(use())
    await inside.wait()
    dropping = asyncio.create_task(drop())
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(using, dropping)
    assert order == [("used", 3), ("dropped", 0)]
    assert await farm.chunks() == 0


async def test_many_open_close_and_use_at_once(farm: Any, stores: Stores) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()

    async def use() -> int:
        async with stores.using("farm", "field", "main") as opened:
            return (await opened.store.stats()).chunks

    async def close() -> int:
        await stores.close("farm", "field", "main")
        return 3

    assert set(await asyncio.gather(*(close() if n % 3 == 0 else use() for n in range(60)))) == {3}


async def test_a_changed_configuration_opens_the_database_anew(farm: Any, stores: Stores) -> None:
    async with stores.using("farm", "field", "main") as before:
        assert before.metric == "cosine"

    def other_metric(raw: Any) -> None:
        raw["rag"]["databases"][0]["config"] = {"distance_function": "l2"}

    await farm.services.files.edit("farm", "field", other_metric)
    async with stores.using("farm", "field", "main") as after:
        assert after.metric == "l2"
        assert after.store is not before.store


async def test_a_database_without_an_embedder_says_what_to_add(farm: Any, stores: Stores) -> None:
    def without(raw: Any) -> None:
        del raw["rag"]["databases"][0]["embedding_strategies"]

    await farm.services.files.edit("farm", "field", without)
    async with stores.using("farm", "field", "main") as opened:
        assert opened.embedder is None
        with pytest.raises(Conflict, match="embedding_strategies"):
            await opened.check_embedder()
    await farm.upload("a.txt", "a")
    assert "embedding" in (await farm.process())["result"]["details"][0]["error"]


async def test_a_filled_database_refuses_the_vectors_of_another_embedder_in_queries_too(
    farm: Any, stores: Stores
) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()

    def other(raw: Any) -> None:
        raw["rag"]["databases"][0]["embedding_strategies"][0]["config"] = {"dimension": 64}

    await farm.services.files.edit("farm", "field", other)
    async with stores.using("farm", "field", "main") as opened:
        with pytest.raises(Conflict, match="delete_dataset_chunks"):
            await opened.check_embedder()


async def test_chunks_whose_embedder_was_never_written_down_are_kept(farm: Any, stores: Stores, tmp_path: Path) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()
    await stores.close("farm", "field", "main")
    (database(tmp_path) / "embedder.json").unlink()
    await farm.upload("b.txt", "b" * 100)
    await farm.process()
    assert await farm.chunks() == 4
    assert (database(tmp_path) / "embedder.json").is_file()


async def test_a_damaged_note_of_the_embedder_is_told_and_never_guessed(
    farm: Any, stores: Stores, tmp_path: Path
) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()
    await stores.close("farm", "field", "main")
    (database(tmp_path) / "embedder.json").write_bytes(b"{")
    with pytest.raises(ProviderUnavailable, match=r"embedder\.json of database main is damaged"):
        async with stores.using("farm", "field", "main"):
            raise AssertionError("opened")
    (database(tmp_path) / "embedder.json").unlink()
    async with stores.using("farm", "field", "main") as opened:
        assert (await opened.store.stats()).chunks == 3


async def test_files_that_come_first_at_once_fill_the_database_without_a_retry(farm: Any) -> None:
    for number in range(12):
        await farm.upload(f"{number}.txt", f"{number}" * 100)
    reply = await farm.process()
    assert {file["attempts"] for file in reply["meta"]["files"]} == {1}


async def test_a_preview_stores_nothing(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "a" * 300))["hash"]
    ingest = farm.services.datasets.ingest
    row = await farm.services.datasets.rows.get("farm", "field", "d", sha256)
    strategy = (await farm.services.files.config("farm", "field")).processing("held")
    prepared = await ingest.preview(ingest.rows.source(row), strategy, "main", ChunkChange(size=150))
    assert [len(chunk.text) for chunk in prepared.chunks] == [150, 150]
    assert prepared.parser == "HeldParser"
    assert await farm.chunks() == 0


async def test_what_is_yielded_is_typed_for_its_users(stores: Stores) -> None:
    async with stores.using("farm", "field", "main") as opened:
        assert isinstance(opened, OpenDatabase)
        embedder = await opened.check_embedder()
        assert (await embedder.embed(["a", "b"], "query")).shape[0] == 2
