"""Tasks, examples, health, system, event logs, MCP operations and errors of the API document."""

import asyncio
import json
from typing import Any

P = "http://localhost:8000/v1/projects/my-org/chatbot"
TYPED = '-H "Content-Type: application/json"'
CANCELLED = {
    "message": "text",
    "task_id": "task-123-abc",
    "cancelled": True,
    "pending_tasks_cancelled": 5,
    "running_tasks_at_cancel": 2,
    "files_reverted": 3,
    "files_failed_to_revert": 0,
    "errors": None,
    "already_completed": False,
    "already_cancelled": False,
}
DISK = {"total_bytes": 1, "used_bytes": 1, "free_bytes": 1, "path": "/", "percent_free": 60.0}
# Operation ids that the document tags with mcp, with their method and the path below the project (or as it is).
MCP = """
projects_list GET /v1/projects/{namespace}
project_create POST /v1/projects/{namespace}
project_get GET /v1/projects/{namespace}/{project}
project_update PUT /v1/projects/{namespace}/{project}
project_delete DELETE /v1/projects/{namespace}/{project}
models_list GET /v1/projects/{namespace}/{project}/models
dataset_list GET /v1/projects/{namespace}/{project}/datasets
dataset_strategies_list GET /v1/projects/{namespace}/{project}/datasets/strategies
dataset_create POST /v1/projects/{namespace}/{project}/datasets
dataset_delete DELETE /v1/projects/{namespace}/{project}/datasets/{dataset}
dataset_actions POST /v1/projects/{namespace}/{project}/datasets/{dataset}/actions
dataset_data_upload POST /v1/projects/{namespace}/{project}/datasets/{dataset}/data
rag_query POST /v1/projects/{namespace}/{project}/rag/query
database_create POST /v1/projects/{namespace}/{project}/rag/databases
database_get GET /v1/projects/{namespace}/{project}/rag/databases/{database}
database_update PATCH /v1/projects/{namespace}/{project}/rag/databases/{database}
database_delete DELETE /v1/projects/{namespace}/{project}/rag/databases/{database}
task_get GET /v1/projects/{namespace}/{project}/tasks/{task_id}
"""


async def test_a_task_tells_its_state_and_result(filled: Any) -> None:
    task = await filled.good(f"curl {P}/tasks/task-123-abc")
    counts = {"processed_files": 2, "failed_files": 0, "skipped_files": 0}
    printed: dict[str, Any] = {"task_id": "t", "state": "SUCCESS", "meta": {"current": 2, "total": 2}, "result": counts}
    filled.fits(task, {**printed, "error": None, "traceback": None})
    assert (task["state"], task["meta"]["current"], task["result"]["processed_files"]) == ("SUCCESS", 1, 1)
    (detail,) = task["result"]["details"]
    printed = {"hash": "h", "filename": "f", "status": "processed", "parser": "p", "extractors": [], "chunks": 1}
    filled.fits(detail, {**printed, "chunk_size": 100, "embedder": "e", "error": None, "reason": None})


async def test_a_finished_task_is_not_cancelled(filled: Any) -> None:
    reply = await filled.good(f"curl -X DELETE {P}/tasks/task-123-abc")
    filled.fits(reply, CANCELLED)
    assert reply["message"] == "Task already success"
    assert (reply["cancelled"], reply["already_completed"], reply["already_cancelled"]) == (False, True, False)


async def test_an_unknown_task_is_not_found(client: Any) -> None:
    client.names["task"] = "nope"
    for method in ("GET", "DELETE"):
        assert (await client.curl(f"curl -X {method} {P}/tasks/task-123-abc")).status == 404


async def test_a_task_belongs_to_its_project(filled: Any) -> None:
    await filled.server.ask("POST", "/v1/projects/other", {"name": "p"})
    for method in ("GET", "DELETE"):
        reply = await filled.server.ask(method, f"/v1/projects/other/p/tasks/{filled.names['task']}")
        assert reply.status == 404


async def test_examples_are_listed_with_their_datasets(bare: Any) -> None:
    found = await bare.good("curl http://localhost:8000/v1/examples")
    words = {"id": "i", "slug": "s", "title": "t", "description": "d", "primaryModel": "m", "updated_at": "2024"}
    sizes = {"data_size_bytes": 1, "data_size_human": "2.0MB", "project_size_bytes": 1, "project_size_human": "4.0KB"}
    bare.fits(found, {"examples": [{**words, **sizes, "tags": ["rag"], "dataset_count": 1}]})
    one = {"example_id": "e", "example_title": "t", "name": "n", "strategy": "s", "database": "d", "kind": "pdf"}
    printed = {"datasets": [{**one, "ingest": ["files/*"], "size_bytes": 1, "size_human": "1KB"}]}
    bare.fits(await bare.good("curl http://localhost:8000/v1/examples/fda_rag/datasets"), printed)
    bare.fits(await bare.good("curl http://localhost:8000/v1/examples/datasets"), printed)
    assert await bare.good("curl http://localhost:8000/v1/examples/") == found


async def test_an_example_becomes_a_project_that_answers(bare: Any) -> None:
    body = '{"namespace": "my-org", "name": "my-fda-project", "process": true}'
    line = f"curl -X POST http://localhost:8000/v1/examples/fda_rag/import-project \\\n{TYPED} \\\n-d '{body}'"
    found = await bare.good(line)
    bare.fits(found, {"project": "p", "namespace": "my-org", "datasets": ["d"], "task_ids": ["t"]})
    assert (found["project"], len(found["task_ids"])) == ("my-fda-project", len(found["datasets"]))
    path = "/v1/projects/my-org/my-fda-project"
    for task in found["task_ids"]:
        await bare.server.ask("GET", f"{path}/tasks/{task}/events")
        assert (await bare.server.ask("GET", f"{path}/tasks/{task}")).json()["state"] == "SUCCESS"
    question = {"messages": [{"role": "user", "content": "When is the museum open on Sundays in winter?"}]}
    answer = (await bare.server.ask("POST", f"{path}/chat/completions", question)).json()
    assert "11:00" in answer["choices"][0]["message"]["content"]
    assert (await bare.curl(line)).status == 409


async def test_an_examples_data_goes_into_an_existing_project(client: Any) -> None:
    body = '{"namespace": "my-org", "project": "my-project", "include_strategies": true, "process": true}'
    line = f"curl -X POST http://localhost:8000/v1/examples/fda_rag/import-data {TYPED} -d '{body}'"
    found = await client.good(line)
    client.fits(found, {"project": "chatbot", "namespace": "my-org", "datasets": ["d"], "task_ids": ["t"]})
    for task in found["task_ids"]:
        assert (await client.finished(task))["state"] == "SUCCESS"
    assert (await client.get("/rag/databases"))["default_database"] == "main_db"
    body = '{"namespace": "my-org", "project": "my-project", "dataset": "fda_letters", "target_dataset": "mine"}'
    one = await client.good(
        f"curl -X POST http://localhost:8000/v1/examples/fda_rag/import-dataset {TYPED} -d '{body}'"
    )
    client.fits(one, {"project": "chatbot", "namespace": "my-org", "dataset": "mine", "file_count": 1, "task_id": "t"})
    assert (await client.finished(one["task_id"]))["state"] == "SUCCESS"


async def test_an_unknown_example_is_not_found(client: Any) -> None:
    new, old = {"namespace": "my-org", "name": "p"}, {"namespace": "my-org", "project": "chatbot"}
    for action, body in (("project", new), ("data", old), ("dataset", {**old, "dataset": "visit"})):
        reply = await client.server.ask("POST", f"/v1/examples/nope/import-{action}", body)
        assert (reply.status, "harbour_museum" in reply.json()["detail"]) == (404, True)


async def test_health_and_the_root_answer_as_printed(bare: Any) -> None:
    health = await bare.good("curl http://localhost:8000/health")
    part = {"name": "server", "status": "healthy", "message": "text"}
    bare.fits(health, {"status": "healthy", "services": {"api": "healthy"}, "summary": "t", "components": [part]})
    assert health["services"] == {"api": "healthy", "storage": "healthy", "tasks": "healthy"}
    assert await bare.good("curl http://localhost:8000/health/liveness") == {"status": "alive"}
    assert await bare.good("curl http://localhost:8000/") == {"message": "Hello, World!"}


async def test_information_versions_and_disks_are_told(bare: Any) -> None:
    info = await bare.good("curl http://localhost:8000/info")
    bare.fits(info, {"version": "0.1.0", "data_directory": "/data"})
    found = await bare.good("curl http://localhost:8000/v1/system/version-check")
    install = {"mac_linux": "text", "windows": "text"}
    words = {"name": "v1", "release_notes": "text", "release_url": "u", "published_at": None, "from_cache": False}
    bare.fits(found, {"current_version": "1", "latest_version": "1", **words, "install": install})
    assert (found["latest_version"], found["from_cache"]) == (info["version"], True)
    disk = await bare.good("curl http://localhost:8000/v1/system/disk")
    bare.fits(disk, {"cache": DISK, "system": DISK})
    assert 0 <= disk["system"]["percent_free"] <= 100


async def test_events_are_listed_filtered_and_shown(filled: Any) -> None:
    assert (await filled.chat("What must trials follow?")).status == 200
    assert (await filled.chat("x", model="nope")).status == 404
    item = {"event_id": "evt", "type": "inference", "timestamp": "2024-01-15T10:30:00Z"}
    summary = {"model": None, "tokens": None, "duration_ms": 1200.0}
    found = await filled.get("/event_logs")
    filled.fits(found, {"total": 42, "events": [{**item, "summary": summary}], "limit": 10, "offset": 0})
    more = {"event_type": "t", "request_id": "r", "namespace": "n", "project": "p", "status": "completed"}
    filled.fits(found, {"events": [{**more, "duration_ms": 1.0, "config_hash": None}]})
    assert {one["type"] for one in found["events"]} == {"inference", "rag_processing"}
    inference = await filled.get("/event_logs?type=inference&limit=20")
    assert (inference["total"], inference["limit"]) == (2, 20)
    assert {one["status"] for one in inference["events"]} == {"completed", "failed"}
    assert (await filled.get("/event_logs?limit=1&offset=1"))["events"] == found["events"][1:2]
    assert (await filled.get("/event_logs?start_time=2024-01-15T00:00:00Z"))["total"] == found["total"]
    assert (await filled.get("/event_logs?end_time=2024-01-15T00:00:00Z"))["total"] == 0
    for query in ("start_time=yesterday", "limit=0", "limit=101", "offset=-1"):
        assert (await filled.curl(f'curl "{P}/event_logs?{query}"')).status == 422
    (done,) = [one["event_id"] for one in inference["events"] if one["status"] == "completed"]
    filled.names["event"] = done
    detail = await filled.good(f"curl {P}/event_logs/evt_20240115_103000_inference_abc123")
    tokens = {"prompt": 50, "completion": 100, "total": 150}
    data = {"model": "m", "messages": [{"role": "user"}], "response": {}, "tokens": tokens, "duration_ms": 1200.0}
    step = {"timestamp": "2024", "event_name": "n", "duration_ms": 1.0, "data": {}}
    filled.fits(detail, {**item, "data": data, "sub_events": [step], "events": [step], "error": None})
    filled.names["event"] = "evt_nope"
    assert (await filled.curl(f"curl {P}/event_logs/evt_20240115_103000_inference_abc123")).status == 404


async def test_the_mcp_operations_have_the_documented_ids_and_only_they_the_tag(bare: Any) -> None:
    document = await bare.good("curl http://localhost:8000/openapi.json")
    tagged = {
        f"{operation['operationId']} {method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "mcp" in operation.get("tags", ())
    }
    assert tagged == set(MCP.strip().splitlines())


async def test_conversations_of_one_project_run_at_once(client: Any) -> None:
    replies = await asyncio.gather(*(client.chat(f"question {number}") for number in range(20)))
    assert len({reply.headers["X-Session-ID"] for reply in replies}) == 20
    assert [reply.json()["choices"][0]["message"]["content"] for reply in replies] == [
        f"question {n}" for n in range(20)
    ]


ERRORS = [
    ("POST", "/v1/projects/my-org", '{"name": "a b"}', 400),
    ("POST", "/v1/projects/llamafarm", '{"name": "x"}', 400),
    ("POST", "/v1/projects/my-org", '{"name": 7}', 422),
    ("POST", "/v1/projects/my-org", "{", 422),
    ("GET", "/v1/projects/my-org/nope", None, 404),
    ("GET", "/v1/nope", None, 404),
    ("PUT", "/v1/projects/my-org/chatbot", '{"config": {"name": "other"}}', 400),
    ("PUT", "/v1/projects/my-org/chatbot", '{"config": {"version": "v1", "runtime": {"models": [{}]}}}', 422),
    ("POST", "/v1/projects/my-org/chatbot/datasets", '{"name": "d", "database": "nope"}', 404),
    ("POST", "/v1/projects/my-org/chatbot/datasets", '{"name": "d", "data_processing_strategy": "nope"}', 404),
    ("POST", "/v1/projects/my-org/chatbot/datasets", '{"name": "../d"}', 400),
    ("POST", "/v1/projects/my-org/chatbot/datasets/nope/actions", '{"action_type": "process"}', 404),
    ("POST", "/v1/projects/my-org/chatbot/chat/completions", '{"messages": []}', 422),
    ("PATCH", "/info", "{}", 405),
]


async def test_an_error_is_one_readable_sentence(client: Any) -> None:
    for method, path, body, status in ERRORS:
        reply = await client.server.ask(method, path, data=body)
        assert reply.status == status, reply.body
        found = reply.json()
        assert isinstance(found["detail"], str)
        assert " " in found["detail"]
        for error in found.get("errors", ()) if status == 422 else ():
            assert set(error) == {"field", "reason"}
            assert error["reason"] in found["detail"]
        assert ("errors" in found) == (status == 422)


async def test_a_validation_error_names_the_field_and_what_is_allowed(client: Any) -> None:
    missing = await client.server.ask("POST", "/v1/projects/my-org", {})
    assert missing.json()["errors"] == [{"field": "name", "reason": "is required"}]
    unknown = await client.server.ask("POST", "/v1/projects/my-org", {"name": "x", "templat": "rag"})
    assert unknown.json()["errors"][0]["field"] == "templat"
    await client.send("POST", "/datasets", {"name": "d", "database": "main_db"})
    action = await client.send("POST", "/datasets/d/actions", {"action_type": "explode"})
    assert "process, ingest" in action.json()["detail"]
    body = json.dumps({"messages": [{"role": "user", "content": "x"}, {"content": "y"}]})
    nested = await client.server.ask("POST", "/v1/projects/my-org/chatbot/chat/completions", data=body)
    assert nested.json()["errors"] == [{"field": "messages[1].role", "reason": "is required"}]
