"""The kit for chat models: the scriptable fake `EchoModel`, and the conformance suites.

A provider's whole test file::

    class TestParrot(ChatModelSuite):
        @pytest.fixture
        def model(self):
            return Parrot()

A provider that talks to an upstream runs `UpstreamChatSuite` instead, with a fixture `upstream` (a `FakeUpstream`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from paddock.builtin.text_model import Delta, TextModel, Usage, last_question
from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ModelInfo, TypeName
from paddock.errors import ModelNotFound, PaddockError
from paddock.testing.chat_suite import (
    ChatModelSuite,
    UpstreamChatSuite,
    collect,
    content_of,
    make_call,
    sse_events,
)

__all__ = [
    "ChatModelSuite",
    "EchoModel",
    "Say",
    "UpstreamChatSuite",
    "collect",
    "content_of",
    "make_call",
    "sse_events",
]


@dataclass(kw_only=True)
class Say:
    """What to answer once. `error` is raised before the first piece, or after `error_after` pieces of text. `hold` is
    waited for before the first piece, `hold_after` pieces of text are sent before waiting for ever."""

    texts: Sequence[str] = ()
    reasoning: Sequence[str] = ()
    tool_calls: Sequence[Mapping[str, Json]] = ()
    usage: Mapping[str, int] | None = None
    error: PaddockError | None = None
    error_after: int = 0
    hold: asyncio.Event | None = None
    hold_after: int | None = None


class EchoModel(TextModel):
    """Type ``echo``: says what `script` holds, one `Say` (or text) a call; when it is empty, the last question.

    `calls` are the calls it got, `started` is set by each call, and `gone` when one was closed before its end. Models
    outside `known` (if given) are not found. It takes every field, and so can stand for a model with tools and reasoning.
    """

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("echo"),)

    def __init__(self, script: Sequence[Say | str] = (), *, known: Sequence[str] | None = None) -> None:
        self.script = deque(script)
        self.known = known
        self.calls: list[ChatCall] = []
        self.started = asyncio.Event()
        self.gone = asyncio.Event()
        self._said: list[tuple[ChatCall, Say]] = []

    def check(self, call: ChatCall) -> None:
        """Everything goes."""

    async def models(self) -> list[ModelInfo]:
        """The known ones, or one called echo."""
        return [ModelInfo(id=name, owned_by="paddock") for name in self.known or ("echo",)]

    def usage(self, call: ChatCall, estimated: Usage) -> Usage:
        """As scripted, else estimated."""
        said = next(say for other, say in reversed(self._said) if other is call)
        return estimated if said.usage is None else dict(said.usage)

    async def reply(self, call: ChatCall) -> AsyncIterator[str]:
        """Only the texts of `deltas`."""
        async for delta in self.deltas(call):
            if "content" in delta:
                yield delta["content"]

    async def deltas(self, call: ChatCall) -> AsyncIterator[Delta]:
        """The script's next entry."""
        say = self._next(call)
        try:
            if say.error is not None and not say.error_after:
                raise say.error
            if say.hold is not None:
                await say.hold.wait()
            for text in say.reasoning:
                yield {"reasoning_content": text}
            async for text in self._texts(say):
                yield {"content": text}
            for index, tool_call in enumerate(say.tool_calls):
                yield {"tool_calls": [{"index": index, **tool_call}]}
        except (asyncio.CancelledError, GeneratorExit):
            self.gone.set()
            raise

    async def _texts(self, say: Say) -> AsyncIterator[str]:
        for number, text in enumerate(say.texts):
            if say.error is not None and number == say.error_after:
                raise say.error
            if number == say.hold_after:
                await asyncio.Event().wait()
            yield text

    def _next(self, call: ChatCall) -> Say:
        self.calls.append(call)
        self.started.set()
        model = call.body.get("model")
        if self.known is not None and model not in self.known:
            raise ModelNotFound(f"there is no model {model!r}; known: {', '.join(self.known)}")
        say = self.script.popleft() if self.script else last_question(call.body)
        if isinstance(say, str):
            say = Say(texts=[say])
        self._said.append((call, say))
        return say
