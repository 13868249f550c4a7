"""What a reply says about tokens, read from its end without decoding what it says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

SMALL = 64 * 1024  # bytes of a body that are decoded; of a larger one only the end is looked at
END = 4096
TAIL = 16 * 1024

Tokens = dict[str, int | None]
_OBJECT = rb'(\{(?:[^{}"]|"[^"\\]*"|\{[^{}]*\})*\})'
_USAGE = re.compile(rb'"usage"\s*:\s*' + _OBJECT)
_TIMINGS = re.compile(rb'"timings"\s*:\s*' + _OBJECT)
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_DONE = re.compile(rb"data:\s*\[DONE\]")


class _Whole(msgspec.Struct):
    usage: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Whole).decode


def usage_of(body: bytes) -> Tokens | None:
    """The tokens of a whole reply; None when it does not tell."""
    if len(body) > SMALL:
        return usage_at_end(body[-END:])
    try:
        return tokens_of(_decode(body).usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def usage_at_end(tail: bytes) -> Tokens | None:
    """The tokens of a stream, from its last pieces: ``usage`` in any of the formats, or llama-server's ``timings``."""
    found = _last(_USAGE, tail)
    if found is not None:
        return tokens_of(found)
    timings = _last(_TIMINGS, tail)
    return None if timings is None else _tokens(timings.get("prompt_n"), timings.get("predicted_n"), None)


def _last(pattern: re.Pattern[bytes], tail: bytes) -> dict[str, Any] | None:
    text = None
    for match in pattern.finditer(tail[-TAIL:]):
        text = match[1]
    try:
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def tokens_of(usage: Mapping[str, Any] | None) -> Tokens | None:
    """Usage as the event log names it, from OpenAI's names or those of Anthropic and ``/v1/responses``."""
    if not usage:
        return None
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    return _tokens(prompt, usage.get("completion_tokens", usage.get("output_tokens")), usage.get("total_tokens"))


def _tokens(prompt: object, completion: object, total: object) -> Tokens:
    counts = [value if isinstance(value, int) and 0 <= value < 2**53 else None for value in (prompt, completion, total)]
    if counts[2] is None and (counts[0] is not None or counts[1] is not None):
        counts[2] = (counts[0] or 0) + (counts[1] or 0)
    return dict(zip(("prompt", "completion", "total"), counts, strict=True))


def is_whole(pieces: Iterable[bytes]) -> bool:
    """Whether the last pieces of a stream in OpenAI's chat format tell that the answer ended."""
    tail = b"".join(pieces)
    return _DONE.search(tail) is not None or _FINISHED.search(tail) is not None
