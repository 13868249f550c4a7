"""Instances behind the gateway: one name for every path, started with the first request, shown in the list and in /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from paddock_llama_server.server import instance_name
from paddock_llama_server.stub import write_command, write_model

from paddock.testing.hub import FakeHub
from paddock.testing.server import RunningServer, running_server

SAID: Any = [{"role": "user", "content": "Hello?"}]
LONG = 30


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    models = tmp_path / "models"
    write_model(models / "quick.gguf", tokens=3)
    write_model(models / "held.gguf", tokens=3, hold=True)
    command = write_command(tmp_path / "llama-server")
    settings = {"llama_server": {"command": str(command), "model_dirs": [str(models)]}}
    async with running_server(tmp_path / "data", settings=settings) as server:
        for name in ("quick", "held"):
            body = {"model": str(models / f"{name}.gguf"), "on_demand_start": True}
            reply = await server.ask("POST", f"/api/v1/instances/{name}", body)
            assert reply.status == 201, reply.body
        yield server


async def state_of(server: RunningServer, name: str) -> dict[str, Any]:
    reply = await server.ask("GET", f"/api/v1/instances/{name}/proxy/stub/state")
    assert reply.status == 200, reply.body
    return dict(reply.json())


@pytest.mark.parametrize("model", ["quick", "llama-server/quick"])
async def test_an_instance_answers_by_name_whole_and_as_a_stream(server: RunningServer, model: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="callers-own", max_retries=0) as client:
        reply = await client.chat.completions.create(model=model, messages=SAID)
        assert reply.choices[0].message.content
        stream = await client.chat.completions.create(model=model, messages=SAID, stream=True)
        assert [chunk async for chunk in stream if chunk.choices]
    assert "callers-own" not in str(await state_of(server, "quick"))


async def test_a_repository_alone_means_the_quantization_that_it_would_choose(
    server: RunningServer, tmp_path: Path
) -> None:
    for quant in ("Q8_0", "Q4_K_M", "F16"):
        write_model(tmp_path / "models" / "models--org--m" / "snapshots" / "1" / f"m-{quant}.gguf")
    async with openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="none", max_retries=0) as client:
        assert (await client.chat.completions.create(model="org/m", messages=SAID)).choices[0].message.content
        listed = {one.id async for one in client.models.list()}
    assert {"org/m:Q8_0", "org/m:Q4_K_M", "org/m:F16"} <= listed
    assert [name for name in listed if name.startswith("org-m-")] == [instance_name("org/m:Q4_K_M")]


async def test_a_model_is_there_as_soon_as_it_was_fetched_and_gone_as_soon_as_it_was_deleted(tmp_path: Path) -> None:
    write_model(tmp_path / "m-Q4_0.gguf", tokens=3)
    async with FakeHub() as hub:
        hub.add("org/m", {"m-Q4_0.gguf": (tmp_path / "m-Q4_0.gguf").read_bytes()})
        command = write_command(tmp_path / "llama-server")
        settings = {**hub.settings(), "llama_server": {"command": str(command)}}
        async with running_server(tmp_path / "data", settings=settings) as server:

            async def listed() -> bool:
                found = (await server.ask("GET", "/v1/models")).json()["data"]
                return "org/m:Q4_0" in [one["id"] for one in found]

            assert not await listed()
            await server.ask("POST", "/v1/models/download", {"model_name": "org/m"})
            assert await listed()
            assert (await server.ask("DELETE", "/v1/models/org/m")).status == 200
            assert not await listed()


async def test_an_instance_may_name_a_cached_model_instead_of_its_file(server: RunningServer, tmp_path: Path) -> None:
    file = write_model(tmp_path / "models" / "models--org--m" / "snapshots" / "1" / "m-Q8_0.gguf", tokens=3)
    for name, model in (("whole", "org/m:Q8_0"), ("alone", "org/m")):
        made = await server.ask("POST", f"/api/v1/instances/{name}", {"model": model, "model_draft": model})
        assert made.status == 201, made.body
        options = made.json()["options"]["backend_options"]
        assert (options["model"], options["model_draft"]) == (str(file), str(file))
    for option in ("model", "model_draft"):
        refused = await server.ask("POST", "/api/v1/instances/other", {"model": str(file), option: "org/m:Q9_0"})
        assert refused.status == 400
        assert all(part in refused.json()["error"] for part in (f"{option}: ", "org/m:Q8_0", "whole path")), (
            refused.body
        )


async def test_a_cached_model_is_not_deleted_while_an_instance_runs_it(server: RunningServer, tmp_path: Path) -> None:
    snapshot = tmp_path / "data" / "models" / "hub" / "models--org--m" / "snapshots" / "1"
    for quant in ("Q4_0", "Q8_0"):
        write_model(snapshot / f"m-{quant}.gguf", tokens=3)
    made = {"model": str(snapshot / "m-Q8_0.gguf"), "on_demand_start": True}
    assert (await server.ask("POST", "/api/v1/instances/eight", made)).status == 201
    for model in ("org/m", "org/m:Q8_0"):
        refused = await server.ask("DELETE", f"/v1/models/{model}")
        assert (refused.status, refused.json()["detail"]) == (
            409,
            f"{model} is what eight runs: stop that instance first",
        )
    assert (await server.ask("DELETE", "/v1/models/org/m:Q4_0")).status == 200
    assert (await server.ask("DELETE", "/api/v1/instances/eight")).status == 204
    assert (await server.ask("DELETE", "/v1/models/org/m")).status == 200


async def test_the_list_shows_instances_as_llamactl_does(server: RunningServer) -> None:
    items = {item["id"]: item for item in (await server.ask("GET", "/v1/models")).json()["data"]}
    assert items["quick"]["owned_by"] == "llamactl"
    assert items["quick"]["status"] in ("starting", "running")
    assert (await server.ask("GET", "/v1/models/quick")).json()["name"] == "quick"


async def test_a_client_that_leaves_its_stream_is_gone_for_the_child_too(server: RunningServer) -> None:
    body = {"model": "held", "messages": SAID, "stream": True}
    async with asyncio.timeout(LONG):
        async with server.session.post(f"{server.base_url}/v1/chat/completions", json=body) as reply:
            await reply.content.readany()
        while not (await state_of(server, "held"))["gone"]:
            pass


async def test_the_metrics_tell_the_state_of_every_instance(server: RunningServer) -> None:
    assert (await server.ask("POST", "/v1/chat/completions", {"model": "quick", "messages": SAID})).status == 200
    text = (await server.ask("GET", "/metrics")).body.decode()
    assert 'paddock_instance_state{instance="quick",state="running"} 1.0' in text
    assert 'paddock_instance_requests{instance="quick"} 0.0' in text
    assert 'paddock_instance_restarts_total{instance="quick"} 0.0' in text
