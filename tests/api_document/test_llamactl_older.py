"""llamactl's older document: its own curl lines in its own order, against the real llama-server with a tiny model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.api_document.llamactl import Llamactl, llamactl

ITEM = {
    "name": "llama2-7b", "status": "running", "model_path": "/models/llama-2-7b.gguf", "port": 8081,
    "created_at": "2024-01-15T10:30:00Z", "updated_at": "2024-01-15T12:45:00Z",
}  # fmt: skip
DETAIL = {
    **ITEM, "pid": 12345, "options": {"threads": 4, "context_size": 2048, "gpu_layers": 0},
    "stats": {"memory_usage": 4294967296, "cpu_usage": 25.5, "uptime": 3600},
}  # fmt: skip
CREATED = {
    "message": "Instance created successfully",
    "instance": {
        "name": "my-instance", "status": "stopped", "model_path": "/path/to/model.gguf", "port": 8081,
        "created_at": "2024-01-15T14:30:00Z",
    },
}  # fmt: skip
LIST = """curl -H "Authorization: Bearer <your-jwt-token>" \\
http://localhost:8080/api/instances"""
CREATE = """curl -X POST http://localhost:8080/api/instances \\
-H "Content-Type: application/json" \\
-d '{
"name": "example",
"model_path": "/models/example.gguf",
"port": 8081
}'"""
START = "curl -X POST http://localhost:8080/api/instances/example/start"
STATUS = "curl http://localhost:8080/api/instances/example"
STOP = "curl -X POST http://localhost:8080/api/instances/example/stop"
DELETE = "curl -X DELETE http://localhost:8080/api/instances/example"
PRINTED_BODY: dict[str, Any] = {
    "name": "my-instance", "model_path": "/path/to/model.gguf", "port": 8081,
    "options": {"threads": 4, "context_size": 2048, "gpu_layers": 0},
}  # fmt: skip


class Older(Llamactl):
    path = "/api/instances"
    replaced = {  # noqa: RUF012  read only
        "http://localhost:8080": "{base}", "/models/example.gguf": "{model}", "8081": "{port}", "<your-jwt-token>": "{token}",
    }  # fmt: skip

    async def ask(self, method: str, path: str, body: Any = None, **given: Any) -> Any:
        """The decoded reply of what must succeed."""
        reply = await self.server.ask(method, path, body, **given)
        assert reply.status == 200, reply.body
        return reply.json()


@pytest.fixture
async def older(tmp_path: Path, real_llama_server: str) -> AsyncIterator[Older]:
    async with llamactl(Older, tmp_path, real_llama_server, {}) as reader:
        assert isinstance(reader, Older)
        yield reader


@pytest.fixture
async def running(older: Older) -> Older:
    """The document's instance, running."""
    await older.good(CREATE, 201)
    await older.good(START)
    await older.until("example", "running")
    return older


async def test_the_lifecycle_of_the_document(older: Older) -> None:
    older.fits(await older.good(CREATE, 201), CREATED)
    assert await older.good(START) == {"message": "Instance start initiated", "status": "starting"}
    older.fits(await older.until("example", "running"), {**DETAIL, "options": {}})
    assert (await older.good(STATUS))["port"] == int(older.names["port"])
    refused = await older.curl(DELETE)
    assert (refused.status, refused.json()["code"]) == (409, "INSTANCE_RUNNING")
    assert await older.good(STOP) == {"message": "Instance stop initiated", "status": "stopping"}
    await older.until("example", "stopped")
    assert await older.good(DELETE) == {"message": "Instance deleted successfully"}
    assert (await older.curl(STATUS)).json()["code"] == "INSTANCE_NOT_FOUND"


async def test_the_documents_body_with_its_options(older: Older) -> None:
    body = {**PRINTED_BODY, "model_path": older.names["model"], "port": int(older.names["port"])}
    reply = await older.server.ask("POST", "/api/instances", body)
    assert reply.status == 201, reply.body
    older.fits(reply.json(), CREATED)
    older.fits((await older.good("curl http://localhost:8080/api/instances"))["instances"], [ITEM])
    changed = await older.ask("PUT", "/api/instances/my-instance", {"options": {"threads": 8, "context_size": 4096}})
    assert changed["instance"]["options"] == {"threads": 8, "context_size": 4096, "gpu_layers": 0}
    await older.ask("POST", "/api/instances/my-instance/start")
    older.fits(await older.until("my-instance", "running"), DETAIL)


async def test_the_login_of_the_document_opens_its_list(tmp_path: Path, real_llama_server: str) -> None:
    auth = {"admin_password": "password", "management_keys": ["key"]}
    async with llamactl(Older, tmp_path, real_llama_server, {"auth": auth}) as older:
        assert (await older.curl("curl http://localhost:8080/api/instances")).status == 401
        login = await older.server.ask("POST", "/api/auth/login", {"username": "admin", "password": "password"})
        older.fits(login.json(), {"token": "eyJ", "expires_at": "2024-01-16T14:30:00Z"})
        older.names["token"] = login.json()["token"]
        assert await older.good(LIST) == {"instances": []}


async def test_what_an_instance_takes_is_known_when_it_runs(running: Older) -> None:
    stats = (await running.ask("GET", "/api/instances/example"))["stats"]
    assert stats["memory_usage"] > 1_000_000


async def test_health_and_logs_of_the_document(running: Older) -> None:
    health = await running.ask("GET", "/api/instances/example/health")
    assert (health["status"], health["checks"]) == ("healthy", {"process": "running", "port": "open", "response": "ok"})
    running.fits(health["last_check"], "2024-01-15T14:30:00Z")
    logs = await running.ask("GET", "/api/instances/example/logs?lines=1000")
    running.fits(logs, {"logs": [{"timestamp": "2024", "level": "info", "message": "Model loaded successfully"}]})
    assert any("model loaded" in line["message"] for line in logs["logs"])
    assert all(
        line["level"] == "error"
        for line in (await running.ask("GET", "/api/instances/example/logs?level=error"))["logs"]
    )


async def test_restart_and_the_batches_of_the_document(running: Older) -> None:
    restarted = await running.ask("POST", "/api/instances/example/restart")
    assert restarted == {"message": "Instance restart initiated", "status": "restarting"}
    await running.until("example", "running")
    stopped = await running.ask("POST", "/api/instances/stop-all")
    assert (stopped["instances"], stopped["errors"]) == ([{"name": "example", "status": "stopping"}], {})
    await running.until("example", "stopped")
    started = await running.ask("POST", "/api/instances/start-all")
    assert (started["instances"], started["errors"]) == ([{"name": "example", "status": "starting"}], {})
    await running.until("example", "running")


async def test_the_system_status_of_the_document_counts_the_instances(running: Older) -> None:
    found = await running.ask("GET", "/api/system/status")
    assert found["instances"] == {"total": 1, "running": 1, "stopped": 0}
    printed = {"cpu_usage": 45.2, "memory_usage": 1, "memory_total": 1, "disk_usage": 75.5}
    running.fits(found, {"version": "1.0.0", "uptime": 86400, "resources": printed})


async def test_the_websocket_of_the_document(running: Older) -> None:
    async with running.server.session.ws_connect(f"{running.server.base_url}/api/ws") as socket:
        figures = await until(socket, "instance_stats_updated")
        assert (figures["name"], figures["memory_usage"] > 1_000_000) == ("example", True)
        await running.good(STOP)
        statuses = [(await until(socket, "instance_status_changed"))["status"] for _ in range(2)]
        assert statuses == ["stopping", "stopped"]


async def until(socket: aiohttp.ClientWebSocketResponse, kind: str) -> Any:
    """The data of the next message of a kind, within the five seconds that figures may take."""
    async with asyncio.timeout(5):
        while True:
            message = await socket.receive_json()
            if message["type"] == kind:
                return message["data"]
