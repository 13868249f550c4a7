"""A request and its reply: models, fields, errors, the streams that pass, the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from paddock.contracts.base import Reply
from paddock.contracts.chat import ChatRequest
from paddock.errors import (
    BadName,
    ModelNotFound,
    ProjectNotFound,
    ProviderUnavailable,
    UnknownType,
    UpstreamError,
    ValidationFailed,
)
from paddock.testing.chat import Say

if TYPE_CHECKING:
    from tests.chat.conftest import Lab


async def test_a_reply_is_the_models_bytes(lab: Lab) -> None:
    answered = await lab.ask("Hello!")
    assert answered.reply.media_type == "application/json"
    assert answered.json()["object"] == "chat.completion"
    assert answered.text == "Hello!"
    assert "X-Session-ID" not in answered.headers


async def test_a_stream_ends_with_done_and_has_the_headers_of_one(lab: Lab) -> None:
    lab.echo.script.append(Say(texts=["Hel", "lo"]))
    answered = await lab.ask("Hi", stream=True)
    assert answered.text == "Hello"
    assert answered.reply.media_type == "text/event-stream"
    assert answered.headers == {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    assert answered.body.count(b"[DONE]") == 1


async def test_the_model_is_chosen_by_its_name_in_the_project(lab: Lab) -> None:
    models = [{"name": name, "provider": "echo", "model": f"real-{name}"} for name in ("a", "b")]
    lab.project(runtime={"models": models, "default_model": "b"})
    await lab.ask("x")
    assert lab.sent["model"] == "real-b"
    await lab.ask("x", model="a")
    assert lab.sent["model"] == "real-a"


async def test_an_unknown_model_is_not_found_and_names_near_ones(lab: Lab) -> None:
    lab.project(runtime={"models": [{"name": "fast-model", "provider": "echo", "model": "x"}]})
    with pytest.raises(ModelNotFound, match="fast-model"):
        await lab.ask("x", model="fast-modle")


async def test_an_unknown_project_is_not_found(lab: Lab) -> None:
    with pytest.raises(ProjectNotFound):
        await lab.ask("x", project="nobody")


async def test_an_invalid_project_says_what_is_wrong(lab: Lab) -> None:
    lab.project(model={"provider": "nothing"})
    with pytest.raises((UnknownType, ValidationFailed), match="nothing"):
        await lab.ask("x")


async def test_every_field_that_is_not_paddocks_own_is_forwarded(lab: Lab) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.3, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.2, "frequency_penalty": 0.2,
        "presence_penalty": -0.5, "seed": 42, "stop": ["END"], "max_tokens": 9, "n": 1, "logit_bias": {"5": -100},
        "logprobs": True, "top_logprobs": 2, "response_format": {"type": "json_object"}, "user": "u", "metadata": {"a": "b"},
        "parallel_tool_calls": False, "tool_choice": "auto", "stream_options": {"include_usage": True},
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "reasoning_effort": "low",
        "guided_json": {"type": "object"}, "a_field_of_tomorrow": [1],
    }  # fmt: skip
    await lab.ask("x", stream=True, **fields)
    assert lab.sent == {**fields, "model": "echo-1", "messages": [{"role": "user", "content": "x"}]}


async def test_paddocks_own_fields_and_nulls_do_not_reach_the_model(lab: Lab) -> None:
    own = {
        "rag_enabled": False,
        "rag_top_k": 3,
        "rag_score_threshold": 0.5,
        "include_sources": False,
        "sources_limit": 5,
    }
    await lab.ask("x", think=True, thinking_budget=9, variables={"a": 1}, temperature=None, seed=None, **own)
    assert set(lab.sent) == {"model", "messages"}
    assert (lab.echo.calls[-1].think, lab.echo.calls[-1].thinking_budget) == (True, 9)


async def test_options_of_the_runtime_travel_apart_from_the_body(lab: Lab) -> None:
    await lab.ask("x", n_ctx=2048, auto_truncate=False, truncation_strategy="middle_out")
    assert lab.echo.calls[-1].options == {"n_ctx": 2048, "auto_truncate": False, "truncation_strategy": "middle_out"}
    assert "n_ctx" not in lab.sent


async def test_parameters_of_the_model_are_defaults_that_a_request_overrides(lab: Lab) -> None:
    lab.project(
        model={
            "model_api_parameters": {"temperature": 0.1, "top_p": 0.9, "max_tokens": 50},
            "extra_body": {"top_p": 0.8},
        }
    )
    await lab.ask("x", temperature=1.5, max_completion_tokens=7)
    assert lab.sent == {
        "temperature": 1.5,
        "top_p": 0.8,
        "max_completion_tokens": 7,
        "model": "echo-1",
        "messages": [{"role": "user", "content": "x"}],
    }


async def test_where_the_model_runs_comes_from_the_project(lab: Lab) -> None:
    lab.project(model={"base_url": "http://127.0.0.1:11434/v1", "api_key": "sk-project"})
    await lab.ask("x")
    assert (lab.echo.calls[-1].base_url, lab.echo.calls[-1].api_key) == ("http://127.0.0.1:11434/v1", "sk-project")


@pytest.mark.parametrize("field", ["base_url", "api_base", "api_key"])
def test_a_request_cannot_say_where_the_model_runs(field: str) -> None:
    body = msgspec.json.encode({"messages": [{"role": "user", "content": "x"}], field: "http://evil"})
    with pytest.raises(ValidationFailed) as caught:
        ChatRequest.decode(body)
    assert caught.value.errors[0].field == field


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": [{"role": "boss", "content": "x"}]},
        {"messages": [{"content": "x"}]},
        {"messages": [{"role": "user", "content": 5}]},
        {"messages": [{"role": "user", "content": ["x"]}]},
        {"temperature": 2.1},
        {"temperature": "warm"},
        {"stream": "yes"},
        {"rag_top_k": 0},
        {"rag_score_threshold": 1.5},
        {"sources_limit": 51},
        {"rag_queries": "one"},
        {"variables": []},
        {"tools": [1]},
    ],
)
def test_malformed_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        ChatRequest.decode(msgspec.json.encode({"messages": [{"role": "user", "content": "x"}], **fields}))


def test_a_request_built_in_code_knows_its_fields_too() -> None:
    request = ChatRequest(messages=[], temperature=0.5)
    assert request.given == {"messages": [], "temperature": 0.5}


async def test_parts_of_a_message_pass_unchanged(lab: Lab) -> None:
    parts = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    answered = await lab.ask([{"role": "user", "content": parts, "cache_control": {"type": "ephemeral"}}])
    assert lab.sent["messages"] == [{"role": "user", "content": parts, "cache_control": {"type": "ephemeral"}}]
    assert answered.text == "What is it?"


async def test_nulls_in_a_message_are_left_out_but_for_its_content(lab: Lab) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assistant = {"role": "assistant", "content": None, "refusal": None, "audio": None, "tool_calls": [call]}
    await lab.ask([{"role": "user", "content": "x"}, assistant, {"role": "tool", "tool_call_id": "c", "content": "1"}])
    assert lab.sent["messages"][1] == {"role": "assistant", "content": None, "tool_calls": [call]}


async def test_tool_calls_pass_in_both_modes(lab: Lab) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    lab.echo.script.extend([Say(tool_calls=[call]), Say(tool_calls=[call])])
    whole = await lab.ask("x")
    assert whole.json()["choices"][0]["message"]["tool_calls"][0]["function"] == call["function"]
    assert whole.json()["choices"][0]["finish_reason"] == "tool_calls"
    streamed = await lab.ask("x", stream=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed.chunks]
    assert [delta["tool_calls"][0]["id"] for delta in deltas if delta.get("tool_calls")] == ["c"]


async def test_an_error_of_the_provider_keeps_its_status(lab: Lab) -> None:
    for stream in (False, True):
        lab.echo.script.append(Say(error=UpstreamError("slow down", 429, code="rate")))
        with pytest.raises(UpstreamError) as caught:
            await lab.ask("x", stream=stream)
        assert caught.value.http_status == 429
    assert (await lab.event()).error == "slow down"


async def test_an_error_in_the_middle_of_a_stream_is_raised_after_what_came(lab: Lab) -> None:
    lab.echo.script.append(Say(texts=["a", "b"], error=ProviderUnavailable("gone"), error_after=1))
    reply = await lab.start("x", stream=True)
    got: list[bytes] = []
    with pytest.raises(ProviderUnavailable, match="gone"):
        await drain(reply, got)
    assert b'"a"' in b"".join(got)
    assert b"[DONE]" not in b"".join(got)


async def drain(reply: Reply, into: list[bytes]) -> None:
    assert not isinstance(reply.body, bytes)
    async for piece in reply.body:
        into.append(piece)  # noqa: PERF401  keeps what came before an error


async def test_a_chat_is_an_event_with_its_steps_and_figures(lab: Lab) -> None:
    for stream in (False, True):
        lab.echo.script.append(
            Say(texts=["Paris"], usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7})
        )
        await lab.ask("Capital of France?", stream=stream, stream_options={"include_usage": True})
        event = await lab.event()
        assert (event.type, event.status, event.request_id) == ("inference", "completed", "req_test")
        assert event.data["tokens"] == {"prompt": 5, "completion": 2, "total": 7}
        assert event.data["messages"] == [{"role": "user", "content": "Capital of France?"}]
        assert event.data["response"] == {"role": "assistant", "content": "Paris", "finish_reason": "stop"}
        assert event.summary.model == "echo-1"
        assert event.config_hash
        names = [step.event_name for step in event.sub_events]
        assert names[:2] == ["request_received", "llm_inference_start"]
        assert names[-1] == ("stream_complete" if stream else "llm_inference_complete")
        assert (event.time_to_first_token_ms is not None) == stream


async def test_the_key_of_a_project_never_reaches_the_event_log(lab: Lab) -> None:
    lab.project(model={"api_key": "sk-verysecretkeyofproject"})
    await lab.ask("my password: Bearer abcdefghijklmnop1234")
    text = msgspec.json.encode(await lab.event())
    assert b"sk-verysecret" not in text
    assert b"abcdefghijklmnop1234" not in text


@pytest.mark.parametrize("hostile", ["..", "a/b", "a\x00b", "x" * 65, "a b", "ü", "../../etc"])
async def test_a_hostile_session_id_is_refused(lab: Lab, hostile: str) -> None:
    with pytest.raises(BadName):
        await lab.ask("x", session=hostile)
    with pytest.raises(BadName):
        await lab.history(hostile)
    with pytest.raises(BadName):
        await lab.delete(hostile)
