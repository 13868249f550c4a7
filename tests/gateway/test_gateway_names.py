"""Which model a name leads to, and the catalogue of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ChatModel, Environment, Freed, ModelInfo, ModelSource, Progress, TypeName
from paddock.errors import ValidationFailed
from paddock.services.gateway.directory import Directory
from paddock.testing.chat import EchoModel, sse_events
from paddock.testing.upstream import Plan
from tests.gateway.conftest import LONG, Gate


class EchoPlugin:
    """A chat provider that is no model server."""

    def __init__(self, model: EchoModel) -> None:
        self._model = model

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [self._model]


@pytest.fixture
def echo() -> EchoModel:
    return EchoModel()


@pytest.fixture
def plugins(echo: EchoModel) -> Mapping[str, object]:
    return {"echo": EchoPlugin(echo)}


@pytest.fixture
def gateway_settings() -> Mapping[str, Any]:
    return {"aliases": {"fast": "quick", "quick": "two/n:latest"}, "catalogue_wait": 0.2}


@pytest.fixture
def upstream_settings() -> Mapping[str, Any]:
    return {"aliases": {"mine": "m"}}


@pytest.mark.parametrize(
    ("asked", "server", "own"),
    [
        ("one/m", "one", "m"),
        ("m", "one", "m"),
        ("n", "two", "n:latest"),
        ("org/deep", "two", "org/deep"),
        ("two/org/deep", "two", "org/deep"),
        ("mine", "one", "m"),
        ("one/mine", "one", "m"),
        ("fast", "two", "n:latest"),
        ("one/never-listed", "one", "never-listed"),
    ],
)
async def test_a_name_leads_to_its_model(gate: Gate, asked: str, server: str, own: str) -> None:
    reply = await gate.chat(asked)
    assert reply.status == 200, reply.body
    assert getattr(gate, server).requests[-1].body["model"] == own


async def test_a_name_of_several_is_refused_with_the_names_that_tell_them_apart(gate: Gate) -> None:
    reply = await gate.chat("shared")
    assert reply.status == 400
    assert "one/shared, two/shared" in reply.json()["error"]["message"]


async def test_an_unknown_name_is_404_with_near_matches(gate: Gate) -> None:
    reply = await gate.chat("org/dep")
    assert reply.status == 404
    error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("not_found_error", "not_found")
    assert "near matches: org/deep" in error["message"]


@pytest.mark.parametrize("asked", ["ORG/DEP", "deap"])
async def test_near_matches_look_past_case_and_organisation_and_come_once(gate: Gate, asked: str) -> None:
    reply = await gate.chat(asked)
    assert reply.status == 404
    assert reply.json()["error"]["message"].count("org/deep") == 1


async def test_an_id_of_a_hub_is_404_with_the_command_that_fetches_it(gate: Gate) -> None:
    reply = await gate.chat("BAAI/bge-small-en")
    assert "`paddock models download BAAI/bge-small-en`" in reply.json()["error"]["message"]
    reply = await gate.chat("all-MiniLM-L6-v2")
    assert "`paddock models download sentence-transformers/all-MiniLM-L6-v2`" in reply.json()["error"]["message"]
    reply = await gate.chat("../../etc")
    assert (reply.status, "download" in reply.json()["error"]["message"]) == (404, False)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_provider_that_is_no_server_answers_too(gate: Gate, echo: EchoModel, stream: bool) -> None:
    reply = await gate.chat("echo", stream=stream, think=True, thinking_budget=9, n_ctx=5)
    assert reply.status == 200
    if stream:
        assert sse_events(reply.body)[-1] == "[DONE]"
    else:
        assert reply.json()["choices"][0]["message"]["content"] == "Hello?"
    call = echo.calls[-1]
    assert (call.body["model"], call.think, call.thinking_budget, call.options) == ("echo", True, 9, {"n_ctx": 5})


async def test_a_server_says_which_paths_it_serves(gate: Gate) -> None:
    reply = await gate.post("embeddings", {"model": "echo", "input": "x"})
    assert reply.status == 400
    assert "it serves /v1/chat/completions" in reply.json()["error"]["message"]


async def test_the_catalogue_lists_every_model_by_the_name_that_leads_to_it(gate: Gate) -> None:
    items = {item["id"]: item for item in await gate.models()}
    names = {"fast", "quick", "m", "one/shared", "two/shared", "n:latest", "org/deep", "hashing", "echo", "extractive"}
    assert set(items) == names
    for item in items.values():
        assert {"id", "object", "created", "owned_by", "provider"} <= set(item)
        assert item["object"] == "model"
    for name in names - {"fast", "quick"}:
        assert (await gate.server.ask("GET", f"/v1/models/{name}")).json()["id"] == name


async def test_a_provider_alone(gate: Gate) -> None:
    assert [item["id"] for item in await gate.models("?provider=one")] == ["m", "one/shared"]
    reply = await gate.server.ask("GET", "/v1/models?provider=three")
    assert reply.status == 404
    assert "one, two" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["org/deep", "org%2Fdeep", "two/org/deep", "two%2Forg%2Fdeep"])
async def test_an_id_with_slashes_is_found_plain_and_encoded(gate: Gate, path: str) -> None:
    import yarl

    url = yarl.URL(f"{gate.server.base_url}/v1/models/{path}", encoded=True)
    async with gate.server.session.get(url) as reply:
        found = await reply.json()
    assert (reply.status, found["id"], found["provider"]) == (200, path.replace("%2F", "/"), "two")


async def test_down_is_not_empty(gate: Gate) -> None:
    await gate.two.stop()
    reply = (await gate.server.ask("GET", "/v1/models")).json()
    assert [one["provider"] for one in reply["unavailable"]] == ["two"]
    assert "can't connect" in reply["unavailable"][0]["message"]
    assert (await gate.server.ask("GET", "/v1/models?provider=two")).status == 503
    assert "Not reached: two" in (await gate.chat("org/deep")).json()["error"]["message"]


async def test_a_slow_provider_delays_one_request_by_the_bound_and_others_not_at_all(gate: Gate) -> None:
    gate.two.catalogue_wait = held = asyncio.Event()
    async with asyncio.timeout(LONG):
        first = await gate.server.ask("GET", "/v1/models")
        assert [one["provider"] for one in first.json()["unavailable"]] == ["two"]
        assert (await gate.chat("m")).status == 200
        assert (await gate.chat("org/deep")).status == 404
        held.set()
        while (await gate.chat("org/deep")).status == 404:
            pass


async def test_an_alias_that_leads_in_a_circle_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="a -> b -> a"):
        Directory([], None, {"a": "b", "b": "a"}, {})  # type: ignore[arg-type]  # nothing is asked


async def test_a_listing_from_before_still_counts_when_its_server_is_down(gate: Gate) -> None:
    await gate.models()
    await gate.two.stop()
    reply = await gate.chat("org/deep")
    assert reply.status == 503
    assert "can't connect" in reply.json()["error"]["message"]


async def test_the_hashing_embedder_answers_in_floats_and_base64(gate: Gate) -> None:
    import base64

    import numpy as np

    floats = (await gate.post("embeddings", {"model": "core/hashing", "input": ["a b", "c"], "dimensions": 64})).json()
    packed = await gate.post(
        "embeddings", {"model": "hashing", "input": ["a b", "c"], "dimensions": 64, "encoding_format": "base64"}
    )
    rows = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in packed.json()["data"]]
    for row, one in zip(rows, floats["data"], strict=True):
        assert np.allclose(row, one["embedding"])
    assert len(floats["data"][0]["embedding"]) == 64
    assert floats["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"input": [1, 2]}, "input"),
        ({"input": []}, "input"),
        ({"input": "x", "dimensions": 5}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "pooling": "cls"}, "pooling"),
        ({}, "input"),
    ],
)
async def test_an_embedding_request_that_is_wrong_names_the_field(
    gate: Gate, fields: dict[str, Any], field: str
) -> None:
    reply = await gate.post("embeddings", {"model": "core/hashing", **fields})
    assert reply.status == 400
    assert reply.json()["error"]["param"].startswith(field)


async def test_the_catalogue_of_an_upstream_may_be_in_the_settings(gate: Gate) -> None:
    gate.one.plan = Plan(status=500)
    assert (await gate.chat("mine")).status == 500


class Store(ModelSource):
    """Has the model ``m`` on disk, as the upstream `one` serves it, and another that nobody serves."""

    types = (TypeName("store"),)

    async def catalogue(self) -> list[ModelInfo]:
        details: dict[str, Any] = {"model_id": "m", "size_bytes": 5, "size_human": "5 B", "revisions": ["main"]}
        return [
            ModelInfo(id="m", owned_by="store", size=5, details=details),
            ModelInfo(id="o/stored", owned_by="store"),
        ]

    def pull(self, model: str) -> AsyncIterator[Progress]:
        raise NotImplementedError

    async def show(self, model: str) -> dict[str, Any]:
        raise NotImplementedError

    async def delete(self, model: str) -> Freed:
        raise NotImplementedError


class StorePlugin:
    @hookimpl
    def paddock_model_sources(self, env: Environment) -> Sequence[ModelSource]:
        return [Store()]


class TestSources:
    @pytest.fixture
    def plugins(self) -> Mapping[str, object]:
        return {"store": StorePlugin()}

    async def test_what_is_stored_and_served_is_one_item(self, gate: Gate) -> None:
        items = [item for item in await gate.models() if item["id"] in ("m", "o/stored")]
        assert [(item["id"], item["provider"]) for item in items] == [("m", "one"), ("o/stored", "store")]
        assert (items[0]["size_bytes"], items[0]["owned_by"]) == (5, "fake")
        stored = await gate.models("?provider=store")
        assert [(item["id"], item["owned_by"]) for item in stored] == [("m", "store"), ("o/stored", "store")]

    async def test_what_nobody_serves_is_listed_and_not_found(self, gate: Gate) -> None:
        assert (await gate.server.ask("GET", "/v1/models/o/stored")).status == 200
        reply = await gate.chat("o/stored")
        assert reply.status == 404
        assert "near matches: o/stored" not in reply.json()["error"]["message"]
