"""Tenants: what belongs to one project does not exist for another."""

from __future__ import annotations

import re
from typing import Any

import pytest

from paddock.contracts.base import Endpoint, endpoints_of
from paddock.services import CONTRACTS
from tests.security.conftest import Target

ENDPOINTS = [item for module in CONTRACTS for item in endpoints_of(module)]
OURS = {"namespace": "n", "project": "p", "dataset": "d", "database": "main"}
# The id of something inside a project, in its path: with another project's, every route that takes one answers 404.
INNER = ("session_id", "file_hash", "task_id", "event_id", "dataset", "database")
TAKING_IDS = [
    (item, name) for item in ENDPOINTS if "{project}" in item.path for name in INNER if f"{{{name}}}" in item.path
]
BODIES: dict[str, Any] = {
    "dataset_actions": {"action_type": "process"},
    "database_update": {},
    "database_preview": {"file_content": "eA==", "filename": "x.txt", "data_processing_strategy": "s"},
}


async def fill(target: Target) -> dict[str, str]:
    """Two projects with the same names inside, but `p` with more: the ids of what only `p` has."""
    more = {"name": "theirs", "database": "secret", "data_processing_strategy": "s"}
    from tests.security.conftest import DATABASE, PROJECT

    databases = [DATABASE, {**DATABASE, "name": "secret"}]
    await target.project("p", rag={**PROJECT["rag"], "databases": databases}, datasets=[*PROJECT["datasets"], more])
    await target.project("q")
    sha256 = (await target.upload("a.txt", b"Herons wait at the weir.")).json()["hash"]
    task = await target.process()
    chat = {"messages": [{"role": "user", "content": "herons"}]}
    reply = await target.ask("POST", "/v1/projects/n/p/chat/completions", chat, headers={"X-Session-ID": "mine"})
    assert reply.status == 200
    events = (await target.ask("GET", "/v1/projects/n/p/event_logs")).json()["events"]
    return {
        "session_id": "mine", "file_hash": sha256, "task_id": task.task_id, "event_id": events[0]["event_id"],
        "dataset": "theirs", "database": "secret",
    }  # fmt: skip


def path_of(item: Endpoint, values: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda found: values[found[1]], item.path)


async def test_another_projects_id_is_404_on_every_route_that_takes_one(target: Target) -> None:
    ids = await fill(target)
    assert {name for _, name in TAKING_IDS} == set(INNER)
    for item, name in TAKING_IDS:
        for project in ({"project": "q"}, {"project": "q", "namespace": "n"}):
            values = {**OURS, **ids, "dataset": "d", "database": "main", **project, name: ids[name]}
            given: dict[str, Any] = {"body": BODIES.get(item.name, {})} if item.data is not None else {}
            path = path_of(item, values) + ("?task_id=x" if item.name == "dataset_process_cancel" else "")
            if item.kind == "upload":
                reply = await target.upload("x.txt", b"x", path)
            else:
                reply = await target.ask(item.method, path, **given)
            assert reply.status == 404, (item.name, name, reply.status, reply.body)
    # And nothing of it was harmed.
    for name, path in (
        ("session_id", "chat/sessions/{}/history"), ("task_id", "tasks/{}"), ("event_id", "event_logs/{}"),
        ("database", "rag/databases/{}"),
    ):  # fmt: skip
        assert (await target.ask("GET", f"/v1/projects/n/p/{path.format(ids[name])}")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "rag/query", {"query": "herons", "database": "secret"}),
        ("GET", "rag/stats?database=secret", None),
        ("GET", "rag/health?database=secret", None),
        ("POST", "chat/completions", {"messages": [{"role": "user", "content": "x"}], "database": "secret"}),
        ("POST", "datasets/d/actions", {"action_type": "process", "file_hash": "HASH"}),
        ("POST", "datasets/d/process/cancel?task_id=TASK", {}),
        ("POST", "rag/databases/main/preview", {"dataset_id": "d", "file_hash": "HASH"}),
        ("POST", "rag/databases/main/preview", {"dataset_id": "theirs", "file_hash": "HASH"}),
    ],
)
async def test_another_projects_id_in_a_query_or_body_is_404(
    target: Target, method: str, path: str, body: dict[str, Any] | None
) -> None:
    ids = await fill(target)
    if body is not None:
        body = {key: ids["file_hash"] if value == "HASH" else value for key, value in body.items()}
    given: dict[str, Any] = {} if body is None else {"body": body}
    reply = await target.ask(method, f"/v1/projects/n/q/{path.replace('TASK', ids['task_id'])}", **given)
    assert reply.status == 404, reply.body


async def test_sessions_of_the_same_name_in_two_projects_are_two(target: Target) -> None:
    await fill(target)
    chat = {"messages": [{"role": "user", "content": "otters"}]}
    await target.ask("POST", "/v1/projects/n/q/chat/completions", chat, headers={"X-Session-ID": "mine"})
    history = (await target.ask("GET", "/v1/projects/n/q/chat/sessions/mine/history")).json()
    assert [one["content"] for one in history["messages"] if one["role"] == "user"] == ["otters"]


async def test_the_same_bytes_in_two_projects_outlive_the_deletion_of_one(target: Target) -> None:
    ids = await fill(target)
    path = "/v1/projects/n/q/datasets/d/data"
    assert (await target.upload("b.txt", b"Herons wait at the weir.", path)).json()["hash"] == ids["file_hash"]
    assert (await target.ask("DELETE", "/v1/projects/n/p")).status == 200
    assert (await target.process(project="q")).state == "SUCCESS"
    found = (await target.ask("POST", "/v1/projects/n/q/rag/query", {"query": "herons"})).json()
    assert [one["document_id"] for one in found["results"]] == [ids["file_hash"]]


async def test_a_project_that_is_created_anew_finds_nothing_of_the_old_one(target: Target) -> None:
    ids = await fill(target)
    assert (await target.ask("DELETE", "/v1/projects/n/p")).status == 200
    await target.project("p")
    for path in (f"tasks/{ids['task_id']}", f"event_logs/{ids['event_id']}", "chat/sessions/mine/history"):
        assert (await target.ask("GET", f"/v1/projects/n/p/{path}")).status == 404, path
    found = (await target.ask("POST", "/v1/projects/n/p/rag/query", {"query": "herons"})).json()
    assert found["results"] == []
    datasets = (await target.ask("GET", "/v1/projects/n/p/datasets")).json()["datasets"]
    assert datasets[0]["details"]["file_details"] == []
