"""The parts of OpenAI's replies and events that paddock reads, and the cutting of a byte stream into events."""

from __future__ import annotations

from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.errors import ProviderUnavailable, UpstreamError

DONE = b"data: [DONE]\n\n"
MAX_EVENT = 16 * 1024 * 1024


class Delta(msgspec.Struct):
    """What an event adds to an answer."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Json]] | None = None

    @property
    def says_something(self) -> bool:
        """Whether the model has begun to answer."""
        return bool(self.content or self.reasoning_content or self.reasoning or self.tool_calls)


class ChunkChoice(msgspec.Struct):
    """One answer's part of an event."""

    index: int = 0
    delta: Delta = msgspec.field(default_factory=Delta)
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """An event of a stream."""

    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    choices: list[ChunkChoice] | None = None
    usage: dict[str, Json] | None = None
    error: Json = None


class Answer(msgspec.Struct):
    """The message of a whole reply."""

    content: str | list[dict[str, Json]] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[dict[str, Json]] | None = None


class AnswerChoice(msgspec.Struct):
    """One answer of a whole reply."""

    message: Answer
    index: int = 0
    finish_reason: str | None = None


class Completion(msgspec.Struct):
    """A whole reply."""

    choices: list[AnswerChoice]
    usage: dict[str, Json] | None = None


decode_chunk = msgspec.json.Decoder(Chunk).decode
decode_completion = msgspec.json.Decoder(Completion).decode


class EventSplitter:
    """Cuts a stream of server-sent events that arrives in pieces into whole events, without the blank line after each."""

    __slots__ = ("rest",)

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The events that are whole now. Raises ProviderUnavailable for one without end."""
        piece = self.rest + piece
        if b"\r" in piece:
            piece = piece.replace(b"\r\n", b"\n")
        events = piece.split(b"\n\n")
        self.rest = events.pop()
        if len(self.rest) > MAX_EVENT:
            raise ProviderUnavailable("the provider sends an event without end")
        return events


def data_of(event: bytes) -> bytes:
    """The data of an event; empty for comments that only keep the connection open."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
    return b"\n".join(lines)


def chunk_of(data: bytes) -> Chunk:
    """The data of an event as a chunk. Raises UpstreamError for an error that the provider reports, and for anything
    that is not OpenAI's format."""
    try:
        chunk = decode_chunk(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"the provider sent an event that is not in OpenAI's format: {error}", 502) from error
    if chunk.error is not None:
        raise reported(chunk.error)
    return chunk


def reported(error: Json) -> UpstreamError:
    """An error that the provider put into its stream."""
    fields: dict[str, Any] = error if isinstance(error, dict) else {"message": error}
    status, code, param = fields.get("code"), fields.get("code"), fields.get("param")
    return UpstreamError(
        str(fields.get("message") or "the provider reported an error without saying which")[:2000],
        status if isinstance(status, int) and 400 <= status < 600 else 502,
        type_=str(fields["type"]) if fields.get("type") else None,
        code=str(code) if code is not None else None,
        param=str(param) if param is not None else None,
    )


def tokens_of(usage: dict[str, Json] | None) -> dict[str, int | None] | None:
    """Usage as the event log names it; None when the provider did not count."""
    if not usage:
        return None
    names = {"prompt": "prompt_tokens", "completion": "completion_tokens", "total": "total_tokens"}
    return {name: value if isinstance(value := usage.get(key), int) else None for name, key in names.items()}


def reasoning_tokens(usage: dict[str, Json] | None) -> int | None:
    """How many tokens the model thought for, when the provider counts them."""
    details = (usage or {}).get("completion_tokens_details")
    count = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return count if isinstance(count, int) else None
