"""A streamed answer on its way from the provider to the caller.

When nothing has to be kept or changed, the provider's bytes pass unread but for their head (an error instead of an
answer, thinking in the text, the first token) and their tail (usage, how it ended). Otherwise every event is read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import msgspec

from paddock.contracts.providers import Passage
from paddock.errors import PaddockError, ProviderUnavailable, UpstreamError
from paddock.services.chat.collect import Collector
from paddock.services.chat.rewriting import Rewriter
from paddock.services.chat.thinking import ThinkSplitter
from paddock.services.chat.wire import Chunk, EventSplitter, chunk_of, data_of
from paddock.services.events import Event

HEAD = 4096  # bytes of the stream that are kept for a look at the answer's beginning
TAIL = 8  # last pieces that are kept to read how it ended
GONE = "the answer broke off before its end: ask again"


class Relay:
    """One stream. `collector` holds the message (whole when every event was read), usage and finish reason; `failed` is
    the error that the provider reported at the end of a stream that passed unread."""

    def __init__(
        self,
        event: Event,
        *,
        keep: bool = False,
        sources: Sequence[Passage] | None = None,
        tools: frozenset[str] | None = None,
        one_call: bool = False,
    ) -> None:
        self._event = event
        self._sources = sources
        self._rewriter = Rewriter(tools, one_call=one_call)
        self._splitter = EventSplitter()
        self._done = False
        self._error: PaddockError | None = None
        self.reads_all = keep or sources is not None or tools is not None
        self.collector = Collector()
        self.failed: PaddockError | None = None

    async def run(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """What the caller gets, but for the last ``[DONE]``. Raises UpstreamError, ProviderUnavailable."""
        if not self.reads_all:
            head: list[bytes] = []
            async for piece in pieces:
                out = self._head(piece)
                if out:
                    head.append(out)
                    yield out
                if self._error is not None:
                    raise self._error
                if self.reads_all or self._event.first_token_ms is not None:
                    break
            if not self.reads_all:
                size = 0
                async for piece in pieces:
                    head.append(piece)
                    yield piece
                    size += len(piece)
                    if size > HEAD:
                        break
                tail: deque[bytes] = deque(maxlen=TAIL)
                keep = tail.append
                async for piece in pieces:
                    keep(piece)
                    yield piece
                self._ended(b"".join((*head, *tail)))
                return
        async for piece in pieces:
            out = self._feed(self._splitter.feed(piece))
            if out:
                yield out
            if self._error is not None:
                raise self._error
        if not self._done and self.collector.finish_reason is None:
            raise ProviderUnavailable(GONE)

    @property
    def needs_done(self) -> bool:
        """Whether ``[DONE]`` is still to be sent."""
        return self.failed is None and (self.reads_all or not self._done)

    def _head(self, piece: bytes) -> bytes:
        """Pass what stands before the first word. The first word decides whether the rest is read."""
        events = self._splitter.feed(piece)
        for number, raw in enumerate(events):
            data = data_of(raw)
            if not data or data == b"[DONE]":
                continue
            chunk = chunk_of(data)
            if any(choice.delta.says_something for choice in chunk.choices or ()):
                self._event.first_token()
                texts = [choice.delta.content for choice in chunk.choices or () if choice.delta.content]
                if any(ThinkSplitter().concerns(text) for text in texts):
                    self.reads_all = True
                    return _joined(events[:number]) + self._feed(events[number:])
                return _joined(events) + self._splitter.rest
        return _joined(events)

    def _feed(self, events: list[bytes]) -> bytes:
        """Events that arrived together. What the model said before an error in one of them is not lost."""
        found: list[bytes] = []
        for raw in events:
            try:
                found.append(self._one(raw))
            except PaddockError as error:
                if self._event.first_token_ms is None:
                    raise
                self._error = error
                break
        return b"".join(found)

    def _one(self, raw: bytes) -> bytes:
        data = data_of(raw)
        if not data:
            return raw + b"\n\n"
        if data == b"[DONE]":
            self._done = True
            return b""
        chunk = chunk_of(data)
        if self._event.first_token_ms is None and any(choice.delta.says_something for choice in chunk.choices or ()):
            self._event.first_token()
        changed = self._rewriter.apply(chunk, data)
        self.collector.add(chunk)
        prefix = self._sources_event(chunk) if self._sources is not None else b""
        if changed is None:
            return prefix
        return prefix + (raw + b"\n\n" if changed is data else b"data: " + changed + b"\n\n")

    def _sources_event(self, first: Chunk) -> bytes:
        """The sources as a chunk of its own, which says nothing else and which every OpenAI client can read."""
        chunk = {
            "id": first.id,
            "object": "chat.completion.chunk",
            "created": first.created,
            "model": first.model,
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}],
            "sources": self._sources,
        }
        self._sources = None
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"

    def _ended(self, data: bytes) -> None:
        """Read what was kept of a stream that passed. Events at the seam of head and tail may be damaged."""
        events = data.replace(b"\r\n", b"\n").split(b"\n\n")
        for raw in events:
            text = data_of(raw)
            if text == b"[DONE]":
                self._done = True
            elif text:
                try:
                    self.collector.add(chunk_of(text))
                except UpstreamError as error:
                    self._note(text, error)
        if self.failed is None and not self._done and self.collector.finish_reason is None:
            raise ProviderUnavailable(GONE)

    def _note(self, data: bytes, error: UpstreamError) -> None:
        if data.startswith((b'{"error"', b'{ "error"')):
            self.failed = error


def _joined(events: Sequence[bytes]) -> bytes:
    return b"".join([event + b"\n\n" for event in events])
