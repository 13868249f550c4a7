"""What the openai plugin sends, what it makes of errors, and where its key goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from paddock_openai import LemonadeChat, OpenAIChat, OpenAIEmbedder, OpenAISettings, plugin
from paddock_openai.chat import is_openai

from paddock.builtin.openai_wire import Target
from paddock.contracts.providers import ChatCall
from paddock.errors import BadRequest, ProviderUnavailable, UpstreamError, UpstreamTimeout, ValidationFailed
from paddock.outgoing import OutgoingClient
from paddock.testing.chat import collect, make_call
from paddock.testing.upstream import FakeUpstream, Plan

KEY = "sk-secret-0123456789"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def http(upstream: FakeUpstream) -> AsyncIterator[OutgoingClient]:
    http = OutgoingClient([upstream.allow])
    yield http
    await http.close()


@pytest.fixture
def model(upstream: FakeUpstream, http: OutgoingClient) -> OpenAIChat:
    return OpenAIChat(http, OpenAISettings(base_url=upstream.base_url, api_key=KEY, organization="org-1"))


def thinking(think: bool | None, budget: int | None = None, **fields: Any) -> ChatCall:
    call = make_call(**fields)
    call.think, call.thinking_budget = think, budget
    return call


OPENAI = Target(base_url="https://api.openai.com/v1", api_key="k")
OTHER = Target(base_url="http://127.0.0.1:8000/v1")


class TestReasoning:
    @pytest.mark.parametrize(
        ("call", "sent"),
        [
            (thinking(None), {}),
            (thinking(None, 7, max_tokens=5), {"max_tokens": 5}),
            (thinking(True), {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 1536}),
            (thinking(True, 512, max_tokens=200), {"chat_template_kwargs": {"enable_thinking": True}, "max_tokens": 712}),
            (thinking(True, 0, max_completion_tokens=9),
             {"chat_template_kwargs": {"enable_thinking": True}, "max_completion_tokens": 9}),
            (thinking(False, max_tokens=5), {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 5}),
            (thinking(False, chat_template_kwargs={"enable_thinking": True, "x": 1}),
             {"chat_template_kwargs": {"enable_thinking": True, "x": 1}}),
        ],
    )  # fmt: skip
    def test_other_servers_get_the_switch_of_the_template(
        self, model: OpenAIChat, call: ChatCall, sent: dict[str, Any]
    ) -> None:
        body = model.body(call, OTHER)
        assert {name: value for name, value in body.items() if name not in ("model", "messages")} == sent

    @pytest.mark.parametrize(
        ("call", "sent"),
        [
            (thinking(None, max_tokens=5), {"max_completion_tokens": 5}),
            (thinking(True), {"reasoning_effort": "medium", "max_completion_tokens": 1536}),
            (thinking(True, 100, max_tokens=5, reasoning_effort="high"),
             {"reasoning_effort": "high", "max_completion_tokens": 105}),
            (thinking(False), {"reasoning_effort": "none"}),
        ],
    )  # fmt: skip
    def test_openai_gets_its_own_names(self, model: OpenAIChat, call: ChatCall, sent: dict[str, Any]) -> None:
        body = model.body(call, OPENAI)
        assert {name: value for name, value in body.items() if name not in ("model", "messages")} == sent

    def test_lemonade_gets_its_switch_besides(self, http: OutgoingClient) -> None:
        body = LemonadeChat(http, OpenAISettings()).body(thinking(False), OTHER)
        assert (body["enable_thinking"], body["chat_template_kwargs"]) == (False, {"enable_thinking": False})

    def test_only_openais_own_hosts_are_openai(self) -> None:
        assert is_openai("https://api.openai.com/v1")
        assert is_openai("https://eu.api.openai.com/v1")
        assert not is_openai("https://api.openai.com.evil.example/v1")
        assert not is_openai("http://127.0.0.1:8000/v1")

    async def test_a_limit_that_is_no_number_is_refused_by_name(self, model: OpenAIChat) -> None:
        with pytest.raises(BadRequest, match="max_tokens"):
            await collect(model, thinking(True, max_tokens="many"))


class TestCredentials:
    async def test_the_key_of_the_settings_goes_to_their_server(
        self, model: OpenAIChat, upstream: FakeUpstream
    ) -> None:
        await collect(model, make_call())
        assert upstream.requests[0].headers["Authorization"] == f"Bearer {KEY}"
        assert upstream.requests[0].headers["OpenAI-Organization"] == "org-1"

    async def test_the_same_address_written_by_a_project_is_the_same_server(
        self, model: OpenAIChat, upstream: FakeUpstream
    ) -> None:
        call = make_call()
        call.base_url = f"{upstream.base_url}/"
        await collect(model, call)
        assert upstream.requests[0].headers["Authorization"] == f"Bearer {KEY}"

    async def test_another_server_never_gets_the_key_of_the_settings(
        self, http: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        model = OpenAIChat(http, OpenAISettings(api_key=KEY, organization="org-1"))
        call = make_call()
        call.base_url = upstream.base_url
        await collect(model, call)
        assert not {"Authorization", "OpenAI-Organization"} & set(upstream.requests[0].headers)

    async def test_another_server_gets_its_own_key(self, model: OpenAIChat, http: OutgoingClient) -> None:
        async with FakeUpstream() as other:
            call = make_call()
            call.base_url, call.api_key = other.base_url, "theirs"
            client = OutgoingClient([other.allow])
            await collect(OpenAIChat(client, OpenAISettings(api_key=KEY)), call)
            await client.close()
            assert other.requests[0].headers["Authorization"] == "Bearer theirs"

    async def test_lemonade_does_not_get_openais_key(self, http: OutgoingClient, upstream: FakeUpstream) -> None:
        settings = OpenAISettings(api_key=KEY, lemonade_base_url=upstream.base_url)
        await collect(LemonadeChat(http, settings), make_call())
        assert "Authorization" not in upstream.requests[0].headers

    async def test_a_key_that_comes_back_in_an_error_is_masked(self, model: OpenAIChat, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(status=401, error={"message": f"bad key {KEY}\x1b[31m", "type": "auth"})
        with pytest.raises(UpstreamError) as caught:
            await collect(model, make_call())
        assert caught.value.message == "bad key *** [31m"

    @pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "ä", "a\x00"])
    async def test_a_key_that_no_header_can_hold_is_refused(
        self, model: OpenAIChat, upstream: FakeUpstream, key: str
    ) -> None:
        call = make_call()
        call.api_key = key
        with pytest.raises(ValidationFailed, match="api_key"):
            await collect(model, call)
        assert not upstream.requests

    async def test_an_address_that_is_not_listed_is_refused(self, model: OpenAIChat) -> None:
        call = make_call()
        call.base_url = "http://169.254.169.254/v1"
        with pytest.raises(ValidationFailed, match=r"metadata"):
            await collect(model, call)


class TestErrors:
    @pytest.mark.parametrize(
        ("plan", "message"),
        [
            (Plan(status=500, body=b'{"detail": "broken"}'), "broken"),
            (Plan(status=500, body=b'{"object": "error", "message": "old style", "code": 500}'), "old style"),
            (Plan(status=500, body=b'{"error": "plain text"}'), "plain text"),
            (Plan(status=500, body=b'{"detail": [{"loc": ["body"], "msg": "bad"}]}'), '[{"loc":["body"],"msg":"bad"}]'),
            (Plan(status=500, body=b"out of memory", headers={"Content-Type": "text/plain"}), "Error): out of memory"),
            (Plan(status=503, body=b""), "(Service Unavailable) without an explanation"),
            (
                Plan(status=302, headers={"Location": "http://elsewhere.example/"}),
                "a redirect, which is never followed",
            ),
            (Plan(html="<title>Router &amp; login</title>"), "a web page instead of JSON"),
            (Plan(status=500, html="<script>x()</script><p>No <b>luck</b></p>"), "No luck"),
        ],
    )
    async def test_other_forms_of_errors_are_readable(
        self, model: OpenAIChat, upstream: FakeUpstream, plan: Plan, message: str
    ) -> None:
        upstream.plan = plan
        with pytest.raises(UpstreamError) as caught:
            await collect(model, make_call())
        assert message in caught.value.message
        assert caught.value.http_status in (500, 502, 503)

    async def test_a_number_as_code_is_told_as_text(self, model: OpenAIChat, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(status=400, error={"message": "no", "code": 400})
        with pytest.raises(UpstreamError) as caught:
            await collect(model, make_call())
        assert caught.value.upstream_code == "400"

    async def test_json_in_place_of_a_stream_is_an_error(self, model: OpenAIChat, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(body=b'{"choices": []}')
        with pytest.raises(UpstreamError, match="plain JSON where a stream"):
            await collect(model, make_call(stream=True))

    async def test_an_error_page_without_end_is_cut(self, model: OpenAIChat, upstream: FakeUpstream) -> None:
        upstream.plan = Plan(status=500, html="<title>" * 300_000)
        with pytest.raises(UpstreamError) as caught:
            await collect(model, make_call())
        assert len(caught.value.message) < 500

    async def test_the_first_byte_is_waited_for_as_long_as_the_settings_say(
        self, http: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        upstream.plan = Plan(before_headers=asyncio.Event())
        model = OpenAIChat(http, OpenAISettings(base_url=upstream.base_url, first_byte_timeout=0.05))
        with pytest.raises(UpstreamTimeout):
            await collect(model, make_call())

    async def test_the_whole_reply_is_waited_for_as_long_as_the_settings_say(
        self, http: OutgoingClient, upstream: FakeUpstream
    ) -> None:
        upstream.plan = Plan(hold_after=1)
        model = OpenAIChat(http, OpenAISettings(base_url=upstream.base_url, timeout=0.2))
        with pytest.raises(UpstreamTimeout):
            await collect(model, make_call(stream=True))

    async def test_an_option_of_other_providers_is_refused_by_name(self, model: OpenAIChat) -> None:
        call = make_call()
        call.options = {"truncation_strategy": "summarize", "n_ctx": None}
        with pytest.raises(BadRequest, match="truncation_strategy"):
            await collect(model, call)


class TestStream:
    async def test_the_bytes_pass_unchanged(self, model: OpenAIChat, upstream: FakeUpstream) -> None:
        odd = b': comment\r\n\r\ndata:{"x" :  1}\n\nid: 7\ndata: [DONE]\n\n'
        upstream.plan = Plan(body=odd, headers={"Content-Type": "text/event-stream"})
        assert await collect(model, make_call(stream=True)) == odd


class TestCatalogue:
    async def test_models_are_listed(self, model: OpenAIChat) -> None:
        found = await model.models()
        assert [(one.id, one.owned_by, one.created) for one in found] == [("fake-model", "fake", 1_700_000_000)]

    async def test_openai_without_a_key_is_not_asked(self, http: OutgoingClient) -> None:
        model = OpenAIChat(http, OpenAISettings())
        assert (await model.health()).status == "degraded"
        with pytest.raises(ProviderUnavailable, match=r"openai\.api_key"):
            await model.models()

    async def test_a_catalogue_that_is_forbidden_is_unavailable(
        self, model: OpenAIChat, upstream: FakeUpstream
    ) -> None:
        upstream.plan = Plan(status=401, error={"message": "no"})
        with pytest.raises(ProviderUnavailable, match="can't be listed: no"):
            await model.models()
        assert (await model.health()).status == "unhealthy"


class TestEmbedder:
    @pytest.fixture
    def embedder(self, http: OutgoingClient, upstream: FakeUpstream) -> OpenAIEmbedder:
        return OpenAIEmbedder(http, OpenAISettings(base_url=upstream.base_url, api_key=KEY), backoff=0)

    def config(self, embedder: OpenAIEmbedder, **fields: Any) -> Any:
        return embedder.configure("OpenAIEmbedder", {"model": "fake-model", **fields}).config

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    async def test_a_passing_failure_is_tried_again(
        self, embedder: OpenAIEmbedder, upstream: FakeUpstream, status: int
    ) -> None:
        upstream.script(*[Plan(status=status, error={"message": "later"}, headers={"Retry-After": "0"})] * 3)
        assert (await embedder.embed(["a"], self.config(embedder, max_retries=3), "query")).shape == (1, 8)
        assert len(upstream.requests) == 4

    async def test_after_the_last_retry_the_error_is_told(
        self, embedder: OpenAIEmbedder, upstream: FakeUpstream
    ) -> None:
        upstream.embedding_plan = Plan(status=429, error={"message": "slow down"}, headers={"Retry-After": "0"})
        with pytest.raises(UpstreamError, match="slow down"):
            await embedder.embed(["a"], self.config(embedder, max_retries=1), "query")
        assert len(upstream.requests) == 2

    async def test_a_lasting_failure_is_not_tried_again(self, embedder: OpenAIEmbedder, upstream: FakeUpstream) -> None:
        upstream.embedding_plan = Plan(status=401, error={"message": "no"})
        with pytest.raises(UpstreamError):
            await embedder.embed(["a"], self.config(embedder), "query")
        assert len(upstream.requests) == 1

    async def test_texts_go_in_batches(self, embedder: OpenAIEmbedder, upstream: FakeUpstream) -> None:
        await embedder.embed(["a", "b", "c"], self.config(embedder, batch_size=2), "document")
        assert [request.body["input"] for request in upstream.requests] == [["a", "b"], ["c"]]

    async def test_a_wrong_dimension_names_the_right_one(self, embedder: OpenAIEmbedder) -> None:
        with pytest.raises(ValidationFailed, match="vectors of 8 numbers"):
            await embedder.embed(["a"], self.config(embedder, dimension=9), "query")

    async def test_new_models_are_asked_for_shorter_vectors(
        self, embedder: OpenAIEmbedder, upstream: FakeUpstream
    ) -> None:
        config = self.config(embedder, model="text-embedding-3-small", dimension=5)
        assert (await embedder.embed(["a"], config, "query")).shape == (1, 5)
        assert upstream.requests[0].body["dimensions"] == 5

    def test_the_dimension_of_known_models_is_known(self, embedder: OpenAIEmbedder) -> None:
        assert embedder.dimension(self.config(embedder, model="text-embedding-3-large")) == 3072
        assert embedder.dimension(self.config(embedder)) is None

    @pytest.mark.parametrize("body", [
        b'{"data": [{"index": 0, "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1, null]}, {"index": 1, "embedding": [1, 2]}]}',
        b'{"data": [{"index": 0, "embedding": [1, 1e999]}, {"index": 1, "embedding": [1, 2]}]}',
        b"{}", b"[1", b"\xff",
    ])  # fmt: skip
    async def test_a_wrong_reply_is_refused(
        self, embedder: OpenAIEmbedder, upstream: FakeUpstream, body: bytes
    ) -> None:
        upstream.embedding_plan = Plan(body=body)
        with pytest.raises((ProviderUnavailable, UpstreamError)):
            await embedder.embed(["a", "b"], self.config(embedder, max_retries=0), "query")

    @pytest.mark.parametrize(
        ("field", "value"),
        [("batch_size", 2049), ("batch_size", 0), ("timeout", 0), ("model", ""), ("max_retries", -1)],
    )
    def test_values_out_of_bounds_are_refused_by_name(
        self, embedder: OpenAIEmbedder, field: str, value: object
    ) -> None:
        with pytest.raises(ValidationFailed) as caught:
            embedder.configure("OpenAIEmbedder", {field: value})
        assert caught.value.errors[0].field == field


def test_the_plugin_declares_its_section() -> None:
    assert plugin.paddock_settings() == ("openai", OpenAISettings)


def test_importing_the_plugin_loads_no_heavy_library() -> None:
    heavy = ("aiohttp", "numpy", "httpx", "pydantic", "litestar")
    code = f"import sys, paddock_openai; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
