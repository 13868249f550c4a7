"""From files to chunks: which parser, which extractors, what is stored, what is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from paddock.contracts.config import ParserConfig
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock.services.ingest.budget import Budget
from paddock.services.ingest.plan import fits

STRATEGIES = """
version: v1
name: field
namespace: farm
runtime: {models: [{name: default, provider: extractive, model: extractive}]}
rag:
  databases:
    - name: main
      type: SqliteVecStore
      embedding_strategies: [{name: hashing, type: HeldEmbedder, config: {batch_size: 4}}]
      retrieval_strategies: [{name: basic, type: BasicSimilarityStrategy}]
    - {name: elsewhere, type: SqliteVecStore}
  data_processing_strategies:
    - name: mixed
      parsers:
        - {type: TextParser, priority: 90, config: {chunk_size: 300}}
        - {type: HeldParser, priority: 10, file_include_patterns: ["*.HELD"], fallback_parser: TextParser}
        - {type: CSVParser, priority: 20, file_extensions: [".csv"]}
      extractors:
        - {type: BrokenExtractor, priority: 20, file_include_patterns: ["*.txt"]}
        - {type: ContentStatisticsExtractor, priority: 10, required_for: [elsewhere]}
    - name: narrow
      parsers: [{type: CSVParser, file_extensions: [".csv"]}]
    - name: anything
      parsers: [{type: auto}]
datasets:
  - {name: d, database: main, data_processing_strategy: mixed}
  - {name: narrow, database: main, data_processing_strategy: narrow}
  - {name: anything, database: main, data_processing_strategy: anything}
"""


@pytest.fixture
async def mixed(open_farm: Any) -> Any:
    async with open_farm(project=STRATEGIES) as opened:
        yield opened


async def details(farm: Any, dataset: str = "d", **fields: Any) -> dict[str, Any]:
    """The details of a processing by file name."""
    result = (await farm.process(dataset, **fields))["result"]
    return {detail["filename"]: detail for detail in result["details"]}


async def hits(farm: Any, query: str) -> list[Any]:
    """What a search by text finds."""
    async with farm.services.stores.using("farm", "field") as opened:
        found: list[Any] = await opened.store.search_text(query, 10)
        return found


@pytest.mark.parametrize(
    ("given", "name", "mime", "expected"),
    [
        ({}, "a.txt", "text/plain", True),
        ({"file_include_patterns": ["*.TXT"]}, "A.txt", "", True),
        ({"file_include_patterns": ["report_*"]}, "a.txt", "", False),
        ({"file_extensions": [".PDF"]}, "a.pdf", "application/octet-stream", True),
        ({"file_extensions": [".pdf"]}, "a.txt", "text/plain", False),
        ({"file_extensions": [".pdf"], "mime_types": ["application/pdf"]}, "a", "application/pdf", True),
        ({"mime_types": ["text/*"]}, "a", "text/plain; charset=utf-8", True),
        ({"mime_types": ["text/*"]}, "a", "image/png", False),
        ({"file_include_patterns": ["a*"], "file_extensions": [".pdf"]}, "b.pdf", "", False),
    ],
)
def test_a_parser_is_for_the_files_that_fit_its_conditions(given: Any, name: str, mime: str, expected: bool) -> None:
    assert fits(ParserConfig(type="TextParser", **given), name, mime) is expected


async def test_the_lowest_priority_that_fits_is_tried_first(mixed: Any) -> None:
    await mixed.upload("a.held", "held text")
    await mixed.upload("b.csv", "name,age\nAda,36\n")
    await mixed.upload("c.txt", "plain text")
    found = await details(mixed)
    assert {name: detail["parser"] for name, detail in found.items()} == {
        "a.held": "HeldParser",
        "b.csv": "CSVParser",
        "c.txt": "TextParser",
    }


async def test_the_next_parser_reads_what_the_first_could_not_and_a_warning_says_why(mixed: Any, held: Any) -> None:
    held.fail["a.held"] = [ValidationFailed("not my format")]
    held.fail["b.held"] = [ZeroDivisionError("/secret")]
    await mixed.upload("a.held", "some text")
    await mixed.upload("b.held", "other text")
    found = await details(mixed)
    assert found["a.held"]["parser"] == "TextParser"
    assert found["a.held"]["warnings"] == ["HeldParser: not my format"]
    assert found["b.held"]["warnings"] == ["HeldParser: could not read it (ZeroDivisionError)"]


async def test_when_all_parsers_fail_the_error_has_each_reason(mixed: Any, held: Any) -> None:
    held.fail["a.held"] = [ValidationFailed("not my format")]
    await mixed.upload("a.held", b"\x00\x01\x02\xff" * 100)
    error = (await details(mixed))["a.held"]["error"]
    assert error.startswith("no parser could read it: HeldParser: not my format; TextParser: ")


async def test_a_parser_that_could_not_be_reached_is_tried_again(mixed: Any, held: Any) -> None:
    held.fail["a.held"] = [ProviderUnavailable("the reader is down")]
    await mixed.upload("a.held", b"\x00\x01\x02\xff" * 100)
    reply = await mixed.process()
    assert reply["meta"]["files"][0]["attempts"] == 2


async def test_a_file_without_text_fails_with_the_reason(farm: Any) -> None:
    await farm.upload("a.txt", " \n\t ")
    reply = await farm.process()
    assert "no text" in reply["result"]["details"][0]["error"]
    assert await farm.chunks() == 0


async def test_a_file_that_no_parser_is_for_says_what_to_add(mixed: Any) -> None:
    await mixed.upload("a.txt", "text", "narrow")
    error = (await details(mixed, "narrow"))["a.txt"]["error"]
    assert "no parser of the strategy narrow" in error
    assert "'auto'" in error


async def test_auto_chooses_among_the_parsers_of_all_plugins_and_names_the_one(mixed: Any) -> None:
    await mixed.upload("a.md", "# Title\n\nText of the section.", "anything")
    await mixed.upload("b.csv", "name,age\nAda,36\n", "anything")
    found = await details(mixed, "anything")
    assert (found["a.md"]["parser"], found["b.csv"]["parser"]) == ("MarkdownParser", "CSVParser")


async def test_an_extractor_that_fails_on_a_chunk_is_a_warning_and_the_others_keep_their_metadata(
    mixed: Any, held: Any
) -> None:
    await mixed.upload("a.txt", "A broken sentence is here. " * 8 + "A whole sentence stands there. " * 20)
    found = (await details(mixed))["a.txt"]
    assert found["status"] == "processed"
    assert found["extractors"] == ["BrokenExtractor"]
    assert found["warnings"] == ["BrokenExtractor failed on 2 of 5 chunks: ValueError"]
    marks = [hit.metadata.get("marked") for hit in await hits(mixed, "sentence")]
    assert None in marks
    assert True in marks
    assert held.extracted == [3, 2]


async def test_an_extractor_that_can_not_be_reached_is_asked_once_for_several_chunks(mixed: Any) -> None:
    await mixed.upload("a.txt", "There is nobody in this house now. " * 20)
    found = (await details(mixed))["a.txt"]
    assert found["status"] == "processed"
    assert found["warnings"] == ["BrokenExtractor failed on 3 of 4 chunks: nobody is there"]


async def test_chunks_know_where_they_come_from(mixed: Any) -> None:
    sha256 = (await mixed.upload("a.txt", "A cow eats grass."))["hash"]
    await mixed.process()
    (hit,) = await hits(mixed, "cow")
    expected = {
        "filename": "a.txt",
        "dataset": "d",
        "chunk_index": 0,
        "file_hash": sha256,
        "document_type": "txt",
        "parser": "TextParser",
        "data_processing_strategy": "mixed",
        "marked": True,
    }
    assert expected.items() <= hit.metadata.items()
    assert hit.document_id == sha256


async def test_chunk_ids_depend_on_dataset_file_and_index_alone(mixed: Any) -> None:
    await mixed.upload("a.txt", "A cow eats grass.")
    await mixed.process()
    first = [hit.chunk_id for hit in await hits(mixed, "cow")]
    await mixed.finished(await mixed.act("delete_dataset_chunks"))
    await mixed.process()
    assert [hit.chunk_id for hit in await hits(mixed, "cow")] == first


async def test_a_file_in_two_datasets_of_one_database_is_stored_for_both(farm: Any) -> None:
    for dataset in ("d", "e"):
        await farm.upload("a.txt", "A cow eats grass.", dataset)
        await farm.process(dataset)
    found = await hits(farm, "cow")
    assert {hit.metadata["dataset"] for hit in found} == {"d", "e"}
    assert len({hit.chunk_id for hit in found}) == 2


async def test_other_options_process_a_file_anew_and_the_same_ones_do_not(farm: Any) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()
    overrides: dict[str, Any] = {"parser_overrides": {"HeldParser": {"chunk_size": 60}}}
    assert (await details(farm, **overrides))["a.txt"]["chunks"] == 5
    assert (await details(farm, **overrides))["a.txt"]["reason"] == "duplicate"
    assert (await details(farm))["a.txt"]["chunks"] == 3
    assert await farm.chunks() == 3


async def test_a_file_whose_chunks_vanished_from_the_store_is_processed_anew(farm: Any) -> None:
    await farm.upload("a.txt", "a" * 300)
    await farm.process()
    async with farm.services.stores.using("farm", "field", "main") as opened:
        await opened.store.delete("d")
    assert (await details(farm))["a.txt"]["status"] == "processed"
    assert await farm.chunks() == 3


async def test_small_files_share_a_batch_and_a_poisoned_one_fails_alone(mixed: Any, held: Any) -> None:
    for number in range(7):
        await mixed.upload(f"{number}.txt", "poison" if number == 3 else f"text {number}")
    found = await details(mixed)
    assert {name for name, detail in found.items() if detail["status"] == "failed"} == {"3.txt"}
    assert max(len(batch) for batch in held.embedded) <= 4


async def test_one_file_can_be_processed_by_its_hash(farm: Any) -> None:
    await farm.upload("a.txt", "a")
    sha256 = (await farm.upload("b.txt", "b"))["hash"]
    assert list(await details(farm, file_hash=sha256)) == ["b.txt"]


async def test_an_empty_database_may_change_its_embedder_and_a_filled_one_says_what_to_do(farm: Any) -> None:
    await farm.upload("a.txt", "a" * 100)
    await farm.process()

    def shorter(raw: Any) -> None:
        raw["rag"]["databases"][0]["embedding_strategies"][0]["config"] = {"dimension": 64}

    await farm.services.files.edit("farm", "field", shorter)
    error = (await details(farm))["a.txt"]["error"]
    assert "delete_dataset_chunks" in error
    await farm.finished(await farm.act("delete_dataset_chunks"))
    assert (await details(farm))["a.txt"]["status"] == "processed"
    async with farm.services.stores.using("farm", "field", "main") as opened:
        assert (await opened.store.stats()).dimension == 64


async def test_each_processed_file_leaves_an_event(farm: Any) -> None:
    await farm.upload("a.txt", "a")
    await farm.process()
    await farm.services.events.flush()
    found = (await farm.ask("GET", "/event_logs?type=rag_processing")).json()
    assert found["total"] == 1


async def test_the_budget_lets_in_what_fits_in_the_order_of_arrival_and_large_work_alone() -> None:
    budget = Budget(10)
    order: asyncio.Queue[str] = asyncio.Queue()
    gates = {name: asyncio.Event() for name in ("first", "large", "small")}

    async def work(name: str, size: int) -> None:
        async with budget.taking(size):
            order.put_nowait(name)
            await gates[name].wait()

    tasks = [asyncio.create_task(work(name, size)) for name, size in (("first", 4), ("large", 99), ("small", 1))]
    assert await order.get() == "first"
    assert order.empty()
    gates["first"].set()
    assert await order.get() == "large"
    assert order.empty()
    gates["large"].set()
    gates["small"].set()
    await asyncio.gather(*tasks)
    assert await order.get() == "small"


async def test_work_that_gives_up_waiting_for_the_budget_is_forgotten() -> None:
    budget = Budget(10)
    async with budget.taking(10):
        waiting = asyncio.create_task(budget.taking(10).__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
    async with asyncio.timeout(10), budget.taking(10):
        assert waiting.cancelled()


async def test_orphaned_bytes_are_swept_at_start_and_needed_ones_stay(open_farm: Any, tmp_path: Path) -> None:
    async with open_farm() as farm:
        kept = (await farm.upload("a.txt", "needed"))["hash"]

        async def pieces() -> Any:
            yield b"orphan"

        orphan = (await farm.server.app.core.blobs.store(pieces(), 100)).sha256
        (tmp_path / "data/blobs/incoming/half").write_bytes(b"unfinished")
    async with open_farm() as farm:
        blobs = farm.server.app.core.blobs
        assert (blobs.exists(kept), blobs.exists(orphan)) == (True, False)
        assert list((tmp_path / "data/blobs/incoming").iterdir()) == []
