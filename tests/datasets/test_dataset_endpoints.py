"""Datasets and files through HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import aiohttp
import pytest


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


async def test_a_new_dataset_is_listed_and_stands_in_the_file(farm: Any, tmp_path: Path) -> None:
    reply = await farm.ask(
        "POST", "/datasets", {"name": "papers", "data_processing_strategy": "texts", "database": "other"}
    )
    assert reply.status == 200
    shown = reply.json()["dataset"]
    assert (shown["name"], shown["database"], shown["data_processing_strategy"]) == ("papers", "other", "texts")
    assert shown["files"] == []
    listed = (await farm.ask("GET", "/datasets/")).json()
    assert listed["total"] == 3
    assert listed["datasets"][2]["name"] == "papers"
    assert "papers" in (tmp_path / "data/projects/farm/field/llamafarm.yaml").read_text()


async def test_strategy_and_database_have_defaults(farm: Any) -> None:
    shown = (await farm.ask("POST", "/datasets", {"name": "n"})).json()["dataset"]
    assert (shown["database"], shown["data_processing_strategy"]) == ("main", "universal_rag")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "d"}, 409),
        ({"name": "../x"}, 400),
        ({"name": ""}, 400),
        ({"name": "x" * 65}, 400),
        ({"name": "n", "database": "nowhere"}, 404),
        ({"name": "n", "data_processing_strategy": "nothing"}, 404),
        ({"name": "n", "colour": "red"}, 422),
        ({}, 422),
        ({"name": 5}, 422),
    ],
)
async def test_a_wrong_dataset_is_refused(farm: Any, body: Any, status: int) -> None:
    reply = await farm.ask("POST", "/datasets", body)
    assert reply.status == status
    assert isinstance(reply.json()["detail"], str)


async def test_strategies_and_databases_are_listed_with_the_built_in_strategy(farm: Any) -> None:
    found = (await farm.ask("GET", "/datasets/strategies")).json()
    assert found == {"data_processing_strategies": ["held", "texts", "universal_rag"], "databases": ["main", "other"]}


async def test_an_upload_is_stored_and_not_processed(farm: Any) -> None:
    reply = await farm.upload("a.txt", "some text")
    assert reply == {
        "filename": "a.txt",
        "hash": digest("some text"),
        "processed": False,
        "skipped": False,
        "status": "uploaded",
        "task_id": None,
        "error": None,
    }
    assert farm.server.app.core.blobs.path(reply["hash"]).read_text() == "some text"
    assert await farm.chunks() == 0


async def test_both_shapes_of_details_are_sent_and_may_be_left_out(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "some text"))["hash"]
    dataset = (await farm.ask("GET", "/datasets")).json()["datasets"][0]
    details = dataset["details"]
    assert dataset["files"] == [sha256]
    assert (details["total_files"], details["total_size_bytes"]) == (1, 9)
    assert details["file_details"][0]["original_filename"] == "a.txt"
    assert details["file_details"][0]["status"] == "uploaded"
    metadata = details["files_metadata"][0]
    assert (metadata["original_file_name"], metadata["hash"], metadata["mime_type"]) == ("a.txt", sha256, "text/plain")
    without = (await farm.ask("GET", "/datasets?include_extra_details=false")).json()["datasets"][0]
    assert without["files"] == [sha256]
    assert without["details"] is None


async def test_the_same_bytes_in_one_dataset_are_skipped_and_keep_their_name(farm: Any) -> None:
    await farm.upload("a.txt", "same")
    again = await farm.upload("b.txt", "same")
    assert (again["skipped"], again["status"]) == (True, "skipped")
    assert (await farm.ask("GET", "/datasets")).json()["datasets"][0]["details"]["total_files"] == 1
    assert (await farm.file("a.txt"))["hash"] == digest("same")


async def test_two_uploads_of_the_same_bytes_race_to_one_file(farm: Any) -> None:
    replies = await asyncio.gather(*(farm.upload(f"{n}.txt", "x" * 300_000) for n in range(8)))
    assert sum(not reply["skipped"] for reply in replies) == 1
    assert len({reply["hash"] for reply in replies}) == 1
    assert (await farm.ask("GET", "/datasets")).json()["datasets"][0]["details"]["total_files"] == 1


async def test_an_upload_can_ask_to_be_processed_at_once(farm: Any) -> None:
    reply = await farm.upload("a.txt", "some text", query="?auto_process=true")
    assert reply["status"] == "processing"
    assert (await farm.finished(reply["task_id"]))["state"] == "SUCCESS"
    again = await farm.upload("a.txt", "some text", query="?auto_process=true")
    assert (again["status"], again["processed"], again["task_id"]) == ("skipped", True, None)


async def test_a_dataset_can_want_its_uploads_processed_and_an_upload_can_decline(farm: Any) -> None:
    body = {"name": "auto", "auto_process": True, "data_processing_strategy": "held"}
    assert (await farm.ask("POST", "/datasets", body)).json()["dataset"]["auto_process"] is True
    reply = await farm.upload("a.txt", "some text", "auto")
    assert (await farm.finished(reply["task_id"]))["meta"]["total"] == 1
    declined = await farm.upload("b.txt", "other text", "auto", "?auto_process=false")
    assert (declined["status"], declined["task_id"]) == ("uploaded", None)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.txt", "a.txt"),
        ("a\u202etxt.exe", "atxt.exe"),
        ("a\u0007\u001b[31m.txt", "a[31m.txt"),
        ("..", "unnamed"),
        ("x" * 400 + ".pdf", "x" * 251 + ".pdf"),
        ("grüße 日本.txt", "grüße 日本.txt"),
    ],
)
async def test_a_file_name_is_for_display_only(farm: Any, name: str, kept: str) -> None:
    assert (await farm.upload(name, "text"))["filename"] == kept


async def test_an_upload_without_a_file_or_with_a_strange_field_is_refused(farm: Any) -> None:
    form = aiohttp.FormData({"note": "no file"})
    form.add_field("picture", b"bytes", filename="a.png")
    assert (await farm.ask("POST", "/datasets/d/data", data=form)).status == 422
    empty = aiohttp.FormData({"note": "no file"}, default_to_multipart=True)
    assert (await farm.ask("POST", "/datasets/d/data", data=empty)).status == 422
    assert (await farm.ask("POST", "/datasets/d/data", {"file": "json"})).status == 422


async def test_a_refused_upload_leaves_neither_row_nor_bytes(farm: Any) -> None:
    form = aiohttp.FormData()
    form.add_field("file", b"first", filename="a.txt")
    form.add_field("file", b"second", filename="b.txt")
    assert (await farm.ask("POST", "/datasets/d/data", data=form)).status == 422
    assert (await farm.ask("GET", "/datasets")).json()["datasets"][0]["files"] == []
    assert list(farm.server.app.core.blobs.hashes()) == []


async def test_a_file_over_the_limit_is_too_large(open_farm: Any) -> None:
    async with open_farm(settings={"uploads": {"max_bytes": 1000}}) as farm:
        assert (await farm.send("a.txt", "x" * 1001)).status == 413
        assert (await farm.send("a.txt", "x" * 1000)).status == 200
        assert len(list(farm.server.app.core.blobs.hashes())) == 1


async def test_a_bulk_upload_tells_of_each_file(open_farm: Any) -> None:
    async with open_farm(settings={"uploads": {"max_bytes": 100}}) as farm:
        form = aiohttp.FormData()
        for name, content in (("a.txt", "one"), ("b.txt", "x" * 101), ("c.txt", "one"), ("d.txt", "two")):
            form.add_field("files", content.encode(), filename=name)
        reply = (await farm.ask("POST", "/datasets/d/data/bulk?auto_process=true", data=form)).json()
        assert (reply["uploaded"], reply["skipped"], reply["failed"]) == (2, 1, 1)
        assert [file["status"] for file in reply["files"]] == ["processing", "error", "processing", "processing"]
        assert "uploads.max_bytes" in reply["files"][1]["error"]
        assert (await farm.finished(reply["task_id"]))["result"]["processed_files"] == 2


async def test_removing_a_file_removes_its_chunks_and_keeps_its_bytes(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "a" * 250))["hash"]
    await farm.upload("b.txt", "b" * 50)
    await farm.process()
    assert await farm.chunks() == 4
    reply = await farm.ask("DELETE", f"/datasets/d/data/{sha256}")
    assert reply.json() == {"file_hash": sha256, "deleted_chunks": 3, "removed_from_disk": False}
    assert await farm.chunks() == 1
    assert await farm.file("a.txt") is None
    assert farm.server.app.core.blobs.exists(sha256)
    assert (await farm.ask("DELETE", f"/datasets/d/data/{sha256}")).status == 404


async def test_bytes_go_with_the_last_file_that_has_them(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "shared"))["hash"]
    await farm.upload("a.txt", "shared", "e")
    first = (await farm.ask("DELETE", f"/datasets/d/data/{sha256}?remove_from_disk=true")).json()
    assert first["removed_from_disk"] is False
    assert farm.server.app.core.blobs.exists(sha256)
    last = (await farm.ask("DELETE", f"/datasets/e/data/{sha256}?remove_from_disk=true")).json()
    assert last["removed_from_disk"] is True
    assert not farm.server.app.core.blobs.exists(sha256)


async def test_deleting_a_dataset_deletes_chunks_files_bytes_and_entry(farm: Any) -> None:
    shared = (await farm.upload("a.txt", "shared"))["hash"]
    alone = (await farm.upload("b.txt", "alone"))["hash"]
    await farm.upload("a.txt", "shared", "e")
    await farm.process()
    await farm.process("e")
    assert await farm.chunks() == 3
    reply = await farm.ask("DELETE", "/datasets/d")
    assert reply.status == 200
    assert set(reply.json()["dataset"]["files"]) == {shared, alone}
    assert await farm.chunks() == 1
    blobs = farm.server.app.core.blobs
    assert (blobs.exists(shared), blobs.exists(alone)) == (True, False)
    assert [item["name"] for item in (await farm.ask("GET", "/datasets")).json()["datasets"]] == ["e"]
    assert (await farm.ask("DELETE", "/datasets/d")).status == 404


async def test_deleting_a_dataset_stops_its_tasks(farm: Any, held: Any) -> None:
    held.hold = {"a.txt"}
    await farm.upload("a.txt", "text")
    task = await farm.act()
    await held.until_held()
    assert (await farm.ask("DELETE", "/datasets/d")).status == 200
    reply = (await farm.ask("GET", f"/tasks/{task}")).json()
    assert (reply["state"], reply["cancelled"]) == ("FAILURE", True)
    held.go.set()
    assert await farm.chunks() == 0
    assert list(farm.server.app.core.blobs.hashes()) == []


async def test_deleting_a_project_while_it_is_processed_leaves_nothing(farm: Any, held: Any, tmp_path: Path) -> None:
    held.hold = {"a.txt"}
    await farm.upload("b.txt", "done")
    await farm.process()
    await farm.upload("a.txt", "text")
    task = await farm.act()
    await held.until_held()
    assert (await farm.ask("DELETE", "")).status == 200
    held.go.set()
    assert (await farm.ask("GET", f"/tasks/{task}")).status == 404
    assert list(farm.server.app.core.blobs.hashes()) == []
    assert not (tmp_path / "data/projects/farm").exists()
    left = await farm.server.app.core.state.read(
        lambda connection: connection.execute(
            "SELECT (SELECT count(*) FROM files) + (SELECT count(*) FROM tasks)"
        ).fetchall()
    )
    assert left == [(0,)]


async def test_a_project_created_again_under_its_name_has_an_empty_database(farm: Any) -> None:
    await farm.upload("a.txt", "text")
    await farm.process()
    assert (await farm.ask("DELETE", "")).status == 200
    await farm.services.files.create("farm", "field", PROJECT)
    assert await farm.chunks() == 0


async def test_cleanup_removes_chunks_and_keeps_the_file(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "a" * 250))["hash"]
    await farm.process()
    reply = await farm.ask("POST", f"/datasets/d/cleanup/{sha256}")
    assert reply.json() == {
        "message": f"Deleted 3 chunk(s) for file {sha256[:12]}...",
        "deleted_count": 3,
        "file_hash": sha256,
        "errors": None,
    }
    assert (await farm.file("a.txt"))["status"] == "uploaded"
    assert (await farm.ask("POST", f"/datasets/d/cleanup/{sha256}")).json()["deleted_count"] == 0
    assert (await farm.ask("POST", f"/datasets/d/cleanup/{'0' * 64}")).status == 404


async def test_chunk_actions_remove_chunks_as_tasks_that_cannot_be_cancelled(farm: Any) -> None:
    first = (await farm.upload("a.txt", "a" * 250))["hash"]
    await farm.upload("b.txt", "b" * 250)
    await farm.process()
    one = await farm.finished(await farm.act("delete_file_chunks", file_hash=first))
    assert one["result"]["deleted_count"] == 3
    assert (await farm.file("a.txt"))["processed"] is False
    assert (await farm.file("b.txt"))["chunk_count"] == 3
    task = await farm.act("delete_dataset_chunks")
    assert (await farm.finished(task))["result"]["deleted_count"] == 3
    assert await farm.chunks() == 0
    assert (await farm.file("b.txt"))["processed"] is False
    assert (await farm.ask("DELETE", f"/tasks/{task}")).status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"action_type": "explode"}, 422),
        ({}, 422),
        ({"action_type": "delete_file_chunks"}, 422),
        ({"action_type": "delete_file_chunks", "file_hash": "0" * 64}, 404),
        ({"action_type": "delete_dataset_chunks", "file_hash": "0" * 64}, 422),
        ({"action_type": "process", "file_hash": "0" * 64}, 404),
        ({"action_type": "process", "parser_overrides": {"NoParser": {}}}, 422),
        ({"action_type": "process", "parser_overrides": {"HeldParser": {"colour": 1}}}, 422),
        ({"action_type": "process", "more": 1}, 422),
    ],
)
async def test_a_wrong_action_is_refused(farm: Any, body: Any, status: int) -> None:
    reply = await farm.ask("POST", "/datasets/d/actions", body)
    assert reply.status == status, reply.body


async def test_the_task_uri_leads_to_the_task(farm: Any) -> None:
    reply = (await farm.ask("POST", "/datasets/d/actions", {"action_type": "ingest"})).json()
    assert reply["message"] == "Accepted"
    async with farm.server.session.get(reply["task_uri"]) as found:
        assert (await found.json())["task_id"] == reply["task_id"]


async def test_the_historical_process_waits_and_answers_with_its_counts(farm: Any) -> None:
    await farm.upload("a.txt", "text")
    reply = (await farm.ask("POST", "/datasets/d/process")).json()
    assert (reply["processed_files"], reply["strategy"], reply["database"]) == (1, "held", "main")
    assert reply["details"][0]["status"] == "processed"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/datasets/none", None),
        ("POST", "/datasets/none/actions", {"action_type": "process"}),
        ("POST", "/datasets/none/process", None),
        ("POST", f"/datasets/none/cleanup/{'0' * 64}", None),
        ("DELETE", f"/datasets/none/data/{'0' * 64}", None),
        ("DELETE", f"/datasets/d/data/{'0' * 64}", None),
        ("DELETE", "/datasets/d/data/nonsense", None),
        ("POST", "/datasets/d/process/cancel?task_id=none", None),
    ],
)
async def test_unknown_things_are_not_found(farm: Any, method: str, path: str, body: Any) -> None:
    assert (await farm.ask(method, path, body)).status == 404


async def test_another_projects_files_are_not_seen(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "text"))["hash"]
    await farm.services.files.create("farm", "second", PROJECT.replace("field", "second"))
    other = "/v1/projects/farm/second"
    assert (await farm.server.ask("DELETE", f"{other}/datasets/d/data/{sha256}")).status == 404
    body = {"action_type": "process", "file_hash": sha256}
    assert (await farm.server.ask("POST", f"{other}/datasets/d/actions", body)).status == 404


PROJECT = """
version: v1
name: field
namespace: farm
runtime: {models: [{name: default, provider: extractive, model: extractive}]}
rag:
  databases:
    - name: main
      type: SqliteVecStore
      embedding_strategies: [{name: hashing, type: HeldEmbedder}]
      retrieval_strategies: [{name: basic, type: BasicSimilarityStrategy}]
datasets: [{name: d, database: main}]
"""
