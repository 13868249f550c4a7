"""The message that the events of a stream add up to."""

from __future__ import annotations

import msgspec

from paddock.contracts.base import Json
from paddock.services.chat.wire import Chunk, Delta

Message = dict[str, Json]


class Collector:
    """Collects the first answer of a stream, its end and the usage."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: dict[int, dict[str, Json]] = {}
        self.finish_reason: str | None = None
        self.usage: dict[str, Json] | None = None

    def add(self, chunk: Chunk) -> None:
        """Take an event."""
        self.usage = chunk.usage or self.usage
        for choice in chunk.choices or ():
            if choice.index == 0:
                self.finish_reason = choice.finish_reason or self.finish_reason
                self.add_delta(choice.delta)

    def add_delta(self, delta: Delta) -> None:
        """Take what an event adds to the answer."""
        if delta.content:
            self._texts.append(delta.content)
        for part in delta.tool_calls or ():
            self._add_call(part)

    def _add_call(self, part: dict[str, Json]) -> None:
        index = part.get("index")
        number = index if isinstance(index, int) else len(self._calls)
        function = part.get("function")
        function = function if isinstance(function, dict) else {}
        known = self._calls.get(number)
        if known is None:
            fields = {name: _text(function.get(name)) for name in ("name", "arguments")}
            rest = {key: value for key, value in part.items() if key not in ("index", "function")}
            self._calls[number] = {**rest, "function": fields}
            return
        for name in ("name", "arguments"):
            known["function"][name] += _text(function.get(name))
        known.update({key: value for key, value in part.items() if key in ("id", "type") and value})

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._texts)

    def message(self) -> Message:
        """The assistant's message, without its reasoning."""
        found: Message = {"role": "assistant", "content": self.text or (None if self._calls else "")}
        if self._calls:
            found["tool_calls"] = [self._calls[number] for number in sorted(self._calls)]
        return found


def _text(value: Json) -> str:
    # Some servers send the arguments as an object, though OpenAI's format has them as JSON text.
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
