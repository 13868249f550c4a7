"""The replies of `FakeUpstream` in each format of OpenAI's and Anthropic's paths, as its plan tells them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from paddock.contracts.base import Json

Event = tuple[str | None, Json]  # the event's name, where the format has names, and its data


class Told(Protocol):
    """The parts of a plan that the shapes read."""

    texts: Sequence[str]

    @property
    def message(self) -> dict[str, Json]:
        """The whole message."""

    @property
    def finish_reason(self) -> str:
        """Why it ended."""

    def deltas(self) -> list[dict[str, Json]]:
        """The pieces of a stream."""


def whole(operation: str, body: Any, plan: Told, usage: dict[str, int]) -> Json:
    """A reply without streaming."""
    text = "".join(plan.texts)
    tokens = {"input_tokens": usage.get("prompt_tokens", 0), "output_tokens": usage.get("completion_tokens", 0)}
    head = {"id": f"{operation}-fake", "created": 1_700_000_000, "model": body["model"]}
    match operation:
        case "chat/completions":
            choice = {"index": 0, "message": plan.message, "finish_reason": plan.finish_reason, "logprobs": None}
            return {**_head(body, "chat.completion"), "choices": [choice], "usage": usage}
        case "completions":
            choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
            return {**head, "object": "text_completion", "choices": [choice], "usage": usage}
        case "responses":
            return _response(body, text, "completed", _detailed(tokens))
        case "messages":
            content = [{"type": "text", "text": text}]
            return {**_message(body), "content": content, "stop_reason": "end_turn", "usage": tokens}
        case "messages/count_tokens":
            return {"input_tokens": tokens["input_tokens"]}
    documents = body.get("documents") or []
    results = [{"index": number, "relevance_score": 1 / (number + 1)} for number in range(len(documents))]
    return {"model": body["model"], "object": "list", "results": results, "usage": usage}


def pieces(operation: str, body: Any, plan: Told) -> list[Event]:
    """The events of a stream: the one that only opens it, then one for each piece."""
    match operation:
        case "completions":
            opening = _text_chunk(body, "", None)
            return [(None, opening), *((None, _text_chunk(body, text, None)) for text in plan.texts)]
        case "responses":
            first = {"type": "response.created", "response": _response(body, "", "in_progress", None)}
            delta = {"type": "response.output_text.delta", "item_id": "msg_fake", "output_index": 0, "content_index": 0}
            events: list[dict[str, Json]] = [first, *({**delta, "delta": text, "logprobs": []} for text in plan.texts)]
            return [_named({**one, "sequence_number": number}) for number, one in enumerate(events)]
        case "messages":
            usage = {"input_tokens": 7, "output_tokens": 0}
            first = {"type": "message_start", "message": {**_message(body), "usage": usage}}
            delta = {"type": "content_block_delta", "index": 0}
            return [
                _named(first),
                *(_named({**delta, "delta": {"type": "text_delta", "text": text}}) for text in plan.texts),
            ]
    chunk = _head(body, "chat.completion.chunk")
    return [
        (None, {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in plan.deltas()
    ]


def endings(operation: str, body: Any, plan: Told, usage: dict[str, int]) -> list[Event]:
    """The events behind the last piece, without [DONE]."""
    asked = (body.get("stream_options") or {}).get("include_usage")
    match operation:
        case "completions":
            end = _text_chunk(body, "", "stop")
            return [(None, one) for one in ([end, {**end, "choices": [], "usage": usage}] if asked else [end])]
        case "responses":
            tokens = {"input_tokens": 7, "output_tokens": 3}
            done = _response(body, "".join(plan.texts), "completed", _detailed(tokens))
            last = {"type": "response.completed", "response": done, "sequence_number": len(plan.texts) + 1}
            return [_named(last)]
        case "messages":
            delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
            return [_named({**delta, "usage": {"output_tokens": 3}}), _named({"type": "message_stop"})]
    chunk = _head(body, "chat.completion.chunk")
    found: list[Event] = [
        (None, {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": plan.finish_reason}]})
    ]
    return [*found, (None, {**chunk, "choices": [], "usage": usage})] if asked else found


def encoded(event: Event) -> bytes:
    """An event on the wire."""
    name, data = event
    head = b"" if name is None else f"event: {name}\n".encode()
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"


def _named(data: dict[str, Json]) -> Event:
    return data["type"], data


def _head(body: Any, kind: str) -> dict[str, Json]:
    return {"id": "chatcmpl-fake", "object": kind, "created": 1_700_000_000, "model": body["model"]}


def _text_chunk(body: Any, text: str, finish: str | None) -> dict[str, Json]:
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": None}
    return {**_head(body, "text_completion"), "choices": [choice]}


def _message(body: Any) -> dict[str, Json]:
    return {
        "id": "msg_fake", "type": "message", "role": "assistant", "model": body["model"], "content": [],
        "stop_reason": None, "stop_sequence": None,
    }  # fmt: skip


def _response(body: Any, text: str, status: str, usage: Json) -> dict[str, Json]:
    part = {"type": "output_text", "text": text, "annotations": []}
    output = {"type": "message", "id": "msg_fake", "role": "assistant", "status": status, "content": [part]}
    return {
        "id": "resp_fake", "object": "response", "created_at": 1_700_000_000, "status": status, "model": body["model"],
        "output": [output] if text else [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": usage,
    }  # fmt: skip


def _detailed(tokens: dict[str, int]) -> dict[str, Json]:
    return {
        **tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": sum(tokens.values()),
    }
