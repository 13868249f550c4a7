"""llamactl's newer document: its own curl lines in its own order, against the real llama-server with a tiny model."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api_document.llamactl import Llamactl, llamactl

KEYS = {"management_keys": ["your-api-key"], "inference_keys": ["your-inference-api-key"]}
MANAGE = {"Authorization": "Bearer your-api-key"}
SHOWN = {"name": "llama2-7b", "status": "running", "created": 1705312200}

CREATE = """curl -X POST http://localhost:8080/api/v1/instances/my-model \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer your-api-key" \\
  -d '{
    "model": "/models/llama-2-7b.gguf"
  }'"""
STATUS = """curl -H "Authorization: Bearer your-api-key" \\
  http://localhost:8080/api/v1/instances/my-model"""
LOGS = """curl -H "Authorization: Bearer your-api-key" \\
  "http://localhost:8080/api/v1/instances/my-model/logs?lines=50\""""
CHAT = """curl -X POST http://localhost:8080/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer your-inference-api-key" \\
  -d '{
    "model": "my-model",
    "messages": [
      {"role": "user", "content": "Hello!"}
    ],
    "max_tokens": 100
  }'"""
STOP = """curl -X POST -H "Authorization: Bearer your-api-key" \\
  http://localhost:8080/api/v1/instances/my-model/stop"""
DELETE = """curl -X DELETE -H "Authorization: Bearer your-api-key" \\
  http://localhost:8080/api/v1/instances/my-model"""
PROXIED = """curl -X POST http://localhost:8080/api/v1/instances/my-model/proxy/completion \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer your-api-key" \\
  -d '{
    "prompt": "Hello, world!",
    "n_predict": 50
  }'"""
HEALTH = """curl -H "Authorization: Bearer your-api-key" \\
  http://localhost:8080/api/v1/instances/my-model/proxy/health"""
LIST = """curl -H "Authorization: Bearer <your-api-key>" \\
  http://localhost:8080/api/v1/instances"""


class Newer(Llamactl):
    path = "/api/v1/instances"
    headers = MANAGE
    replaced = {  # noqa: RUF012  read only
        "http://localhost:8080": "{base}", "/models/llama-2-7b.gguf": "{model}", "<your-api-key>": "your-api-key",
    }  # fmt: skip

    async def ask(self, method: str, path: str, body: Any = None, **given: Any) -> Any:
        """Ask with the management key."""
        return await self.server.ask(method, path, body, headers=MANAGE, **given)


@pytest.fixture
async def newer(tmp_path: Path, real_llama_server: str) -> AsyncIterator[Newer]:
    async with llamactl(Newer, tmp_path, real_llama_server, {"auth": KEYS}) as reader:
        assert isinstance(reader, Newer)
        yield reader


@pytest.fixture
async def running(newer: Newer) -> Newer:
    """The document's instance, ready."""
    await newer.good(CREATE, 201)
    await newer.until("my-model", "running")
    return newer


async def test_the_lifecycle_of_the_document(newer: Newer) -> None:
    created = await newer.good(CREATE, 201)
    newer.fits(created, SHOWN)
    assert created["status"] == "starting"
    newer.fits(await newer.good(STATUS), SHOWN)
    assert (await newer.curl(LOGS)).headers["Content-Type"].startswith("text/plain")
    answer = await newer.good(CHAT)
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] > 0
    assert (await newer.good(STATUS))["status"] == "running"
    assert b"model loaded" in (await newer.curl(LOGS)).body
    newer.fits(await newer.good(LIST), [SHOWN])
    assert (await newer.good(STOP))["status"] == "stopping"
    await newer.until("my-model", "stopped")
    reply = await newer.curl(DELETE)
    assert (reply.status, reply.body) == (204, b"")
    assert (await newer.curl(STATUS)).status == 404


async def test_the_proxy_of_the_document(running: Newer) -> None:
    assert await running.good(HEALTH) == {"status": "ok"}
    assert (await running.good(PROXIED))["tokens_predicted"] > 0
    await running.good(STOP)
    await running.until("my-model", "stopped")
    reply = await running.curl(HEALTH)
    assert (reply.status, set(reply.json())) == (503, {"error"})
    assert (await running.ask("GET", "/api/v1/instances/my-model")).json()["status"] == "stopped"


async def test_stop_start_and_restart_say_what_the_document_prints(running: Newer) -> None:
    for verb, word, then in (
        ("stop", "stopping", "stopped"), ("start", "starting", "running"), ("restart", "restarting", "running"),
    ):  # fmt: skip
        reply = (await running.ask("POST", f"/api/v1/instances/my-model/{verb}")).json()
        running.fits(reply, SHOWN)
        assert reply["status"] == word
        await running.until("my-model", then)


async def test_an_update_restarts_with_the_option(running: Newer) -> None:
    reply = await running.ask("PUT", "/api/v1/instances/my-model", {"ctx_size": 512})
    running.fits(reply.json(), SHOWN)
    await running.until("my-model", "running")
    props = (await running.ask("GET", "/api/v1/instances/my-model/proxy/props")).json()
    assert props["default_generation_settings"]["n_ctx"] == 512


async def test_the_models_of_the_document(running: Newer) -> None:
    reply = await running.server.ask("GET", "/v1/models", headers={"Authorization": "Bearer your-inference-api-key"})
    found = reply.json()
    assert found["object"] == "list"
    shown = next(item for item in found["data"] if item["id"] == "my-model")
    running.fits(shown, {"id": "llama2-7b", "object": "model", "created": 1705312200, "owned_by": "llamactl"})
    assert shown["owned_by"] == "llamactl"


async def test_the_system_endpoints_of_the_document(newer: Newer) -> None:
    version = (await newer.ask("GET", "/api/v1/version")).body.decode()
    assert [line.split(": ")[0] for line in version.splitlines()] == ["Version", "Commit", "Build Time"]
    for path, words in (("help", "--ctx-size"), ("version", "version"), ("devices", "devices")):
        reply = await newer.ask("GET", f"/api/v1/server/{path}")
        assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        assert words in reply.body.decode()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"model": "{model}", "ctx_size": "many"}, "ctx_size"), ({"model": "{model}", "mlock": True}, "--mlock"),
        ({"model": "{folder}/models/none.gguf"}, "none.gguf"), ({"model": "/etc/hostname"}, "llama_server.model_dirs"),
        ({"model": "{model}", "port": 1_000_000}, "port"),
        ({"model": "{model}", "environment": {"LD_PRELOAD": "/x"}}, "LD_PRELOAD"),
        ({"model": "{model}", "extra_args": ["--tools", "all"]}, "--tools"),
        ({"model": "{model}", "log_file": "/tmp/x"}, "log_file"),
    ],
)  # fmt: skip
async def test_bad_input_is_400_by_name_and_creates_nothing(newer: Newer, body: dict[str, Any], words: str) -> None:
    text = json.dumps(body).replace("{model}", newer.names["model"]).replace("{folder}", str(newer.folder))
    reply = await newer.ask("POST", "/api/v1/instances/bad", json.loads(text))
    assert reply.status == 400, reply.body
    assert words in reply.json()["error"]
    assert (await newer.ask("GET", "/api/v1/instances")).json() == []


async def test_names_that_exist_or_do_not_answer_409_and_404(running: Newer) -> None:
    assert (await running.curl(CREATE)).status == 409
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("GET", "/logs"), ("GET", "/proxy/health")):
        assert (await running.ask(method, f"/api/v1/instances/none{path}")).status == 404


async def test_a_log_is_followed_through_a_restart(running: Newer) -> None:
    url = f"{running.server.base_url}/api/v1/instances/my-model/logs?follow=true&lines=1"
    async with running.server.session.get(url, headers=MANAGE) as reply, asyncio.timeout(60):
        await running.ask("POST", "/api/v1/instances/my-model/restart")
        lines = [await reply.content.readline()]
        for mark in (b"=== my-model started", b"listening on"):
            while mark not in lines[-1]:
                lines.append(await reply.content.readline())
    assert b"=== my-model started" not in lines[0]  # the line from before the restart


async def test_a_stream_through_the_proxy_and_a_client_that_leaves_it(running: Newer) -> None:
    url = f"{running.server.base_url}/api/v1/instances/my-model/proxy/completion"
    body = {"prompt": "Hello", "n_predict": -1, "stream": True, "ignore_eos": True}
    async with running.server.session.post(url, json=body, headers=MANAGE) as reply:
        assert reply.headers["Content-Type"].startswith("text/event-stream")
        assert (await reply.content.readline()).startswith(b"data: ")
        reply.close()
    async with asyncio.timeout(30):
        while any(slot["is_processing"] for slot in await slots(running)):
            continue


async def slots(running: Newer) -> Any:
    """What the child's slots do."""
    return (await running.ask("GET", "/api/v1/instances/my-model/proxy/slots")).json()


async def test_odd_paths_reach_the_child_as_they_are(running: Newer) -> None:
    for path in ("/health/", "//health", "/%68ealth", "/no%2Fsuch"):
        reply = await running.ask("GET", f"/api/v1/instances/my-model/proxy{path}")
        assert reply.status in (200, 404), (path, reply.body)
    plain, slashed = [(await running.ask("GET", f"/api/v1/instances/my-model/proxy{end}")).body for end in ("", "/")]
    assert plain == slashed == (await running.ask("GET", "/api/v1/instances/my-model/proxy//")).body
