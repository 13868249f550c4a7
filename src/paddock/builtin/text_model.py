"""A base for chat models that run in this process and yield text; OpenAI's shapes are made here.

A whole model::

    class Parrot(TextModel):
        types = (TypeName("parrot"),)

        async def reply(self, call):
            yield last_question(call.body)
"""

from __future__ import annotations

import re
import secrets
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Literal

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ChatModel, ModelInfo
from paddock.errors import BadRequest

Delta = dict[str, Json]
Usage = dict[str, Json]
Finish = Literal["stop", "length", "tool_calls"]

_TOKEN = re.compile(r"[\u2e80-\u9fff\uac00-\ud7af]|\w{1,6}|[^\w\s]")
MESSAGE_OVERHEAD = 4  # tokens for the role and the marks around a message


def estimate_tokens(text: str) -> int:
    """About how many tokens a usual tokenizer makes of a text: six letters, a sign or an ideograph count as one."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut_tokens(text: str, limit: int) -> str:
    """The beginning of a text, at most `limit` estimated tokens long."""
    for number, found in enumerate(_TOKEN.finditer(text)):
        if number == limit:
            return text[: found.start()].rstrip()
    return text


def text_of(content: Json) -> str:
    """The text of a message's content, which is a string, null, or a list of parts of which those of type text count."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadRequest("messages: the content of a message is a string or a list of parts")
    return "\n".join(
        part["text"] for part in content if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def messages_of(body: Mapping[str, Json]) -> list[dict[str, Json]]:
    """The messages. Raises BadRequest unless they are a list of objects."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise BadRequest("messages: a list of objects with role and content")
    return messages


def last_question(body: Mapping[str, Json]) -> str:
    """The text of the last message of the user, or an empty string."""
    asked = [message for message in messages_of(body) if message.get("role") == "user"]
    return text_of(asked[-1].get("content")) if asked else ""


class Bounds:
    """Cuts a text that comes in pieces at `max_tokens` and at the first of the `stops` (which is not shown)."""

    def __init__(self, stops: tuple[str, ...], max_tokens: int | None) -> None:
        self._stops = stops
        self._left = max_tokens
        self._held = ""
        self.tokens = 0
        self.finish: Finish | None = None

    def feed(self, text: str) -> str:
        """What may be shown after this piece; the beginning of a possible stop is held back."""
        self._held += text
        at = min((found for stop in self._stops if (found := self._held.find(stop)) >= 0), default=-1)
        if at >= 0:
            shown, self._held = self._held[:at], ""
            shown = self._count(shown)
            self.finish = self.finish or "stop"
            return shown
        keep = max(
            (size for stop in self._stops for size in range(1, len(stop)) if self._held.endswith(stop[:size])),
            default=0,
        )
        split = len(self._held) - keep
        shown, self._held = self._held[:split], self._held[split:]
        return self._count(shown)

    def flush(self) -> str:
        """What was held back, at the end."""
        shown, self._held = self._held, ""
        return self._count(shown)

    def _count(self, text: str) -> str:
        size = estimate_tokens(text)
        if self._left is not None and size > self._left - self.tokens:
            text = cut_tokens(text, self._left - self.tokens)
            size = self._left - self.tokens
            self.finish = "length"
        self.tokens += size
        return text


class TextModel(ChatModel):
    """Authors write `reply`. Streaming, usage (estimated), ``max_tokens``, ``stop`` and ``stream_options`` are done here.

    Sampling fields that can't change the reply of such a model (temperature, top_p, seed, user …) are accepted. What
    would have to change it, and can't, is refused by name: tools, response_format, n > 1, logprobs, reasoning.
    """

    refused: ClassVar[Mapping[str, Callable[[Any], bool]]] = {
        "tools": bool,
        "functions": bool,
        "tool_choice": lambda value: value not in ("none", "auto"),
        "response_format": lambda value: value != {"type": "text"},
        "n": lambda value: value != 1,
        "logprobs": bool,
        "logit_bias": bool,
        "modalities": lambda value: value != ["text"],
        "audio": bool,
        "reasoning_effort": lambda value: value != "none",
    }

    @abstractmethod
    def reply(self, call: ChatCall) -> AsyncIterator[str]:
        """Yield the answer's text in pieces of any size. Raise before the first piece what the caller should see."""

    async def deltas(self, call: ChatCall) -> AsyncIterator[Delta]:
        """Yield OpenAI's deltas; for models that have more to say than text (reasoning_content, tool_calls)."""
        async with aclosing(self.reply(call)) as pieces:  # type: ignore[type-var]  # implementations are generators
            async for text in pieces:
                yield {"content": text}

    async def models(self) -> list[ModelInfo]:
        """One model, named like the type."""
        return [ModelInfo(id=self.name, owned_by="paddock")]

    def usage(self, call: ChatCall, estimated: Usage) -> Usage:  # noqa: ARG002  for models that know better
        """The usage to report; here as estimated, because there is no tokenizer in such a model."""
        return estimated

    def check(self, call: ChatCall) -> None:
        """Raise BadRequest naming the field that this model can't honour."""
        for field, unfit in self.refused.items():
            value = call.body.get(field)
            if value is not None and unfit(value):
                raise BadRequest(
                    f"{field}: the model {self.name} can't do this; leave the field out or ask another model"
                )
        for field in sorted(call.options):
            if call.options[field] is not None:
                raise BadRequest(f"{field}: the model {self.name} has no such option; leave it out")
        if call.think:
            raise BadRequest(f"think: the model {self.name} does not reason; leave the field out or ask another model")

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        """See `ChatModel.chat`."""
        self.check(call)
        answer = _Answer(call, self.usage)
        async with aclosing(self._bounded(call, answer)) as deltas:
            if not call.stream:
                async for delta in deltas:
                    answer.add(delta)
                yield msgspec.json.encode(answer.whole())
                return
            first = await anext(deltas, None)
            yield answer.event({"role": "assistant", "content": "", **(first or {})})
            async for delta in deltas:
                yield answer.event(delta)
        yield answer.event({}, answer.finish)
        if answer.include_usage:
            yield answer.usage_event()
        yield b"data: [DONE]\n\n"

    async def _bounded(self, call: ChatCall, answer: _Answer) -> AsyncGenerator[Delta, None]:
        """The deltas, their text cut where the caller wants it to end."""
        bounds = answer.bounds
        async with aclosing(self.deltas(call)) as deltas:  # type: ignore[type-var]  # implementations are generators
            async for delta in deltas:
                if "tool_calls" in delta:
                    answer.calls_tools = True
                text = delta.get("content")
                shown = bounds.feed(text) if text else ""
                rest = {name: value for name, value in delta.items() if name != "content"}
                if shown or rest:
                    yield {**rest, "content": shown} if shown else rest
                if bounds.finish is not None:
                    return
        if shown := bounds.flush():
            yield {"content": shown}


class _Answer:
    """What the replies of one call have in common, and what was said so far."""

    def __init__(self, call: ChatCall, usage: Callable[[ChatCall, Usage], Usage]) -> None:
        body = call.body
        self._call = call
        self._usage = usage
        self._head = {
            "id": f"chatcmpl-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": body.get("model", ""),
        }
        self._prompt_tokens = sum(
            MESSAGE_OVERHEAD + estimate_tokens(text_of(message.get("content"))) for message in messages_of(body)
        )
        self._message: dict[str, Json] = {"role": "assistant", "content": ""}
        self.bounds = Bounds(_stops(body.get("stop")), _limit(body))
        self.calls_tools = False
        self._reasoning_tokens = 0
        options = body.get("stream_options") or {}
        self.include_usage = isinstance(options, dict) and bool(options.get("include_usage"))

    @property
    def finish(self) -> Finish:
        """Why the answer ended."""
        return self.bounds.finish or ("tool_calls" if self.calls_tools else "stop")

    def usage(self) -> Usage:
        """What the model says of the estimate."""
        asked, done = self._prompt_tokens, self.bounds.tokens + self._reasoning_tokens
        estimated = {"prompt_tokens": asked, "completion_tokens": done, "total_tokens": asked + done}
        return self._usage(self._call, estimated)

    def add(self, delta: Delta) -> None:
        """Put a delta into the whole message."""
        self._note(delta)
        for name, value in delta.items():
            if name == "tool_calls":
                calls = self._message.setdefault("tool_calls", [])
                for call in value:
                    _merge_call(calls, call)
            elif isinstance(value, str) and name != "role":
                self._message[name] = self._message.get(name, "") + value

    def whole(self) -> dict[str, Json]:
        """The reply without streaming."""
        message = self._message
        if self.calls_tools and not message["content"]:
            message["content"] = None
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return {"object": "chat.completion", **self._head, "choices": [choice], "usage": self.usage()}

    def event(self, delta: Delta, finish: Finish | None = None) -> bytes:
        """One event of a stream."""
        self._note(delta)
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return self._event([choice], None)

    def usage_event(self) -> bytes:
        """The event without choices that tells the usage."""
        return self._event([], self.usage())

    def _event(self, choices: list[Json], usage: Json) -> bytes:
        chunk = {"object": "chat.completion.chunk", **self._head, "choices": choices}
        if self.include_usage:
            chunk["usage"] = usage
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"

    def _note(self, delta: Delta) -> None:
        reasoning = delta.get("reasoning_content")
        if reasoning:
            self._reasoning_tokens += estimate_tokens(reasoning)


def _merge_call(calls: list[dict[str, Json]], delta: dict[str, Json]) -> None:
    """Add a piece of a tool call: the head names id, type and function, later pieces add to the arguments."""
    index = delta["index"]
    while len(calls) <= index:
        calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call = calls[index]
    call.update({name: value for name, value in delta.items() if name in ("id", "type")})
    function = delta.get("function", {})
    call["function"]["name"] += function.get("name", "")
    call["function"]["arguments"] += function.get("arguments", "")


def _stops(stop: Json) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or len(stops) > 16 or not all(isinstance(one, str) and one for one in stops):
        raise BadRequest("stop: a text, or a list of at most 16 texts, none of them empty")
    return tuple(stops)


def _limit(body: Mapping[str, Json]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        limit = body.get(name)
        if limit is not None:
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise BadRequest(f"{name}: a whole number of at least 1")
            return limit
    return None
