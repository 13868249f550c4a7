"""Conformance suites of chat models; see `paddock.testing.chat`. Needs the packages pytest, pytest-asyncio and openai."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, cast

import pytest

from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ChatModel, Health
from paddock.errors import BadRequest, PaddockError, ProviderUnavailable, UpstreamError

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from paddock.testing.upstream import FakeUpstream, Plan

PATIENCE = 10.0  # seconds after which a test has failed rather than waited
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
ERRORS = (400, 401, 403, 404, 422, 429, 500, 503)


def make_call(
    question: str = "What is a cow?", *, stream: bool = False, model: str = "fake-model", **fields: Json
) -> ChatCall:
    """A call with one question; `fields` go into the body."""
    return ChatCall(body={"model": model, "messages": [{"role": "user", "content": question}], **fields}, stream=stream)


async def collect(model: ChatModel, call: ChatCall, patience: float = PATIENCE) -> bytes:
    """All bytes of a reply; TimeoutError after `patience` seconds."""
    async with asyncio.timeout(patience):
        return b"".join([piece async for piece in model.chat(call)])


def sse_events(body: bytes) -> list[Any]:
    """The events of a stream, decoded; the last is the text ``[DONE]``. Fails for anything but ``data:`` events."""
    assert body.endswith(b"\n\n"), "a stream ends with an empty line: the last event is not whole"
    events = body.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in events), f"not a data event in {events}"
    texts = [event.removeprefix("data: ") for event in events]
    return [text if text == "[DONE]" else json.loads(text) for text in texts]


def content_of(body: bytes, *, stream: bool) -> str:
    """The text of the first choice."""
    if not stream:
        return cast("str", json.loads(body)["choices"][0]["message"]["content"] or "")
    chunks = [event for event in sse_events(body) if event != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def strict_reply(body: bytes) -> ChatCompletion:
    """The reply in the strict types of OpenAI's own client."""
    from openai.types.chat import ChatCompletion  # noqa: PLC0415  a second of imports that only this needs

    return ChatCompletion.model_validate_json(body, strict=True)


def strict_chunks(body: bytes) -> list[ChatCompletionChunk]:
    """The stream in the strict types of OpenAI's own client."""
    from openai.types.chat import ChatCompletionChunk  # noqa: PLC0415  a second of imports that only this needs

    events = sse_events(body)
    assert events[-1] == "[DONE]", "a stream ends with data: [DONE]"
    return [ChatCompletionChunk.model_validate_json(json.dumps(event), strict=True) for event in events[:-1]]


class ChatModelSuite:
    """What holds for every chat model. Override the fixture `model` and, where they differ, the class attributes."""

    model_name = "fake-model"
    unknown_model: str | None = None  # a name that must not be found; None: the model takes any name
    patience = PATIENCE

    @pytest.fixture
    def model(self) -> ChatModel:
        """The model under test."""
        raise NotImplementedError("override the fixture `model`")

    def call(self, *, stream: bool, **fields: Json) -> ChatCall:
        """A call that the model can answer."""
        return make_call(stream=stream, model=self.model_name, **fields)

    async def test_a_reply_has_openais_shape(self, model: ChatModel) -> None:
        """If this fails, compare the JSON with OpenAI's reference of chat.completion."""
        reply = strict_reply(await collect(model, self.call(stream=False)))
        assert reply.choices[0].message.role == "assistant"
        assert reply.choices[0].message.content
        assert reply.choices[0].finish_reason == "stop"

    async def test_usage_adds_up(self, model: ChatModel) -> None:
        """If this fails, the three numbers of usage contradict each other, or are missing."""
        usage = strict_reply(await collect(model, self.call(stream=False))).usage
        assert usage is not None
        assert min(usage.prompt_tokens, usage.completion_tokens) > 0
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    async def test_a_stream_has_openais_shape(self, model: ChatModel) -> None:
        """If this fails: the role comes first, one finish_reason comes last, every chunk has the same id."""
        chunks = strict_chunks(await collect(model, self.call(stream=True)))
        choices = [choice for chunk in chunks for choice in chunk.choices]
        assert choices[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]
        assert choices[-1].finish_reason == "stop"
        assert len({chunk.id for chunk in chunks}) == 1

    async def test_streaming_changes_only_the_form(self, model: ChatModel) -> None:
        """If this fails, pieces are lost, doubled or out of order. Script the model to say the same twice."""
        whole = content_of(await collect(model, self.call(stream=False)), stream=False)
        assert content_of(await collect(model, self.call(stream=True)), stream=True) == whole

    async def test_include_usage_ends_the_stream_with_usage(self, model: ChatModel) -> None:
        """If this fails, the last chunk with usage and without choices is missing."""
        call = self.call(stream=True, stream_options={"include_usage": True})
        chunks = strict_chunks(await collect(model, call))
        assert chunks[-1].choices == []
        assert chunks[-1].usage is not None
        assert all(chunk.usage is None for chunk in chunks[:-1])

    @pytest.mark.parametrize(
        ("field", "value"), [("tools", [WEATHER]), ("response_format", {"type": "json_object"}), ("n", 2)]
    )
    async def test_a_demanding_field_is_honoured_or_refused_by_name(
        self, model: ChatModel, field: str, value: Json
    ) -> None:
        """If this fails, a field was refused without its name. (That it is not ignored, only the provider's tests can tell.)"""
        refusal = ""
        try:
            strict_reply(await collect(model, self.call(stream=False, **{field: value})))
        except BadRequest as error:
            refusal = error.message
        assert not refusal or field in refusal

    async def test_concurrent_calls_do_not_mix(self, model: ChatModel) -> None:
        """If this fails, state of one call leaks into another."""
        bodies = await asyncio.gather(*(collect(model, self.call(stream=index % 2 == 0)) for index in range(20)))
        for index, body in enumerate(bodies):
            if index % 2 == 0:
                strict_chunks(body)
            else:
                strict_reply(body)

    async def test_a_stream_can_be_closed_early(self, model: ChatModel) -> None:
        """If this fails, closing the iterator hangs or raises."""
        pieces = cast("AsyncGenerator[bytes, None]", model.chat(self.call(stream=True)))
        async with asyncio.timeout(self.patience):
            await anext(pieces)
            await pieces.aclose()

    async def test_an_unknown_model_is_not_found(self, model: ChatModel) -> None:
        """If this fails, a wrong name is answered by another model, or the error comes too late for its status."""
        if self.unknown_model is None:
            return
        for stream in (False, True):
            call = make_call(stream=stream, model=self.unknown_model)
            with pytest.raises(PaddockError) as caught:
                await anext(model.chat(call))
            assert caught.value.http_status == 404

    async def test_models_have_names(self, model: ChatModel) -> None:
        """If this fails, the catalogue has entries without id, or the same id twice."""
        names = [info.id for info in await model.models()]
        assert all(names)
        assert len(set(names)) == len(names)

    async def test_health_is_told(self, model: ChatModel) -> None:
        """If this fails, health() raises or returns something else."""
        assert isinstance(await model.health(), Health)


class UpstreamChatSuite(ChatModelSuite):
    """What holds for a model behind an upstream. Override the fixtures `upstream` and `model` (which talks to it)."""

    ignored_fields: Sequence[str] = ()  # of the sampling fields below, those that the upstream has under another name

    @pytest.fixture
    async def upstream(self) -> AsyncGenerator[FakeUpstream, None]:
        """The fake upstream."""
        from paddock.testing.upstream import FakeUpstream  # noqa: PLC0415  aiohttp is heavy: on first use

        async with FakeUpstream() as upstream:
            yield upstream

    @staticmethod
    def plan(**fields: Any) -> Plan:
        """A plan for the upstream."""
        from paddock.testing.upstream import Plan  # noqa: PLC0415  aiohttp is heavy: on first use

        return Plan(**fields)

    async def _refused(self, model: ChatModel, *, stream: bool) -> PaddockError:
        with pytest.raises(PaddockError) as caught:
            async with asyncio.timeout(self.patience):
                await anext(model.chat(self.call(stream=stream)))
        return caught.value

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("status", ERRORS)
    async def test_an_error_keeps_its_status_and_words(
        self, model: ChatModel, upstream: FakeUpstream, status: int, stream: bool
    ) -> None:
        """If this fails, the caller can't tell what the upstream said; it must come before the first piece."""
        said = {"message": "no such luck", "type": "bad_luck", "code": "luck", "param": "messages"}
        upstream.plan = self.plan(status=status, error=said, headers={"Retry-After": "17"})
        error = await self._refused(model, stream=stream)
        assert isinstance(error, UpstreamError)
        assert (error.http_status, error.message) == (status, "no such luck")
        assert (error.upstream_type, error.upstream_code, error.upstream_param) == ("bad_luck", "luck", "messages")
        assert error.headers["Retry-After"] == "17"

    async def test_a_web_page_becomes_a_sentence(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, HTML reaches the caller."""
        page = "<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
        upstream.plan = self.plan(status=502, html=page)
        error = await self._refused(model, stream=True)
        assert error.http_status == 502
        assert "502 Bad Gateway" in error.message
        assert "<" not in error.message

    async def test_down_is_unavailable(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, a server that is down looks like something else, or like one without models."""
        await upstream.stop()
        error = await self._refused(model, stream=True)
        assert isinstance(error, ProviderUnavailable)
        assert "Retry-After" in error.headers
        with pytest.raises(ProviderUnavailable):
            await model.models()
        assert (await model.health()).status == "unhealthy"

    async def _leave(self, model: ChatModel, upstream: FakeUpstream, phase: str, *, stream: bool) -> None:
        """Begin a call, cancel it in a phase, and see that the upstream's client went away."""
        task = asyncio.create_task(collect(model, self.call(stream=stream), self.patience))
        async with asyncio.timeout(self.patience):
            request = await upstream.request()
            await request.reached[phase].wait()  # type: ignore[index]  # one of the three phases
            assert not request.gone.is_set()
            task.cancel()
            await request.gone.wait()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_leaving_before_the_headers_cancels_upstream(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, the upstream works on for nobody while it reads the prompt."""
        upstream.plan = self.plan(before_headers=asyncio.Event())
        await self._leave(model, upstream, "headers", stream=True)

    async def test_leaving_before_the_first_token_cancels_upstream(
        self, model: ChatModel, upstream: FakeUpstream
    ) -> None:
        """If this fails, the upstream works on for nobody after its headers."""
        upstream.plan = self.plan(before_first=asyncio.Event())
        await self._leave(model, upstream, "first token", stream=True)

    async def test_leaving_mid_stream_cancels_upstream(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, the upstream generates on for nobody."""
        upstream.plan = self.plan(hold_after=1)
        await self._leave(model, upstream, "stream", stream=True)

    async def test_leaving_without_streaming_cancels_upstream(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, a whole answer is generated for nobody."""
        upstream.plan = self.plan(before_first=asyncio.Event())
        await self._leave(model, upstream, "headers", stream=False)

    async def test_closing_the_iterator_cancels_upstream(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, closing the stream (not its task) leaves the connection open."""
        upstream.plan = self.plan(hold_after=1)
        pieces = cast("AsyncGenerator[bytes, None]", model.chat(self.call(stream=True)))
        async with asyncio.timeout(self.patience):
            await anext(pieces)
            await pieces.aclose()
            await upstream.requests[0].gone.wait()

    async def test_a_cut_stream_is_an_error(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, half an answer looks like a whole one."""
        upstream.plan = self.plan(cut_after=2)
        with pytest.raises(ProviderUnavailable):
            await collect(model, self.call(stream=True))

    async def test_an_error_event_passes_through(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, an error that the upstream reports in the middle is lost."""
        upstream.plan = self.plan(fail_after=1, error={"message": "out of memory", "type": "server_error"})
        events = sse_events(await collect(model, self.call(stream=True)))
        assert events[-1]["error"]["message"] == "out of memory"

    @pytest.mark.parametrize("stream", [False, True])
    async def test_tool_calls_pass_through(self, model: ChatModel, upstream: FakeUpstream, stream: bool) -> None:
        """If this fails, tools don't reach the upstream, or its calls don't come back whole."""
        upstream.plan = self.plan(texts=(), tool_calls=[CALL])
        body = await collect(model, self.call(stream=stream, tools=[WEATHER], tool_choice="auto"))
        assert upstream.requests[0].body["tools"] == [WEATHER]
        if not stream:
            assert json.loads(body)["choices"][0]["message"]["tool_calls"] == [CALL]
            return
        deltas = [choice["delta"] for event in sse_events(body)[:-1] for choice in event["choices"]]
        parts = [part["function"]["arguments"] for delta in deltas for part in delta.get("tool_calls", ())]
        assert "".join(parts) == CALL["function"]["arguments"]  # type: ignore[index]  # a constant of this file

    async def test_reasoning_passes_through(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, reasoning_content is dropped from the stream."""
        upstream.plan = self.plan(reasoning=["Let me", " think"])
        events = sse_events(await collect(model, self.call(stream=True)))[:-1]
        texts = [choice["delta"].get("reasoning_content", "") for event in events for choice in event["choices"]]
        assert "".join(texts) == "Let me think"

    async def test_sampling_fields_reach_the_upstream(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, a field of the caller is dropped on the way."""
        fields: dict[str, Json] = {"temperature": 0.1, "top_p": 0.9, "seed": 7, "stop": ["x"], "max_tokens": 5}
        await collect(model, self.call(stream=False, **fields))
        sent = upstream.requests[0].body
        assert {name: sent.get(name) for name in fields if name not in self.ignored_fields} == {
            name: value for name, value in fields.items() if name not in self.ignored_fields
        }

    async def test_concurrent_streams_keep_apart(self, model: ChatModel, upstream: FakeUpstream) -> None:
        """If this fails, pieces of one stream reach another."""
        upstream.script(*(self.plan(texts=[f"{number} "] * 5) for number in range(20)))
        bodies = await asyncio.gather(*(collect(model, self.call(stream=True)) for _ in range(20)))
        assert {content_of(body, stream=True) for body in bodies} == {f"{number} " * 5 for number in range(20)}
