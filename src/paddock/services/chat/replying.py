"""The reply without streaming: what it says, and what is added to it (thinking, tool calls, sources)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from paddock.builtin.text_model import text_of
from paddock.contracts.base import Json
from paddock.contracts.providers import Passage
from paddock.errors import UpstreamError
from paddock.services.chat.thinking import OPEN, split_thinking
from paddock.services.chat.toolprompt import read_calls
from paddock.services.chat.wire import AnswerChoice, Completion, decode_completion, reasoning_tokens, reported

Message = dict[str, Json]


class Replied(msgspec.Struct, kw_only=True):
    """A reply to send, and what is kept of it. `message` has no reasoning."""

    body: bytes
    message: Message
    finish_reason: str | None
    usage: dict[str, Json] | None


def replied(
    body: bytes, *, sources: Sequence[Passage] | None, tools: frozenset[str] | None, one_call: bool = False
) -> Replied:
    """Read a provider's reply and change what has to be changed; else its bytes stay as they are.

    Raises UpstreamError for a reply that is not in OpenAI's format, or is an error in spite of its status.
    """
    completion = _decoded(body)
    thoughts = [_read(choice, tools, one_call=one_call) for choice in completion.choices]
    first = completion.choices[0]
    changed = any(rewritten for _, rewritten in thoughts) or bool(thoughts[0][0])
    if changed or sources is not None:
        body = _changed(body, completion, thoughts, sources)
    message: Message = {"role": "assistant", "content": text_of(first.message.content) or None}
    if first.message.tool_calls:
        message["tool_calls"] = first.message.tool_calls
    elif message["content"] is None:
        message["content"] = ""
    return Replied(body=body, message=message, finish_reason=first.finish_reason, usage=completion.usage)


def _decoded(body: bytes) -> Completion:
    try:
        completion = decode_completion(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(body, str(error)) from error
    if not completion.choices:
        raise UpstreamError("the provider's reply has no choices: it did not answer", 502)
    return completion


def _unreadable(body: bytes, reason: str) -> UpstreamError:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = None
    if isinstance(value, dict) and value.get("error"):
        return reported(value["error"])
    return UpstreamError(f"the provider's reply is not in OpenAI's format: {reason}", 502)


def _read(choice: AnswerChoice, tools: frozenset[str] | None, *, one_call: bool) -> tuple[str, bool]:
    """The reasoning of an answer, and whether its message was changed to take reasoning or tool calls out of the text."""
    message = choice.message
    thought = message.reasoning_content or message.reasoning or ""
    changed = False
    if isinstance(message.content, str):
        if message.content.lstrip().startswith(OPEN):
            found, message.content = split_thinking(message.content)
            thought = message.reasoning_content = thought + found
            changed = True
        if tools is not None:
            message.content, calls = read_calls(message.content, tools, one=one_call)
            if calls:
                message.tool_calls, choice.finish_reason, changed = calls, "tool_calls", True
    return thought, changed


def _changed(
    body: bytes,
    completion: Completion,
    thoughts: Sequence[tuple[str, bool]],
    sources: Sequence[Passage] | None,
) -> bytes:
    full: dict[str, Any] = msgspec.json.decode(body)
    for fields, choice, (_, rewritten) in zip(full["choices"], completion.choices, thoughts, strict=True):
        if not rewritten:
            continue
        fields["message"]["content"] = choice.message.content or (None if choice.message.tool_calls else "")
        for name in ("reasoning_content", "tool_calls"):
            value = getattr(choice.message, name)
            if value:
                fields["message"][name] = value
        fields["finish_reason"] = choice.finish_reason
    if thoughts[0][0]:
        full["thinking"] = {"content": thoughts[0][0], "tokens": reasoning_tokens(completion.usage)}
    if sources is not None:
        full["sources"] = sources
    return msgspec.json.encode(full)
