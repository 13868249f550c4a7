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

HEAD = 1024  # bytes of the stream that are kept for a look at the answer's beginning
TAIL = 24  # last pieces that are kept to read how it ended; enough for [DONE] when they have one byte each
FIRST, LAST = 8, 6  # events that are read of what was kept
GONE = "the answer broke off before its end: ask again"


class Relay:
    """One stream. `collector` holds the message (whole when every event was read), usage and finish reason; `failed` is
    the error that the provider reported at the end of a stream that passed unread."""

    def __init__(
        self,
        event: Event,
        *,
        store: bool = False,
        sources: Sequence[Passage] | None = None,
        tools: frozenset[str] | None = None,
        one_call: bool = False,
    ) -> None:
        self._event = event
        self._sources = sources
        self._rewriter = Rewriter(tools, one_call=one_call)
        self._splitter = EventSplitter()
        self._done = False
        self._start: list[bytes] = []
        self._tail: deque[bytes] = deque(maxlen=TAIL)
        self.keep = self._tail.append
        self._error: PaddockError | None = None
        self.reads_all = store or sources is not None or tools is not None
        self.collector = Collector()
        self.failed: PaddockError | None = None

    async def opening(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The stream up to where it is known whether the rest has to be read (`reads_all`); the caller reads on.

        Then every further piece goes through `feed` when `reads_all`, else to `keep`; at the end comes `close`.
        Raises UpstreamError, ProviderUnavailable.
        """
        size = 0
        async for piece in pieces:
            if self.reads_all:
                out = self.feed(piece)
            elif self._event.first_token_ms is None:
                out = self._head(piece)
            else:
                out = piece
            if out:
                yield out
            if self._error is not None:
                raise self._error
            if self.reads_all:
                return
            self._start.append(out)
            if self._event.first_token_ms is not None:
                size += len(out)
                if size > HEAD:
                    return

    def feed(self, piece: bytes) -> bytes:
        """What the caller gets of a piece that is read; may be nothing."""
        return self._feed(self._splitter.feed(piece))

    def check(self) -> None:
        """Raise the error that came after what `feed` returned last."""
        if self._error is not None:
            raise self._error

    def close(self) -> bytes:
        """The provider has sent everything; returns what is still to be sent before ``[DONE]``. Raises
        ProviderUnavailable when that is not a whole answer."""
        last = b""
        if not self.reads_all:
            self._ended()
        elif self._splitter.rest.strip():  # a last event without the blank line after it
            last = self.feed(b"\n\n")
            self.check()
        if self.failed is None and not self._done and self.collector.finish_reason is None:
            raise ProviderUnavailable(GONE)
        return last

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

    def _ended(self) -> None:
        """Read what was kept of a stream that passed: the first events, and the last ones, which tell how it ended."""
        whole = b"".join((*self._start, *self._tail)).replace(b"\r\n", b"\n")
        first, *last = whole.rsplit(b"\n\n", LAST)
        for raw in (*first.split(b"\n\n", FIRST)[:FIRST], *last):
            text = data_of(raw)
            if text == b"[DONE]":
                self._done = True
            elif text:
                try:
                    self.collector.add(chunk_of(text))
                except UpstreamError as error:  # cut in two, unless it is an error that the provider reports
                    self._note(text, error)

    def _note(self, data: bytes, error: UpstreamError) -> None:
        if data.startswith((b'{"error"', b'{ "error"')):
            self.failed = error


def _joined(events: Sequence[bytes]) -> bytes:
    return b"".join([event + b"\n\n" for event in events])
