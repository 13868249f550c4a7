"""Keys and addresses: what is secret shows up nowhere, and goes nowhere but where it was meant for."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paddock.contracts.base import endpoints_of
from paddock.services import CONTRACTS
from paddock.testing.server import running_server
from paddock.testing.upstream import FakeUpstream, Plan
from tests.security.conftest import DATABASE, PROJECT, Target

BASE = "/v1/projects/n/p"
ENDPOINTS = [item for module in CONTRACTS for item in endpoints_of(module)]
MANAGE, INFER = "manage-5b1c9d7e", "infer-77aa01c2"
STORED = "sk-stored-0123456789abcdef"
FORBIDDEN = [
    "http://169.254.169.254/v1", "http://10.0.0.1/v1", "http://127.0.0.1:22/v1", "http://[::1]:9/v1", "http://2130706433/v1",
    "http://0x7f000001/v1", "http://[::ffff:127.0.0.1]:9/v1", "http://localhost:9/v1", "file:///etc/passwd",
    "http://user:pw@example.com/v1", "http://0/v1", "http://metadata.localhost/v1", "gopher://127.0.0.1:70/",
]  # fmt: skip


def model(**fields: Any) -> dict[str, Any]:
    return {"models": [{"name": "m", "provider": "openai", "model": "fake-model", **fields}]}


def embedding(**config: Any) -> list[dict[str, Any]]:
    return [{"name": "h", "type": "OpenAIEmbedder", "config": {"model": "fake-model", **config}}]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def target(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[Target]:
    settings: dict[str, Any] = {
        "outgoing": {"allow": [upstream.allow], "env": ["ALLOWED_NAME"]},
        "openai": {"api_key": "sk-of-the-settings"},
    }
    async with running_server(tmp_path / "data", settings=settings) as server:
        yield Target(server)


@pytest.mark.parametrize("url", FORBIDDEN)
async def test_a_forbidden_address_is_refused_wherever_a_project_can_name_one(
    target: Target, tmp_path: Path, url: str
) -> None:
    """SSRF: PUT of the project, POST and PATCH of a database, a file edited by hand."""
    await target.project()
    config = {**PROJECT, "name": "p", "namespace": "n"}
    database = {**DATABASE, "name": "other", "embedding_strategies": embedding(base_url=url)}
    replies = [
        await target.ask("PUT", BASE, {"config": {**config, "runtime": model(base_url=url)}}),
        await target.ask("PUT", BASE, {"config": {**config, "rag": {**PROJECT["rag"], "databases": [database]}}}),
        await target.ask("POST", f"{BASE}/rag/databases", database),
        await target.ask("PATCH", f"{BASE}/rag/databases/main", {"embedding_strategies": embedding(base_url=url)}),
    ]
    folder = target.server.app.settings.data_dir / "projects" / "n" / "p"
    (folder / "llamafarm.yaml").write_text(json.dumps({**config, "runtime": model(base_url=url)}))
    ask = {"messages": [{"role": "user", "content": "x"}]}
    replies.append(await target.ask("POST", f"{BASE}/chat/completions", ask))
    replies.append(await target.ask("POST", f"{BASE}/rag/query", {"query": "x"}))
    for reply in replies:
        assert reply.status == 422, reply.body
        assert b"base_url" in reply.body
        assert b"pw@" not in reply.body


async def test_an_example_that_names_a_forbidden_address_is_not_imported(tmp_path: Path) -> None:
    folder = tmp_path / "examples" / "evil"
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text("id: evil\ntitle: x\ndescription: x\nconfig: {yaml_path: llamafarm.yaml}\n")
    (folder / "llamafarm.yaml").write_text(json.dumps({**PROJECT, "runtime": model(base_url=FORBIDDEN[0])}))
    async with running_server(
        tmp_path / "data", settings={"projects": {"example_dirs": [str(tmp_path / "examples")]}}
    ) as server:
        reply = await server.ask("POST", "/v1/examples/evil/import-project", {"namespace": "n", "name": "e"})
        assert reply.status == 422, reply.body
        assert b"base_url" in reply.body
        assert (await server.ask("GET", "/v1/projects/n/e")).status == 404


@pytest.mark.parametrize("field", ["base_url", "api_base", "api_key"])
async def test_a_question_can_not_say_where_it_goes(target: Target, upstream: FakeUpstream, field: str) -> None:
    await target.project(runtime=model(base_url=upstream.base_url))
    body = {"messages": [{"role": "user", "content": "x"}], field: upstream.base_url}
    reply = await target.ask("POST", f"{BASE}/chat/completions", body)
    assert reply.status == 422
    assert field in reply.json()["detail"]
    assert upstream.requests == []


async def test_a_stored_key_never_follows_a_changed_address(target: Target, upstream: FakeUpstream) -> None:
    """Neither by PUT of the project nor by PATCH of the database, with the masked key sent back."""
    databases = [{**DATABASE, "embedding_strategies": embedding(base_url=upstream.base_url, api_key=STORED)}]
    runtime = model(base_url=upstream.base_url, api_key=STORED)
    await target.project(runtime=runtime, rag={**PROJECT["rag"], "databases": databases})
    shown = (await target.ask("GET", BASE)).json()["project"]["config"]
    assert STORED not in json.dumps(shown)
    other = "https://collector.example/v1"
    by_model, by_database = json.loads(json.dumps(shown)), json.loads(json.dumps(shown))
    by_model["runtime"]["models"][0]["base_url"] = other
    by_database["rag"]["databases"][0]["embedding_strategies"][0]["config"]["base_url"] = other
    detail = (await target.ask("GET", f"{BASE}/rag/databases/main")).json()
    strategies = json.loads(json.dumps(detail["embedding_strategies"]))
    strategies[0]["config"]["base_url"] = other
    copied = {**detail, "name": "copy", "embedding_strategies": strategies}
    copied = {key: copied[key] for key in ("name", "type", "config", "embedding_strategies", "retrieval_strategies")}
    for reply in (
        await target.ask("PUT", BASE, {"config": by_model}),
        await target.ask("PUT", BASE, {"config": by_database}),
        await target.ask("PATCH", f"{BASE}/rag/databases/main", {"embedding_strategies": strategies}),
        await target.ask("POST", f"{BASE}/rag/databases", copied),
    ):
        assert reply.status == 422, reply.body
        assert STORED.encode() not in reply.body
    file = (target.server.app.settings.data_dir / "projects" / "n" / "p" / "llamafarm.yaml").read_text()
    assert "collector.example" not in file
    unchanged = await target.ask(
        "PATCH", f"{BASE}/rag/databases/main", {"embedding_strategies": detail["embedding_strategies"]}
    )
    assert unchanged.status == 200, unchanged.body
    await target.ask("POST", f"{BASE}/rag/query", {"query": "x"})
    ask = {"messages": [{"role": "user", "content": "x"}]}
    assert (await target.ask("POST", f"{BASE}/chat/completions", ask)).status == 200
    sent = {request.headers.get("Authorization") for request in upstream.requests}
    assert sent == {f"Bearer {STORED}"}


async def test_the_key_of_the_settings_goes_to_the_address_of_the_settings_only(
    target: Target, upstream: FakeUpstream
) -> None:
    await target.project(runtime=model(base_url=upstream.base_url))
    await target.ask("POST", f"{BASE}/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
    assert len(upstream.requests) == 1
    assert "sk-of-the-settings" not in str(dict(upstream.requests[0].headers))


async def test_a_redirect_of_an_upstream_is_not_followed(target: Target, upstream: FakeUpstream) -> None:
    upstream.plan = Plan(status=302, headers={"Location": f"{upstream.base_url}/elsewhere"})
    await target.project(runtime=model(base_url=upstream.base_url, api_key=STORED))
    reply = await target.ask("POST", f"{BASE}/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
    assert reply.status >= 400
    assert [request.path for request in upstream.requests] == ["/v1/chat/completions"]


@pytest.mark.parametrize("key", [STORED, "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "a-key-of-no-known-form"])
@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_repeats_the_key_in_its_error_does_not_make_it_known(
    target: Target, upstream: FakeUpstream, stream: bool, key: str
) -> None:
    """Error bodies carry no upstream credentials; the event log neither."""
    upstream.plan = Plan(status=401, error={"message": f"Incorrect API key provided: {key}", "type": "auth"})
    await target.project(runtime=model(base_url=upstream.base_url, api_key=key))
    body = {"messages": [{"role": "user", "content": "x"}], "stream": stream}
    reply = await target.ask("POST", f"{BASE}/chat/completions", body)
    assert reply.status >= 400
    assert key.encode() not in reply.body
    events = (await target.ask("GET", f"{BASE}/event_logs")).json()["events"]
    detail = await target.ask("GET", f"{BASE}/event_logs/{events[0]['event_id']}")
    assert key.encode() not in detail.body


async def test_only_listed_variables_of_the_environment_can_be_read(target: Target, upstream: FakeUpstream) -> None:
    await target.project()
    config = {**PROJECT, "name": "p", "namespace": "n"}
    for reference in ("${env:PATH}", "Bearer ${env:HOME}", "${env:ALLOWED_NAME}${env:PATH}"):
        for runtime in (
            model(base_url=upstream.base_url, api_key=reference),
            model(base_url=upstream.base_url, model_api_parameters={"user": reference}),
        ):
            reply = await target.ask("PUT", BASE, {"config": {**config, "runtime": runtime}})
            assert reply.status == 422, reply.body
            assert os.environ["PATH"].encode() not in reply.body


def test_no_key_and_no_body_is_ever_in_the_log_or_in_a_reply(tmp_path: Path) -> None:
    """A server with keys, asked in every wrong way on every route; then its whole output is searched."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PADDOCK_", "LF_"))}
    env |= {"PADDOCK_AUTH__MANAGEMENT_KEYS": MANAGE, "PADDOCK_AUTH__INFERENCE_KEYS": INFER}
    env |= {"PADDOCK_LOG__LEVEL": "debug", "PADDOCK_OPENAI__API_KEY": STORED}
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(tmp_path / "secret-place")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout is not None
    replies: list[bytes] = []
    lines: list[bytes] = []
    try:
        url = ""
        while not url:
            lines.append(process.stdout.readline())
            url = json.loads(lines[-1]).get("url", "")
        replies = list(ask_everything(url))
        process.terminate()
        out, err = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    log = b"".join(lines[1:]) + out + err
    assert len(replies) > 100
    for secret in (MANAGE, INFER, STORED, "wrong-key-1234"):
        assert secret.encode() not in log
        assert secret.encode() not in b"".join(replies)
    assert b"Traceback" not in log
    assert b"secret-place" not in b"".join(replies)


def ask_everything(url: str) -> list[bytes]:
    """Every route with every kind of key, in every place where one may stand."""
    import http.client

    found = []
    host = url.removeprefix("http://")
    for item in ENDPOINTS:
        if item.name in (
            "info_get",
            "disk_get",
            "config_get",
        ):  # they tell the folder to who may manage
            continue
        path = re.sub(r"{\w+}", "x", item.path)
        for key in (MANAGE, INFER, "wrong-key-1234"):
            for place in ("header", "bearer", "query"):
                connection = http.client.HTTPConnection(host, timeout=30)
                asked = f"{path}?api_key={key}" if place == "query" else path
                headers = {"header": {"X-API-Key": key}, "bearer": {"Authorization": f"Bearer {key}"}, "query": {}}[
                    place
                ]
                body = None if item.method == "GET" else io.BytesIO(b'{"bad": ').read()
                connection.request(item.method, asked, body=body, headers=headers)
                reply = connection.getresponse()
                found.append(reply.read() + str(reply.headers).encode())
                connection.close()
    return found


@pytest.mark.parametrize("headers", [{}, {"X-No-Session": "1"}])
async def test_an_upstream_that_repeats_the_key_in_the_middle_of_a_stream_does_not_make_it_known(
    target: Target, upstream: FakeUpstream, headers: dict[str, str]
) -> None:
    upstream.plan = Plan(fail_after=1, error={"message": f"the key {STORED} was revoked", "type": "auth"})
    await target.project(runtime=model(base_url=upstream.base_url, api_key=STORED))
    body = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    reply = await target.ask("POST", f"{BASE}/chat/completions", body, headers=headers)
    assert b"was revoked" in reply.body
    assert STORED.encode() not in reply.body
    events = (await target.ask("GET", f"{BASE}/event_logs")).json()["events"]
    detail = await target.ask("GET", f"{BASE}/event_logs/{events[0]['event_id']}")
    assert STORED.encode() not in detail.body


async def test_an_embedder_that_repeats_the_key_does_not_make_it_known(target: Target, upstream: FakeUpstream) -> None:
    upstream.embedding_plan = Plan(status=401, error={"message": f"the key {STORED} is wrong", "type": "auth"})
    database = {**DATABASE, "embedding_strategies": embedding(base_url=upstream.base_url, api_key=STORED)}
    await target.project(rag={**PROJECT["rag"], "databases": [database]})
    query = {"query": "x", "retrieval_strategy": "semantic"}
    replies = [await target.ask("POST", f"{BASE}/rag/query", query), await target.ask("GET", f"{BASE}/rag/health")]
    assert replies[0].status >= 400
    await target.upload("a.txt", b"Herons wait at the weir.")
    task = await target.process()
    assert task.state == "FAILURE"
    replies.append(await target.ask("GET", f"{BASE}/tasks/{task.task_id}"))
    replies.append(await target.ask("GET", f"{BASE}/datasets"))
    assert all(STORED.encode() not in reply.body for reply in replies)
