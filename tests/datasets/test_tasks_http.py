"""Tasks through HTTP: progress, failures, retries, cancelling, events."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from paddock.contracts.tasks import TaskReply
from paddock.errors import ProviderUnavailable, UpstreamError, UpstreamTimeout, ValidationFailed
from paddock.services.tasks.runner import asked_for, backoff


async def test_a_finished_task_has_the_documented_fields(farm: Any) -> None:
    sha256 = (await farm.upload("a.txt", "a" * 250))["hash"]
    task = await farm.act()
    await farm.finished(task)
    reply = (await farm.ask("GET", f"/tasks/{task}")).json()
    assert msgspec.to_builtins(msgspec.convert(reply, TaskReply)) == reply
    assert (reply["state"], reply["error"], reply["traceback"], reply["cancelled"]) == ("SUCCESS", None, None, False)
    meta = reply["meta"]
    assert (meta["current"], meta["total"], meta["progress"], meta["message"]) == (1, 1, 100.0, "Processing 1/1 files")
    assert meta["files"] == [
        {
            "index": 0,
            "task_id": task,
            "state": "success",
            "filename": "a.txt",
            "error": None,
            "stored_count": 3,
            "skipped_count": 0,
            "chunks": 3,
            "attempts": 1,
        }
    ]
    result = reply["result"]
    assert (result["processed_files"], result["skipped_files"], result["failed_files"]) == (1, 0, 0)
    assert (result["stored_count"], result["strategy"], result["database"], result["task_id"]) == (
        3,
        "held",
        "main",
        task,
    )
    detail = result["details"][0]
    assert (detail["hash"], detail["filename"], detail["status"], detail["chunks"]) == (sha256, "a.txt", "processed", 3)
    assert (detail["parser"], detail["embedder"], detail["chunk_size"]) == ("HeldParser", "HeldEmbedder", 100)


async def test_an_empty_dataset_is_processed_at_once(farm: Any) -> None:
    reply = await farm.process()
    assert (reply["state"], reply["meta"]["total"], reply["result"]["processed_files"]) == ("SUCCESS", 0, 0)


async def test_a_failing_file_neither_stops_nor_hides_the_others(farm: Any, held: Any) -> None:
    held.fail["b.txt"] = [ValidationFailed("it is encrypted")]
    held.fail["c.txt"] = [KeyError("secret /path")]
    for name in "abcd":
        await farm.upload(f"{name}.txt", name)
    reply = await farm.process()
    assert (reply["state"], reply["error"]) == ("FAILURE", "2 of 4 files failed")
    result = reply["result"]
    assert (result["processed_files"], result["failed_files"]) == (2, 2)
    errors = {detail["filename"]: detail["error"] for detail in result["details"]}
    assert errors["b.txt"] == "it is encrypted"
    assert "secret" not in errors["c.txt"]
    assert (errors["a.txt"], errors["d.txt"]) == (None, None)
    assert (await farm.file("b.txt"))["status"] == "failed"
    assert (await farm.file("b.txt"))["error"] == "it is encrypted"


async def test_a_failed_file_is_processed_by_the_next_task_and_the_others_are_skipped(farm: Any, held: Any) -> None:
    held.fail["b.txt"] = [ValidationFailed("it is encrypted")]
    await farm.upload("a.txt", "a" * 250)
    await farm.upload("b.txt", "b")
    await farm.process()
    result = (await farm.process())["result"]
    assert [(d["filename"], d["status"], d["reason"]) for d in result["details"]] == [
        ("a.txt", "skipped", "duplicate"),
        ("b.txt", "processed", None),
    ]
    assert (result["skipped_count"], result["stored_count"]) == (3, 1)
    assert held.parsed == {"a.txt": 1, "b.txt": 2}
    assert (await farm.file("b.txt"))["status"] == "processed"


@pytest.mark.parametrize(
    "error",
    [
        ProviderUnavailable("down"),
        UpstreamTimeout("slow"),
        UpstreamError("busy", 429),
        UpstreamError("failing", 502),
    ],
)
async def test_what_may_pass_is_tried_again(farm: Any, held: Any, error: Any) -> None:
    held.embed_fail = [error, error]
    await farm.upload("a.txt", "a")
    reply = await farm.process()
    assert reply["state"] == "SUCCESS"
    assert reply["meta"]["files"][0]["attempts"] == 3


@pytest.mark.parametrize("error", [UpstreamError("no such model", 404), ValidationFailed("wrong dimension")])
async def test_what_will_not_pass_fails_at_once(farm: Any, held: Any, error: Any) -> None:
    held.embed_fail = [error]
    await farm.upload("a.txt", "a")
    reply = await farm.process()
    file = reply["meta"]["files"][0]
    assert (reply["state"], file["attempts"], file["error"]) == ("FAILURE", 1, error.message)


async def test_retries_end(farm: Any, held: Any) -> None:
    held.embed_fail = [ProviderUnavailable("down")] * 10
    await farm.upload("a.txt", "a")
    reply = await farm.process()
    assert (reply["state"], reply["meta"]["files"][0]["attempts"]) == ("FAILURE", 4)
    assert reply["result"]["details"][0]["error"] == "down"


def test_a_busy_upstream_says_how_long_to_wait_within_reason() -> None:
    waits = ["3", "86400", "soon", ""]
    assert [asked_for(UpstreamError("busy", 429, headers={"Retry-After": given})) for given in waits] == [3, 300, 0, 0]
    assert asked_for(ProviderUnavailable("down")) == 0


def test_delays_double_and_are_bounded() -> None:
    assert 1 <= backoff(2, 1) <= 2
    assert 4 <= backoff(2, 3) <= 8
    assert backoff(2, 50) <= 300


async def test_a_task_that_waits_for_another_attempt_is_in_retry_and_says_why(open_farm: Any, held: Any) -> None:
    async with open_farm(settings={"tasks": {"retry_delay": 300}}) as farm:
        held.embed_fail = [ProviderUnavailable("down")]
        await farm.upload("a.txt", "a")
        task = await farm.act()
        reply = await farm.changed(task, lambda found: found["state"] == "RETRY")
        assert reply["meta"]["files"][0]["state"] == "retry"
        assert reply["meta"]["files"][0]["error"] == "down"
        cancelled = (await farm.ask("DELETE", f"/tasks/{task}")).json()
        assert (cancelled["pending_tasks_cancelled"], cancelled["running_tasks_at_cancel"]) == (1, 0)
        assert cancelled["message"] == "Task cancelled (no files to revert)"


async def test_cancel_reverts_what_the_task_stored(farm: Any, held: Any) -> None:
    await farm.upload("before.txt", "before")
    await farm.process()
    held.hold = {"c.txt"}
    for name in "abcd":
        await farm.upload(f"{name}.txt", name * 150)
    task = await farm.act()
    await held.until_held()
    await farm.changed(task, lambda found: found["meta"]["current"] == 4)
    assert await farm.chunks() == 7
    reply = (await farm.ask("DELETE", f"/tasks/{task}")).json()
    assert reply["message"] == "Task cancelled and 3 file(s) reverted"
    assert (reply["cancelled"], reply["files_reverted"], reply["files_failed_to_revert"]) == (True, 3, 0)
    assert (reply["already_completed"], reply["already_cancelled"], reply["errors"]) == (False, False, None)
    assert (reply["running_tasks_at_cancel"], reply["pending_tasks_cancelled"]) == (1, 0)
    held.go.set()
    found = (await farm.ask("GET", f"/tasks/{task}")).json()
    assert (found["state"], found["cancelled"], found["error"]) == ("FAILURE", True, "cancelled")
    states = [file["state"] for file in found["meta"]["files"]]
    assert states == ["success", "reverted", "reverted", "cancelled", "reverted"]
    assert await farm.chunks() == 1
    assert (await farm.file("before.txt"))["processed"] is True
    assert (await farm.file("a.txt"))["processed"] is False


async def test_cancel_again_says_what_the_first_did(farm: Any, held: Any) -> None:
    held.hold = {"a.txt"}
    await farm.upload("a.txt", "a")
    task = await farm.act()
    await held.until_held()
    first, second = await asyncio.gather(*(farm.ask("DELETE", f"/tasks/{task}") for _ in range(2)))
    third = await farm.ask("POST", f"/datasets/d/process/cancel?task_id={task}")
    replies = [reply.json() for reply in (first, second, third)]
    assert [reply["cancelled"] for reply in replies] == [True, True, True]
    assert sorted(reply["already_cancelled"] for reply in replies) == [False, True, True]
    assert replies[2]["message"] == "Task already cancelled"
    assert replies[2]["running_tasks_at_cancel"] == 1


async def test_a_finished_task_is_left_as_it_is(farm: Any, held: Any) -> None:
    await farm.upload("a.txt", "a")
    task = await farm.act()
    await farm.finished(task)
    reply = (await farm.ask("DELETE", f"/tasks/{task}")).json()
    assert (reply["message"], reply["cancelled"], reply["already_completed"]) == ("Task already success", False, True)
    assert await farm.chunks() == 1
    held.fail["b.txt"] = [ValidationFailed("no")]
    await farm.upload("b.txt", "b")
    task = await farm.act()
    await farm.finished(task)
    assert (await farm.ask("DELETE", f"/tasks/{task}")).json()["message"] == "Task already failure"


async def test_a_cancelled_dataset_can_be_processed_again(farm: Any, held: Any) -> None:
    held.hold = {"a.txt"}
    await farm.upload("a.txt", "a")
    task = await farm.act()
    await held.until_held()
    await farm.ask("DELETE", f"/tasks/{task}")
    held.hold = set()
    assert (await farm.process())["state"] == "SUCCESS"
    assert await farm.chunks() == 1


async def test_a_file_removed_while_it_is_processed_leaves_no_chunks_and_no_failure(farm: Any, held: Any) -> None:
    held.hold = {"a.txt"}
    sha256 = (await farm.upload("a.txt", "a"))["hash"]
    await farm.upload("b.txt", "b")
    task = await farm.act()
    await held.until_held()
    assert (await farm.ask("DELETE", f"/datasets/d/data/{sha256}")).status == 200
    held.go.set()
    reply = await farm.finished(task)
    assert reply["state"] == "SUCCESS"
    assert [file["state"] for file in reply["meta"]["files"]] == ["cancelled", "success"]
    assert await farm.chunks() == 1


async def test_tasks_of_other_projects_and_unknown_ones_are_not_found(farm: Any) -> None:
    task = await farm.act()
    text = (
        "version: v1\nname: x\nnamespace: x\nruntime: {models: [{name: m, provider: extractive, model: extractive}]}\n"
    )
    await farm.services.files.create("farm", "second", text)
    for path in (f"/v1/projects/farm/second/tasks/{task}", "/v1/projects/farm/field/tasks/none"):
        for method, suffix in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
            reply = await farm.server.ask(method, path + suffix)
            assert reply.status == 404, (method, path, suffix)
    assert (await farm.server.ask("GET", "/v1/projects/farm/none/tasks/x")).status == 404


async def test_tasks_are_listed_newest_first_and_by_activity(farm: Any, held: Any) -> None:
    first = await farm.act()
    held.hold = {"a.txt"}
    await farm.upload("a.txt", "a")
    second = await farm.act()
    await held.until_held()
    listed = (await farm.ask("GET", "/tasks")).json()
    assert [item["task_id"] for item in listed["tasks"]] == [second, first]
    active = (await farm.ask("GET", "/tasks?active=true")).json()
    assert (active["total"], active["tasks"][0]["task_id"], active["tasks"][0]["state"]) == (1, second, "STARTED")


async def test_events_tell_every_state_and_end(farm: Any, held: Any) -> None:
    held.hold = {"a.txt"}
    await farm.upload("a.txt", "a")
    task = await farm.act()
    seen = []
    async with farm.server.session.get(f"{farm.server.base_url}/v1/projects/farm/field/tasks/{task}/events") as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        async for line in reply.content:
            if line.startswith(b"data: "):
                seen.append(msgspec.json.decode(line[6:]))
                held.go.set()
    assert seen[-1]["state"] == "SUCCESS"
    assert seen[-1] == (await farm.ask("GET", f"/tasks/{task}")).json()
    assert [item["meta"]["current"] for item in seen] == sorted(item["meta"]["current"] for item in seen)


async def test_events_end_when_the_server_stops(open_farm: Any, held: Any) -> None:
    async with open_farm() as farm:
        held.hold = {"a.txt"}
        await farm.upload("a.txt", "a")
        task = await farm.act()
        await held.until_held()
        url = f"{farm.server.base_url}/v1/projects/farm/field/tasks/{task}/events"
        reply = await farm.server.session.get(url)
        await reply.content.readline()
        farm.server.app.stop()
        assert b"shutting down" in await reply.content.read() or reply.content.at_eof()
        held.go.set()


async def test_a_stopped_server_goes_on_where_it_was(open_farm: Any, held: Any) -> None:
    async with open_farm() as farm:
        held.hold = {"b.txt"}
        for name in "abc":
            await farm.upload(f"{name}.txt", name)
        task = await farm.act()
        await held.until_held()
        await farm.changed(task, lambda found: found["meta"]["current"] == 2)
    held.hold = set()
    async with open_farm() as farm:
        reply = await farm.finished(task)
        assert reply["state"] == "SUCCESS"
        assert [file["attempts"] for file in reply["meta"]["files"]] == [1, 1, 1]
        assert await farm.chunks() == 3
        assert held.parsed["a.txt"] == 1


async def test_old_tasks_are_swept(farm: Any) -> None:
    task = await farm.act()
    assert await farm.services.tasks.sweep() == 0
    await farm.server.app.core.state.write(
        lambda connection: connection.execute("UPDATE tasks SET finished = finished - 31 * 86400")
    )
    assert await farm.services.tasks.sweep() == 1
    assert (await farm.ask("GET", f"/tasks/{task}")).status == 404


async def test_a_changed_metric_of_a_filled_database_is_rebuilt_as_a_task(farm: Any) -> None:
    await farm.upload("a.txt", "a" * 250)
    await farm.process()
    body = {"config": {"distance_function": "l2"}}
    reply = (await farm.ask("PATCH", "/rag/databases/main", body)).json()
    done = await farm.finished(reply["task_id"])
    assert (done["state"], done["result"]["metric"], done["result"]["chunks"]) == ("SUCCESS", "l2", 3)


async def test_a_filled_database_is_not_given_another_embedder(farm: Any) -> None:
    other = {"embedding_strategies": [{"name": "h", "type": "HeldEmbedder", "config": {"dimension": 64}}]}
    assert (await farm.ask("PATCH", "/rag/databases/other", other)).status == 200
    await farm.upload("a.txt", "a")
    await farm.process()
    reply = await farm.ask("PATCH", "/rag/databases/main", other)
    assert reply.status == 409
    assert "delete_dataset_chunks" in reply.json()["detail"]
