"""The model cache over HTTP, on the fake hub."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yarl

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json, hookimpl
from paddock.contracts.providers import ChatModel, Environment, TypeName
from paddock.errors import BadRequest, ModelNotFound
from paddock.services.hosting import PluginHost
from paddock.testing.chat import EchoModel
from paddock.testing.hub import FakeHub
from paddock.testing.hub_cache import cache_model
from paddock.testing.server import Answered, RunningServer, running_server
from paddock.testing.upstream import FakeUpstream

MODEL = "org/model"
GGUF = {"t-Q4_K_M.gguf": b"4" * 1024, "t-Q8_0.gguf": b"8" * 1536}
BIG = b"0123456789abcdef" * 400_000


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        hub.add(MODEL, {"config.json": b"{}", "model.safetensors": b"w" * 300_000})
        yield hub


@pytest.fixture
async def server(tmp_path: Path, hub: FakeHub) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings=hub.settings(stall_timeout=5)) as running:
        yield running


def events(reply: Answered) -> list[dict[str, Any]]:
    """The events of a stream, every one as documented."""
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = reply.body.decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def download(server: RunningServer, model: str, **more: Json) -> Answered:
    """Download a model and wait for the end."""
    return await server.ask("POST", "/v1/models/download", {"model_name": model, **more})


class TestDownload:
    async def test_progress_is_told_as_documented_and_then_the_end(self, server: RunningServer) -> None:
        found = [one for one in events(await download(server, MODEL)) if one["event"] != "warning"]
        assert found[-1] == {"event": "complete", "model_name": MODEL}
        assert {tuple(one) for one in found[:-1]} == {("event", "downloaded", "total", "percent")}
        assert found[-2] == {"event": "progress", "downloaded": 300_002, "total": 300_002, "percent": 100}
        folder = server.app.settings.data_dir / "models" / "hub" / "models--org--model"
        assert (folder / "snapshots" / ("c0" * 20) / "config.json").read_bytes() == b"{}"

    async def test_a_failure_later_is_an_error_event(self, server: RunningServer, hub: FakeHub) -> None:
        hub.faults.corrupt = True
        found = events(await download(server, MODEL))
        assert found[-1]["event"] == "error"
        assert "promised hash" in found[-1]["message"]
        assert not any(one["event"] == "complete" for one in found)

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            ({"model_name": "org/none"}, 404, "no model org/none"),
            ({"model_name": "../../etc"}, 400, "ORG/NAME"),
            ({"model_name": "a/b/c"}, 400, "ORG/NAME"),
            ({"model_name": MODEL, "provider": "openai"}, 400, "universal or ollama"),
            ({"model_name": MODEL, "provider": "x" * 65}, 422, "provider"),
            ({"model_name": MODEL, "revision": "x"}, 422, "revision"),
            ({"model_name": 7}, 422, "model_name"),
            ({}, 422, "model_name"),
        ],
    )
    async def test_what_is_wrong_before_the_first_byte_is_an_ordinary_error(
        self, server: RunningServer, body: dict[str, Json], status: int, words: str
    ) -> None:
        reply = await server.ask("POST", "/v1/models/download", body)
        assert reply.status == status
        assert words in reply.json()["detail"]

    async def test_a_hub_that_is_down_is_503(self, server: RunningServer, hub: FakeHub) -> None:
        await hub.stop()
        assert (await download(server, MODEL)).status == 503

    async def test_a_client_that_leaves_cancels_the_transfer_and_the_next_one_resumes(
        self, server: RunningServer, hub: FakeHub
    ) -> None:
        hub.add("org/big", {"model.safetensors": BIG})
        hub.faults.stall_after = 3_000_000
        body = {"model_name": "org/big"}
        async with server.session.post(server.base_url + "/v1/models/download", json=body) as reply:
            await reply.content.readuntil(b'"downloaded":2')
        await asyncio.wait_for(hub.requests[-1].gone.wait(), 10)
        assert events(await download(server, "org/big"))[-1]["event"] == "complete"
        assert "Range" in hub.transfers()[-1].headers

    async def test_a_client_that_leaves_before_anything_is_known_cancels_too(
        self, server: RunningServer, hub: FakeHub
    ) -> None:
        hub.faults.hold_info = asyncio.Event()
        asking = asyncio.ensure_future(download(server, MODEL))
        request = await asyncio.wait_for(hub.request("hub"), 10)
        asking.cancel()
        await asyncio.wait_for(request.gone.wait(), 10)

    async def test_a_client_that_leaves_before_the_first_byte_cancels_too(
        self, server: RunningServer, hub: FakeHub
    ) -> None:
        hub.faults.hold = asyncio.Event()
        hub.add("org/small", {"model.safetensors": b"x"})
        body = {"model_name": "org/small"}
        async with server.session.post(server.base_url + "/v1/models/download", json=body) as reply:
            await reply.content.readuntil(b"progress")
            request = await asyncio.wait_for(hub.request("cdn"), 10)
        await asyncio.wait_for(request.gone.wait(), 10)

    async def test_two_downloads_of_one_model_are_one(self, server: RunningServer, hub: FakeHub) -> None:
        hub.faults.hold = asyncio.Event()
        async with server.session.post(server.base_url + "/v1/models/download", json={"model_name": MODEL}) as one:
            await one.content.readuntil(b"progress")
            other = asyncio.ensure_future(download(server, MODEL))
            hub.faults.hold.set()
            assert b"complete" in await one.read()
        assert events(await other)[-1]["event"] == "complete"
        assert len(hub.transfers("model.safetensors")) == 1

    async def test_ollama_pulls_with_the_same_events(self, tmp_path: Path) -> None:
        async with FakeUpstream() as upstream:
            upstream.registry["qwen3:8b"] = 5_000
            settings = {"ollama": {"base_url": upstream.root}}
            async with running_server(tmp_path / "o", settings=settings) as server:
                found = events(await download(server, "qwen3:8b", provider="ollama"))
                assert found[-1] == {"event": "complete", "model_name": "qwen3:8b"}
                assert (await download(server, "none:1b", provider="ollama")).status == 404
                reply = await server.ask("DELETE", "/v1/models/qwen3:8b?provider=ollama")
                assert reply.json()["size_freed"] == 5_000


class TestValidate:
    async def ask(self, server: RunningServer, model: str) -> Any:
        return (await server.ask("POST", "/v1/models/validate-download", {"model_name": model})).json()

    async def test_the_reply_is_as_documented(self, server: RunningServer) -> None:
        found = await self.ask(server, MODEL)
        assert (found["can_download"], found["required_bytes"]) == (True, 300_002)
        assert found["cache_info"]["path"] == str(server.app.settings.hub_cache)
        assert found["system_info"]["path"] == "/"
        assert set(found["cache_info"]) == {"total_bytes", "used_bytes", "free_bytes", "path", "percent_free"}
        disk = (await server.ask("GET", "/v1/system/disk")).json()
        assert disk["cache"]["path"] == found["cache_info"]["path"]

    async def test_a_model_that_does_not_fit_says_so_and_is_not_fetched(
        self, server: RunningServer, hub: FakeHub
    ) -> None:
        size = 150 * 1024**3
        hub.repos[MODEL].claims["model.safetensors"] = {"lfs": {"sha256": "a" * 64, "size": size}}
        found = await self.ask(server, MODEL)
        free = found["available_bytes"]
        assert found["can_download"] is (free - size > 100 * 1024**2)
        assert found["required_bytes"] == size + 2

    async def test_a_hub_that_is_down_is_a_warning(self, server: RunningServer, hub: FakeHub) -> None:
        await hub.stop()
        found = await self.ask(server, MODEL)
        assert (found["can_download"], found["warning"], found["required_bytes"]) == (True, True, 0)
        assert "not known" in found["message"]

    async def test_an_unknown_model_is_404(self, server: RunningServer) -> None:
        reply = await server.ask("POST", "/v1/models/validate-download", {"model_name": "org/none"})
        assert reply.status == 404


class TestQuantizations:
    @pytest.mark.parametrize(
        "path", ["org/gguf/quantizations", "org%2Fgguf/quantizations", "org%2Fgguf/quantizations/"]
    )
    async def test_they_are_listed_for_plain_and_encoded_ids(
        self, server: RunningServer, hub: FakeHub, path: str
    ) -> None:
        hub.add("org/gguf", GGUF)
        async with server.session.get(yarl.URL(f"{server.base_url}/v1/models/{path}", encoded=True)) as reply:
            assert await reply.json() == {
                "options": [
                    {"filename": "t-Q4_K_M.gguf", "quantization": "Q4_K_M", "size_bytes": 1024, "size_human": "1.0 KB"},
                    {"filename": "t-Q8_0.gguf", "quantization": "Q8_0", "size_bytes": 1536, "size_human": "1.5 KB"},
                ]
            }

    async def test_an_unknown_model_is_404_and_ollama_has_none(self, server: RunningServer) -> None:
        assert (await server.ask("GET", "/v1/models/org/none/quantizations")).status == 404
        assert (await server.ask("GET", "/v1/models/qwen3/quantizations?provider=ollama")).status == 400


class TestDelete:
    @pytest.mark.parametrize("path", [MODEL, "org%2Fmodel", "org/model/"])
    async def test_a_model_goes_and_its_size_is_told(self, server: RunningServer, path: str) -> None:
        root = server.app.settings.hub_cache
        cache_model(root, MODEL, {"model.safetensors": b"x" * 1000})
        async with server.session.delete(yarl.URL(f"{server.base_url}/v1/models/{path}", encoded=True)) as reply:
            found = await reply.json()
        assert found == {
            "model_name": MODEL,
            "revisions_deleted": 1,
            "size_freed": 1040,  # with the ref's own 40
            "path": str(root / "models--org--model"),
        }
        assert (await server.ask("DELETE", f"/v1/models/{path}")).status == 404

    @pytest.mark.parametrize("path", ["..", "%2e%2e%2f%2e%2e", "a%00b", "a/b/c/d", "a%5Cb", "models--a", "x" * 10_000])
    async def test_what_could_walk_the_tree_is_no_model(self, server: RunningServer, path: str) -> None:
        url = yarl.URL(f"{server.base_url}/v1/models/{path}", encoded=True)
        async with server.session.delete(url) as reply:
            assert reply.status in (400, 404, 405, 422)

    async def test_another_provider_is_400(self, server: RunningServer) -> None:
        assert (await server.ask("DELETE", f"/v1/models/{MODEL}?provider=openai")).status == 400


async def test_a_shutdown_ends_a_download_which_is_kept_for_the_next_start(tmp_path: Path, hub: FakeHub) -> None:
    hub.add("org/big", {"model.safetensors": BIG})
    hub.faults.stall_after = 3_000_000
    async with running_server(tmp_path / "data", settings=hub.settings()) as server:
        path = server.base_url + "/v1/models/download"
        async with server.session.post(path, json={"model_name": "org/big"}) as reply:
            await reply.content.readuntil(b'"downloaded":2')
            server.app.stop()
            assert b"shutting down" in await reply.read()
    assert hub.requests[-1].gone.is_set()
    async with running_server(tmp_path / "data", settings=hub.settings()) as server:
        assert events(await download(server, "org/big"))[-1]["event"] == "complete"
    assert "Range" in hub.transfers()[-1].headers


async def test_what_nobody_resumed_is_swept_away_at_the_start(tmp_path: Path, hub: FakeHub) -> None:
    blobs = tmp_path / "data" / "models" / "hub" / "models--org--old" / "blobs"
    blobs.mkdir(parents=True)
    for name, age in (("a", 200 * 3600), ("b", 0)):
        (blobs / f"{name}.incomplete").write_bytes(b"x")
        os.utime(blobs / f"{name}.incomplete", (time.time() - age,) * 2)
    async with running_server(tmp_path / "data", settings=hub.settings()):
        pass
    assert [path.name for path in blobs.iterdir()] == ["b.incomplete"]


async def test_the_catalogue_lists_what_was_fetched_at_once(server: RunningServer, hub: FakeHub) -> None:
    async def listed() -> list[Any]:
        reply = await server.ask("GET", "/v1/models?provider=universal")
        return list(reply.json()["data"])

    assert await listed() == []
    await download(server, MODEL)
    [item] = await listed()
    assert (item["id"], item["model_id"], item["size_bytes"], item["owned_by"]) == (MODEL, MODEL, 300_002, "universal")
    assert (item["size_human"], item["revisions"]) == ("300KB", ["main"])
    assert item["last_modified"].endswith("Z")
    await server.ask("DELETE", f"/v1/models/{MODEL}")
    assert await listed() == []


class Universal(EchoModel):
    """A chat provider that has the type name of the model cache, as llama-server's has."""

    types = (TypeName("universal"),)


class UniversalPlugin:
    """Stands in for the llama-server plugin."""

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [Universal()]


async def test_cached_models_are_listed_beside_those_of_a_chat_provider_of_that_name(
    tmp_path: Path, hub: FakeHub
) -> None:
    plugins = {"llama-server": UniversalPlugin()}
    async with running_server(tmp_path / "data", settings=hub.settings(), plugins=plugins) as server:
        await download(server, MODEL)
        found = (await server.ask("GET", "/v1/models?provider=universal")).json()["data"]
        assert {item["id"] for item in found} == {"echo", MODEL}
        chat = {"messages": [{"role": "user", "content": "hi"}]}
        statuses = [
            (await server.ask("POST", "/v1/chat/completions", {"model": name, **chat})).status
            for name in ("echo", f"universal/{MODEL}", MODEL)
        ]
        assert statuses == [200, 200, 404]


async def test_an_inference_key_manages_no_models(tmp_path: Path, hub: FakeHub) -> None:
    settings = {**hub.settings(), "auth": {"inference_keys": ["i"]}}
    async with running_server(tmp_path / "data", settings=settings) as server:
        headers = {"Authorization": "Bearer i"}
        for method, path in (
            ("POST", "/v1/models/download"),
            ("POST", "/v1/models/validate-download"),
            ("GET", f"/v1/models/{MODEL}/quantizations"),
            ("DELETE", f"/v1/models/{MODEL}"),
        ):
            body = {"model_name": MODEL} if method == "POST" else None
            assert (await server.ask(method, path, body, headers=headers)).status == 403, path
        assert hub.requests == []


async def test_without_the_hub_plugin_the_error_names_it(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        reply = await download(server, MODEL)
        assert reply.status == 503
        assert "paddock-hub" in reply.json()["detail"]


async def test_downloads_and_deletions_are_events(server: RunningServer, hub: FakeHub) -> None:
    await download(server, MODEL)
    hub.faults.corrupt = True
    hub.add("org/bad", {"model.safetensors": b"x"})
    await download(server, "org/bad")
    await server.ask("DELETE", f"/v1/models/{MODEL}")
    await server.app.services.events.flush()

    def rows(db: Any) -> Any:
        return db.execute("SELECT type, status FROM events WHERE type LIKE 'model_%' ORDER BY id").fetchall()

    found = await server.app.core.state.read(rows)
    assert found == [("model_download", "completed"), ("model_download", "failed"), ("model_delete", "completed")]


class TestFetchModel:
    def host(self, server: RunningServer) -> PluginHost:
        return PluginHost(server.app.core, server.app.services.events, "test")

    async def test_a_missing_model_names_the_command(self, server: RunningServer, hub: FakeHub) -> None:
        with pytest.raises(ModelNotFound, match=f"paddock models download {MODEL}"):
            await self.host(server).fetch_model(MODEL)
        assert hub.requests == []

    async def test_what_is_cached_needs_no_fetching(self, server: RunningServer, hub: FakeHub) -> None:
        cache_model(server.app.settings.hub_cache, MODEL, {"a": b"x"})
        await self.host(server).fetch_model(MODEL)
        assert hub.requests == []

    async def test_with_auto_download_it_is_fetched(self, tmp_path: Path, hub: FakeHub) -> None:
        settings = {**hub.settings(), "models": {"auto_download": True}}
        async with running_server(tmp_path / "data", settings=settings) as server:
            await self.host(server).fetch_model(MODEL)
            assert len(hub.transfers()) == 2

    async def test_where_only_gguf_will_do_nothing_else_is_fetched(self, tmp_path: Path, hub: FakeHub) -> None:
        settings = {**hub.settings(), "models": {"auto_download": True}}
        hub.add("org/gguf", GGUF)
        async with running_server(tmp_path / "data", settings=settings) as server:
            with pytest.raises(BadRequest, match="no GGUF"):
                await self.host(server).fetch_model(MODEL, gguf=True)
            assert hub.transfers() == []
            await self.host(server).fetch_model("org/gguf", gguf=True)
            assert len(hub.transfers()) == 1

    async def test_the_first_request_of_a_model_fetches_it_if_the_settings_say_so(
        self, tmp_path: Path, hub: FakeHub
    ) -> None:
        hub.add("org/text", {"model.onnx": b"no graph", "config.json": b"{}"})
        body = {"model": "onnx/org/text", "input": "x"}
        for wanted in (False, True):
            settings = {**hub.settings(), "models": {"auto_download": wanted}}
            async with running_server(tmp_path / "data", settings=settings) as server:
                reply = await server.ask("POST", "/v1/embeddings", body)
                message = reply.json()["error"]["message"]
                assert ("paddock models download org/text" in message) is not wanted
                assert (hub.requests != []) is wanted
        assert HubCache(tmp_path / "data" / "models" / "hub").holds("org/text")
