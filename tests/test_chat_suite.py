"""The suites for chat models are proved by fakes that are broken on purpose, and by good ones."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from paddock.builtin import openai_wire as wire
from paddock.contracts.providers import ChatCall, ChatModel, Health, ModelInfo, TypeName, timed_health
from paddock.errors import BadRequest, ModelNotFound, ProviderUnavailable, UpstreamError
from paddock.outgoing import OutgoingClient
from paddock.testing.chat import ChatModelSuite, EchoModel, Say, UpstreamChatSuite, collect, make_call, sse_events
from paddock.testing.proof import failures_of, name_of, parameters_of
from paddock.testing.upstream import FakeUpstream


class TestEcho(ChatModelSuite):
    unknown_model = "missing-model"

    @pytest.fixture
    def model(self) -> EchoModel:
        return EchoModel(known=["fake-model"])


class TestEchoScript:
    async def test_it_says_the_script_then_the_question(self) -> None:
        model = EchoModel(["first", Say(texts=["sec", "ond"])])
        texts = [
            json.loads(await collect(model, make_call("hello")))["choices"][0]["message"]["content"] for _ in range(3)
        ]
        assert texts == ["first", "second", "hello"]

    async def test_tool_calls_reasoning_and_usage_are_told(self) -> None:
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        say = Say(reasoning=["hm", "m"], tool_calls=[call], usage=usage)
        reply = json.loads(await collect(EchoModel([say]), make_call()))
        choice = reply["choices"][0]
        assert choice["message"]["reasoning_content"] == "hmm"
        assert choice["message"]["tool_calls"] == [call]
        assert choice["finish_reason"] == "tool_calls"
        assert reply["usage"] == usage
        events = sse_events(await collect(EchoModel([say]), make_call(stream=True)))
        assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"

    async def test_an_error_comes_before_the_first_piece_or_in_the_middle(self) -> None:
        error = ProviderUnavailable("down")
        model = EchoModel([Say(error=error), Say(texts=["a", "b"], error=error, error_after=1)])
        with pytest.raises(ProviderUnavailable):
            await anext(model.chat(make_call(stream=True)))
        pieces = model.chat(make_call(stream=True))
        assert b'"a"' in await anext(pieces)
        with pytest.raises(ProviderUnavailable):
            await anext(pieces)

    async def test_it_tells_when_its_caller_left(self) -> None:
        model = EchoModel([Say(texts=["a", "b"], hold_after=1)])
        task = asyncio.create_task(collect(model, make_call()))
        await model.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert model.gone.is_set()


# --- broken chat models: what is wrong, and the test that must see it ---------------------------------------------------

Body = Callable[[bytes], bytes]


class Spoiled(EchoModel):
    """An EchoModel whose bytes are changed."""

    def __init__(self, spoil: Body) -> None:
        super().__init__()
        self._spoil = spoil

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        yield self._spoil(b"".join([piece async for piece in super().chat(call)]))


class Forgetful(EchoModel):
    """Keeps the question in the object, where another call finds it."""

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        self.busy = getattr(self, "busy", 0) + 1
        await asyncio.sleep(0)
        crowd, self.busy = self.busy, 0
        async for piece in super().chat(call):
            yield piece if crowd == 1 else b"garbage"


class Endless(EchoModel):
    """Goes on when it is closed."""

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        try:
            async for piece in super().chat(call):
                yield piece
        except GeneratorExit:
            yield b"more"


class Refusing(EchoModel):
    """Refuses without saying what."""

    def check(self, call: ChatCall) -> None:
        if call.body.get("tools"):
            raise BadRequest("no")


class Nameless(EchoModel):
    """Lists models that nobody can ask for, and has no health."""

    async def models(self) -> list[ModelInfo]:
        return [ModelInfo(id="", owned_by="x")]

    async def health(self) -> Health:
        return None  # type: ignore[return-value]  # broken on purpose


def swap(old: bytes, new: bytes) -> Body:
    return lambda body: body.replace(old, new)


BROKEN: list[tuple[ChatModel, str]] = [
    (Spoiled(swap(b'"created":', b'"made":')), "a_reply_has_openais_shape"),
    (Spoiled(swap(b'"index":0', b'"index":"0"')), "a_reply_has_openais_shape"),
    (Spoiled(swap(b'"total_tokens":', b'"total_tokens":1')), "usage_adds_up"),
    (Spoiled(swap(b"data: [DONE]\n\n", b"")), "a_stream_has_openais_shape"),
    (Spoiled(swap(b'"role":"assistant",', b"")), "a_stream_has_openais_shape"),
    (Spoiled(swap(b'"finish_reason":"stop"', b'"finish_reason":null')), "a_stream_has_openais_shape"),
    (Spoiled(swap(b"data:", b"event: x\ndata:")), "a_stream_has_openais_shape"),
    (
        Spoiled(lambda body: body.replace(b"What", b"That") if body[:5] == b"data:" else body),
        "streaming_changes_only_the_form",
    ),
    (Spoiled(swap(b'"choices":[],', b'"choices":[],"x":1,')), ""),
    (Spoiled(swap(b'"usage":{', b'"usage":null,"y":{')), "include_usage_ends_the_stream_with_usage"),
    (Forgetful(), "concurrent_calls_do_not_mix"),
    (Endless(), "a_stream_can_be_closed_early"),
    (Refusing(), "a_demanding_field_is_honoured_or_refused_by_name"),
    (EchoModel(), "an_unknown_model_is_not_found"),
    (Nameless(), "models_have_names"),
    (Nameless(), "health_is_told"),
]


class AnySuite(ChatModelSuite):
    __test__ = False
    unknown_model: str | None = "missing-model"


@pytest.mark.parametrize(("model", "expected"), BROKEN, ids=name_of)
async def test_the_suite_sees_what_is_broken(model: ChatModel, expected: str) -> None:
    suite = AnySuite()
    if expected != "an_unknown_model_is_not_found":
        suite.unknown_model = None
    failed = await failures_of(suite, model=model)
    assert expected in failed if expected else not failed


# --- broken upstream models ---------------------------------------------------------------------------------------------


class Proxy(ChatModel):
    """A good model behind an upstream, in few lines; the broken ones differ from it in one thing."""

    types = (TypeName("proxy"),)

    def __init__(self, http: OutgoingClient, base_url: str) -> None:
        self.http = http
        self.target = wire.Target(base_url=base_url)

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        async for piece in wire.chat(self.http, self.target, self.sent(call), stream=call.stream):
            yield piece

    def sent(self, call: ChatCall) -> dict[str, Any]:
        return call.body

    async def models(self) -> list[ModelInfo]:
        return await wire.models(self.http, self.target, "proxy")

    async def health(self) -> Health:
        return await timed_health(self.look)

    async def look(self) -> str:
        await self.models()
        return "good"


class Detached(Proxy):
    """Works on in a task of its own when its caller has left."""

    tasks: set[asyncio.Task[None]]

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()

        async def run() -> None:
            try:
                async for piece in super(Detached, self).chat(call):
                    queue.put_nowait(piece)
                queue.put_nowait(None)
            except Exception as error:  # noqa: BLE001  handed on
                queue.put_nowait(error)

        self.tasks = getattr(self, "tasks", set()) | {asyncio.create_task(run())}
        while (piece := await queue.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece


class Polite(Proxy):
    """Makes every failure a generic one, and down looks empty."""

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        try:
            async for piece in super().chat(call):
                yield piece
        except (UpstreamError, ProviderUnavailable) as error:
            raise UpstreamError("<p>sorry</p>", 500) from error

    async def models(self) -> list[ModelInfo]:
        return []


class Deaf(Proxy):
    """Forwards the messages alone, and of the reply the text alone."""

    def sent(self, call: ChatCall) -> dict[str, Any]:
        return {name: call.body[name] for name in ("model", "messages")}

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        async for piece in super().chat(call):
            yield piece.replace(b"reasoning_content", b"x").replace(b"tool_calls", b"y").replace(b"error", b"z")


class Shared(Proxy):
    """Keeps the last piece in the object."""

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        async for self.piece in super().chat(call):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            yield self.piece


UPSTREAM: list[tuple[type[Proxy], set[str]]] = [
    (Proxy, set()),
    (Detached, {
        "leaving_before_the_headers_cancels_upstream", "leaving_before_the_first_token_cancels_upstream",
        "leaving_mid_stream_cancels_upstream", "leaving_without_streaming_cancels_upstream",
        "closing_the_iterator_cancels_upstream",
    }),
    (Polite, {
        "an_error_keeps_its_status_and_words", "a_web_page_becomes_a_sentence", "down_is_unavailable", "a_cut_stream_is_an_error",
    }),
    (Deaf, {
        "tool_calls_pass_through", "reasoning_passes_through", "an_error_event_passes_through",
        "sampling_fields_reach_the_upstream",
    }),
    (Shared, {"concurrent_streams_keep_apart"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "expected"), UPSTREAM)
async def test_the_upstream_suite_sees_what_is_broken(kind: type[Proxy], expected: set[str]) -> None:
    names = [
        name
        for name, _ in inspect.getmembers(UpstreamChatSuite, inspect.iscoroutinefunction)
        if name.startswith("test_")
    ]
    failed = set()
    for name in names:
        for given in parameters_of(getattr(UpstreamChatSuite, name)):
            async with FakeUpstream() as upstream:
                http = OutgoingClient([upstream.allow])
                model = kind(http, upstream.base_url)
                suite = UpstreamChatSuite()
                if kind is Detached:
                    suite.patience = 0.3  # what hangs on purpose need not hang long
                test = getattr(suite, name)
                fixtures = {"model": model, "upstream": upstream}
                ready = {key: fixtures[key] for key in inspect.signature(test).parameters if key in fixtures}
                try:
                    await test(**ready, **given)
                except (Exception, pytest.fail.Exception):  # noqa: BLE001  any failure counts
                    failed.add(name.removeprefix("test_"))
                await stop(model)
                await http.close()
    assert failed >= expected
    assert expected or not failed


async def stop(model: Proxy) -> None:
    """End what a detached model left running."""
    tasks: set[asyncio.Task[None]] = getattr(model, "tasks", set())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_missing_model_of_the_echo_names_the_known_ones() -> None:
    with pytest.raises(ModelNotFound, match="fake-model"):
        await collect(EchoModel(known=["fake-model"]), make_call(model="other"))
