"""What providers really send: events cut anywhere, comments, odd line ends, missing ends, errors in disguise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from paddock.errors import ProviderUnavailable, UpstreamError
from paddock.services.chat.wire import EventSplitter, chunk_of, data_of, tokens_of

if TYPE_CHECKING:
    from tests.chat.conftest import Answered, Lab

PATHS = pytest.mark.parametrize("session", [None, "s"], ids=["passed", "read"])


def event(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "i", "object": "chat.completion.chunk", "created": 1, "model": "r", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


USAGE = (
    b'data: {"id":"i","object":"chat.completion.chunk","created":1,"model":"r","choices":[],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
)
DONE = b"data: [DONE]\n\n"
ROLE = event(role="assistant", content="")
WORDS = [event(content=f" w{number}") for number in range(50)]
STREAM = b"".join([ROLE, *WORDS, event("stop"), USAGE, DONE])


async def streamed(lab: Lab, pieces: Sequence[bytes], session: str | None, **fields: Any) -> Answered:
    lab.project(model={"provider": "raw"})
    lab.raw.pieces = list(pieces)
    return await lab.ask("x", stream=True, session=session, **fields)


@PATHS
@pytest.mark.parametrize("size", [1, 7, 100, 333, 10_000, 1_000_000])
async def test_a_stream_may_be_cut_anywhere(lab: Lab, size: int, session: str | None) -> None:
    answered = await streamed(lab, [STREAM[at : at + size] for at in range(0, len(STREAM), size)], session)
    assert answered.body == STREAM
    found = await lab.event()
    if session or size >= 100:  # of a stream that passes in crumbs the end is not read
        assert found.data["tokens"] == {"prompt": 1, "completion": 2, "total": 3}
        assert found.data["response"]["finish_reason"] == "stop"
    assert found.data["response"]["content"].startswith(" w0")


@PATHS
async def test_one_event_at_a_time_is_the_same(lab: Lab, session: str | None) -> None:
    answered = await streamed(lab, [ROLE, *WORDS, event("stop"), USAGE, DONE], session)
    assert answered.body == STREAM
    assert (await lab.event()).data["tokens"]["total"] == 3


@PATHS
async def test_comments_and_windows_line_ends_are_no_trouble(lab: Lab, session: str | None) -> None:
    stream = b": waiting\r\n\r\n" + STREAM.replace(b"\n", b"\r\n")
    for size in (1, 50, 100_000):
        answered = await streamed(lab, [stream[at : at + size] for at in range(0, len(stream), size)], session)
        text = answered.body.replace(b"\r\n", b"\n")
        assert text == b": waiting\n\n" + STREAM


@PATHS
async def test_a_stream_that_only_forgot_done_gets_one(lab: Lab, session: str | None) -> None:
    answered = await streamed(lab, [ROLE, *WORDS, event("stop")], session)
    assert answered.body.endswith(DONE)
    assert answered.text.endswith("w49")


async def test_a_last_event_without_its_blank_line_counts(lab: Lab) -> None:
    answered = await streamed(lab, [ROLE, event(content="a"), event("stop").rstrip()], "s")
    assert answered.text == "a"
    assert (await lab.event()).data["response"]["finish_reason"] == "stop"


@PATHS
async def test_a_stream_that_breaks_off_is_an_error(lab: Lab, session: str | None) -> None:
    for pieces in ([], [ROLE], [ROLE, *WORDS], [ROLE, WORDS[0], WORDS[1][:40]]):
        with pytest.raises((ProviderUnavailable, UpstreamError)):
            await streamed(lab, pieces, session)
        assert (await lab.event()).status == "failed"


@PATHS
async def test_an_error_before_the_first_word_is_raised(lab: Lab, session: str | None) -> None:
    error = b'data: {"error": {"message": "no memory", "code": 503, "type": "t"}}\n\n'
    for pieces in ([error], [ROLE + error], [ROLE, error]):
        with pytest.raises(UpstreamError, match="no memory") as caught:
            await streamed(lab, pieces, session)
        assert caught.value.http_status == 503


async def test_an_error_that_ends_a_stream_which_passes_is_not_told_twice(lab: Lab) -> None:
    error = b'data: {"error": {"message": "no memory"}}\n\n'
    lab.project(model={"provider": "raw"})
    lab.raw.pieces = [ROLE, *WORDS, error]
    reply = await lab.start("x", stream=True)
    assert not isinstance(reply.body, bytes)
    body = b"".join([piece async for piece in reply.body])
    assert body == b"".join([ROLE, *WORDS, error])
    assert (await lab.event()).error == "no memory"


@PATHS
async def test_what_is_no_event_of_openais_is_an_upstream_error(lab: Lab, session: str | None) -> None:
    for piece in (b"data: {not json}\n\n", b'data: {"choices": 5}\n\n', b"data: \xff\xfe\n\n", b'data: "text"\n\n'):
        with pytest.raises(UpstreamError) as caught:
            await streamed(lab, [piece], session)
        assert caught.value.http_status == 502


@pytest.mark.parametrize(
    ("body", "message", "status"),
    [
        (b"<html>", "OpenAI's format", 502),
        (b"", "OpenAI's format", 502),
        (b"[]", "OpenAI's format", 502),
        (b'{"choices": []}', "no choices", 502),
        (b'{"error": {"message": "full", "code": 429}}', "full", 429),
        (b'{"error": "just text"}', "just text", 502),
    ],
)
async def test_a_reply_that_is_none_is_an_upstream_error(lab: Lab, body: bytes, message: str, status: int) -> None:
    lab.project(model={"provider": "raw"})
    lab.raw.pieces = [body]
    with pytest.raises(UpstreamError, match=message) as caught:
        await lab.ask("x")
    assert caught.value.http_status == status


async def test_a_whole_reply_passes_byte_by_byte(lab: Lab) -> None:
    body = b'{"id":"i", "odd": 1e3,  "choices":[{"index":0,"message":{"role":"assistant","content":"a"},"finish_reason":"stop"}]}'
    lab.project(model={"provider": "raw"})
    lab.raw.pieces = [body[:10], body[10:]]
    assert (await lab.ask("x")).body == body


async def test_tags_that_are_escaped_in_json_are_seen(lab: Lab) -> None:
    body = rb'{"choices":[{"message":{"role":"assistant","content":"\u003cthink\u003ea\u003c/think\u003eb"}}]}'
    lab.project(model={"provider": "raw"})
    lab.raw.pieces = [body]
    found = (await lab.ask("x")).json()
    assert found["thinking"]["content"] == "a"
    assert found["choices"][0]["message"]["content"] == "b"


async def test_several_answers_pass_and_the_first_is_kept(lab: Lab) -> None:
    choices = [{"index": at, "delta": {"content": f"a{at}"}, "finish_reason": "stop"} for at in (1, 0)]
    await streamed(lab, [b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n", DONE], "s")
    assert (await lab.history("s"))[1]["content"] == "a0"


async def test_arguments_of_tool_calls_are_put_together(lab: Lab) -> None:
    parts: list[Any] = [
        {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}},
        {"index": 1, "id": "d", "type": "function", "function": {"name": "g"}},
        {"index": 0, "function": {"arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
        {"index": 1, "function": {"arguments": {"b": 2}}},
    ]
    await streamed(lab, [*(event(tool_calls=[part]) for part in parts), event("tool_calls"), DONE], "s")
    calls = (await lab.history("s"))[1]["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "f", "arguments": '{"a": 1}'},
        {"name": "g", "arguments": '{"b":2}'},
    ]


def test_an_event_without_end_is_refused() -> None:
    splitter = EventSplitter()
    with pytest.raises(ProviderUnavailable):
        splitter.feed(b"x" * (17 * 1024 * 1024))


def test_data_of_events() -> None:
    assert data_of(b"data: x") == data_of(b"data:x") == data_of(b"event: e\nid: 1\ndata: x") == b"x"
    assert data_of(b"data: a\ndata: b") == b"a\nb"
    assert data_of(b": ping") == data_of(b"") == b""


def test_unknown_usage_is_unknown() -> None:
    assert tokens_of(None) is None
    assert tokens_of({"prompt_tokens": "many"}) == {"prompt": None, "completion": None, "total": None}
    assert chunk_of(b"{}").choices is None
