"""Ollama: generation through /v1, management through the official client, both through the core's HTTP client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest
from paddock_ollama import OllamaChat, OllamaEmbedder, OllamaSettings, OllamaSource, plugin

from paddock.contracts.providers import Progress
from paddock.errors import (
    BadName,
    BadRequest,
    ModelNotFound,
    ProviderUnavailable,
    UpstreamError,
    ValidationFailed,
)
from paddock.outgoing import OutgoingClient
from paddock.testing.chat import collect, make_call
from paddock.testing.upstream import FakeUpstream, Plan


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream(models={"llama3.1:8b": 4_700_000_000, "qwen3:latest": 100}, strict_models=True) as upstream:
        yield upstream


@pytest.fixture
async def http(upstream: FakeUpstream) -> AsyncIterator[OutgoingClient]:
    http = OutgoingClient([upstream.allow])
    yield http
    await http.close()


@pytest.fixture
def source(upstream: FakeUpstream, http: OutgoingClient) -> OllamaSource:
    return OllamaSource(http, OllamaSettings(base_url=upstream.root))


class TestChat:
    @pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
    async def test_the_address_may_end_in_v1_or_not(
        self, http: OutgoingClient, upstream: FakeUpstream, end: str
    ) -> None:
        model = OllamaChat(http, OllamaSettings(base_url=f"{upstream.root}{end}"))
        await collect(model, make_call(model="qwen3"))
        call = make_call(model="qwen3")
        call.base_url = f"{upstream.root}{end}"
        await collect(OllamaChat(http, OllamaSettings()), call)
        assert [request.path for request in upstream.requests] == ["/v1/chat/completions"] * 2

    @pytest.mark.parametrize(
        ("think", "fields", "sent"),
        [
            (None, {}, {}),
            (None, {"max_completion_tokens": 5}, {"max_tokens": 5}),
            (True, {}, {"reasoning_effort": "medium", "max_tokens": 1536}),
            (True, {"reasoning_effort": "high", "max_tokens": 10}, {"reasoning_effort": "high", "max_tokens": 1034}),
            (False, {}, {"reasoning_effort": "none"}),
        ],
    )
    async def test_reasoning_is_asked_for_in_ollamas_way(
        self,
        http: OutgoingClient,
        upstream: FakeUpstream,
        think: bool | None,
        fields: dict[str, Any],
        sent: dict[str, Any],
    ) -> None:
        call = make_call(model="qwen3", **fields)
        call.think = think
        await collect(OllamaChat(http, OllamaSettings(base_url=upstream.root)), call)
        body = upstream.requests[0].body
        assert {name: value for name, value in body.items() if name not in ("model", "messages", "stream")} == sent

    async def test_a_model_that_is_not_there_tells_the_command(
        self, http: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        with pytest.raises(ModelNotFound, match="ollama pull mistral"):
            await collect(
                OllamaChat(http, OllamaSettings(base_url=upstream.root)), make_call(model="mistral", stream=True)
            )

    async def test_another_404_stays_what_it_is(self, http: OutgoingClient, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(status=404, error={"message": "no such route"})
        with pytest.raises(UpstreamError, match="no such route"):
            await collect(OllamaChat(http, OllamaSettings(base_url=upstream.root)), make_call(model="qwen3"))

    @pytest.mark.parametrize(
        ("field", "value"), [("n", 2), ("n_ctx", 4096), ("options", {"num_ctx": 1}), ("logit_bias", {"1": 2})]
    )
    async def test_what_ollama_would_ignore_is_refused_by_name(
        self, http: OutgoingClient, upstream: FakeUpstream, field: str, value: object
    ) -> None:
        with pytest.raises(BadRequest, match=field):
            await collect(
                OllamaChat(http, OllamaSettings(base_url=upstream.root)), make_call(**{field: cast("Any", value)})
            )
        assert not upstream.requests

    async def test_the_key_of_the_settings_goes_to_their_server_only(
        self, http: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        call = make_call(model="qwen3")
        call.base_url = upstream.root
        await collect(OllamaChat(http, OllamaSettings(api_key="k")), call)
        await collect(OllamaChat(http, OllamaSettings(base_url=upstream.base_url, api_key="k")), call)
        assert [request.headers.get("Authorization") for request in upstream.requests] == [None, "Bearer k"]


class TestSource:
    async def test_the_catalogue_has_names_sizes_and_dates(self, source: OllamaSource) -> None:
        found = await source.catalogue()
        assert [(one.id, one.size) for one in found] == [("llama3.1:8b", 4_700_000_000), ("qwen3:latest", 100)]
        assert found[0].created == 1_767_323_045
        assert found[0].details["family"] == "llama"

    async def test_down_is_not_an_empty_catalogue(self, source: OllamaSource, upstream: FakeUpstream) -> None:
        assert (await source.health()).status == "healthy"
        await upstream.stop()
        with pytest.raises(ProviderUnavailable):
            await source.catalogue()
        assert (await source.health()).status == "unhealthy"

    @pytest.mark.parametrize(
        "plan", [Plan(status=500, error="broken"), Plan(html="<p>hi</p>"), Plan(body=b'{"models": 7}')]
    )
    async def test_a_server_that_is_not_ollama_is_unavailable(
        self, source: OllamaSource, upstream: FakeUpstream, plan: Plan
    ) -> None:
        upstream.plan = plan
        with pytest.raises(ProviderUnavailable):
            await source.catalogue()

    async def test_a_pull_tells_its_progress(self, source: OllamaSource, upstream: FakeUpstream) -> None:
        upstream.registry["phi"] = 1000
        steps = [step async for step in source.pull("phi")]
        assert [(step.completed, step.total) for step in steps if step.total] == [(500, 1000), (1000, 1000)]
        assert steps[-1].status == "success"
        assert "phi" in upstream.models

    async def test_closing_a_pull_cancels_it(self, source: OllamaSource, upstream: FakeUpstream) -> None:
        upstream.registry["phi"] = 1000
        upstream.plan = Plan(between=asyncio.Event())
        pulling = cast("AsyncGenerator[Progress, None]", source.pull("phi"))
        async with asyncio.timeout(10):
            while (await anext(pulling)).completed == 0:
                pass
            await pulling.aclose()
            await upstream.requests[0].gone.wait()
        assert "phi" not in upstream.models

    async def test_a_model_that_no_registry_has_is_not_found(self, source: OllamaSource) -> None:
        with pytest.raises(ModelNotFound, match="nonesuch"):
            [step async for step in source.pull("nonesuch")]

    async def test_a_model_can_be_shown(self, source: OllamaSource) -> None:
        shown = await source.show("qwen3:latest")
        assert shown["model_info"] == {"general.architecture": "llama"}
        with pytest.raises(ModelNotFound):
            await source.show("nonesuch")

    async def test_deleting_tells_the_bytes(self, source: OllamaSource, upstream: FakeUpstream) -> None:
        assert (await source.delete("llama3.1:8b")).size == 4_700_000_000
        assert list(upstream.models) == ["qwen3:latest"]
        with pytest.raises(ModelNotFound):
            await source.delete("llama3.1:8b")

    @pytest.mark.parametrize("name", ["", "a\x1b[31m", "x" * 300, "a\nb"])
    async def test_what_is_no_name_is_refused(self, source: OllamaSource, name: str) -> None:
        with pytest.raises(BadName):
            await source.show(name)
        with pytest.raises(BadName):
            [step async for step in source.pull(name)]

    async def test_management_keeps_to_the_allowed_addresses(self, http: OutgoingClient) -> None:
        source = OllamaSource(http, OllamaSettings(base_url="http://10.0.0.1:11434"))
        with pytest.raises(ProviderUnavailable, match=r"outgoing\.allow"):
            await source.catalogue()

    async def test_management_follows_no_redirect(self, source: OllamaSource, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(status=307, headers={"Location": f"{upstream.root}/v1/models"})
        with pytest.raises(ProviderUnavailable):
            await source.catalogue()
        assert len(upstream.requests) == 1

    async def test_a_key_of_the_environment_is_not_sent(
        self, http: OutgoingClient, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OLLAMA_API_KEY", "stolen")
        await OllamaSource(http, OllamaSettings(base_url=upstream.root)).catalogue()
        await OllamaSource(http, OllamaSettings(base_url=upstream.root, api_key="ours")).catalogue()
        assert [request.headers.get("Authorization") for request in upstream.requests] == [None, "Bearer ours"]


class TestEmbedder:
    @pytest.fixture
    def embedder(self, http: OutgoingClient, upstream: FakeUpstream) -> OllamaEmbedder:
        upstream.dimension = 128
        return OllamaEmbedder(http, OllamaSettings(base_url=upstream.root), backoff=0)

    def config(self, embedder: OllamaEmbedder, **fields: Any) -> Any:
        return embedder.configure("OllamaEmbedder", {"model": "nomic", "dimension": 128, **fields}).config

    async def test_a_missing_model_is_pulled_once_for_all_who_wait(
        self, embedder: OllamaEmbedder, upstream: FakeUpstream
    ) -> None:
        upstream.registry["nomic"] = 10
        found = await asyncio.gather(*(embedder.embed(["a"], self.config(embedder), "document") for _ in range(5)))
        assert all(vectors.shape == (1, 128) for vectors in found)
        assert [request.path for request in upstream.requests].count("/api/pull") == 1

    async def test_without_auto_pull_the_command_is_told(
        self, embedder: OllamaEmbedder, upstream: FakeUpstream
    ) -> None:
        upstream.registry["nomic"] = 10
        with pytest.raises(ModelNotFound, match="ollama pull nomic"):
            await embedder.embed(["a"], self.config(embedder, auto_pull=False), "document")
        assert "nomic" not in upstream.models

    async def test_a_model_that_can_not_be_pulled_is_not_found(self, embedder: OllamaEmbedder) -> None:
        with pytest.raises(ModelNotFound):
            await embedder.embed(["a"], self.config(embedder), "document")

    async def test_a_wrong_dimension_names_the_right_one(self, embedder: OllamaEmbedder) -> None:
        config = self.config(embedder, model="qwen3", dimension=768)
        with pytest.raises(ValidationFailed, match="vectors of 128 numbers"):
            await embedder.embed(["a"], config, "document")

    async def test_a_passing_failure_is_tried_again(self, embedder: OllamaEmbedder, upstream: FakeUpstream) -> None:
        upstream.script(Plan(status=503, error={"message": "loading"}, headers={"Retry-After": "0"}))
        await embedder.embed(["a"], self.config(embedder, model="qwen3"), "document")
        assert len(upstream.requests) == 2

    async def test_its_documented_defaults_hold(self, embedder: OllamaEmbedder) -> None:
        config = embedder.configure("OllamaEmbedder", {}).config
        assert (config.model, config.dimension, config.batch_size, config.timeout, config.auto_pull) == (
            "nomic-embed-text", 768, 16, 60, True,
        )  # fmt: skip


def test_the_plugin_declares_its_section() -> None:
    assert plugin.paddock_settings() == ("ollama", OllamaSettings)


def test_importing_the_plugin_loads_no_heavy_library() -> None:
    heavy = ("aiohttp", "numpy", "httpx", "pydantic", "ollama", "litestar")
    code = f"import sys, paddock_ollama; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
