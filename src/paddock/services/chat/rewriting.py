"""Changing the events of a stream where they can't pass as they are: thinking and tool calls that stand in the text."""

from __future__ import annotations

from typing import Any

import msgspec

from paddock.services.chat.thinking import ThinkSplitter
from paddock.services.chat.toolprompt import CallSplitter
from paddock.services.chat.wire import Chunk, ChunkChoice


class Rewriter:
    """Rewrites the events of one stream. `tools` are the tools whose calls are to be read from the text, or None."""

    def __init__(self, tools: frozenset[str] | None, *, one_call: bool = False) -> None:
        self._tools = tools
        self._one = one_call
        self._thinking: dict[int, ThinkSplitter] = {}
        self._calls: dict[int, CallSplitter] = {}

    def apply(self, chunk: Chunk, data: bytes) -> bytes | None:
        """The event's data, changed if need be (`chunk` then too); None for an event that says nothing any more."""
        changed = False
        for choice in chunk.choices or ():
            changed = self._think(choice) or changed
            if self._tools is not None:
                changed = self._call(choice, self._tools) or changed
        return self._encoded(chunk, data) if changed else data

    def _think(self, choice: ChunkChoice) -> bool:
        splitter = self._thinking.setdefault(choice.index, ThinkSplitter())
        delta = choice.delta
        changed = False
        if delta.content and splitter.concerns(delta.content):
            thought, answer = splitter.feed(delta.content)
            delta.reasoning_content = ((delta.reasoning_content or "") + thought) or None
            delta.content = answer or None
            changed = True
        if choice.finish_reason:
            thought, answer = splitter.flush()
            if thought or answer:
                delta.reasoning_content = ((delta.reasoning_content or "") + thought) or None
                delta.content = ((delta.content or "") + answer) or None
                changed = True
        return changed

    def _call(self, choice: ChunkChoice, tools: frozenset[str]) -> bool:
        splitter = self._calls.setdefault(choice.index, CallSplitter(tools, one=self._one))
        delta = choice.delta
        before = delta.content
        if delta.content:
            delta.content = splitter.feed(delta.content) or None
        if choice.finish_reason:
            text, calls = splitter.flush()
            delta.content = ((delta.content or "") + text) or None
            if calls:
                delta.tool_calls = [{"index": number, **call} for number, call in enumerate(calls)]
                choice.finish_reason = "tool_calls"
                return True
        return delta.content != before

    def _encoded(self, chunk: Chunk, data: bytes) -> bytes | None:
        full: dict[str, Any] = msgspec.json.decode(data)
        says = bool(chunk.usage)
        for fields, choice in zip(full["choices"], chunk.choices or (), strict=True):
            delta = {
                name: value
                for name, value in (fields.get("delta") or {}).items()
                if name not in ("content", "tool_calls")
            }
            for name in ("reasoning_content", "content", "tool_calls"):
                value = getattr(choice.delta, name)
                if value is not None:
                    delta[name] = value
            fields["delta"], fields["finish_reason"] = delta, choice.finish_reason
            says = says or bool(delta) or choice.finish_reason is not None
        return msgspec.json.encode(full) if says else None
