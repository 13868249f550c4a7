"""The bytes of a request: naming the model otherwise without touching anything else.

A body is never decoded and encoded again, because that would change large numbers and the order of keys.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import msgspec

from paddock.errors import FieldError, ValidationFailed

LARGE = 256 * 1024  # bytes from which on looking through a body would hold up others
KEY = b'"model"'
# A letter of "model" may be written as an escape: the key of another name to those who only compare bytes.
ESCAPED = (b"\\u006", b"\\u004")
# What follows is walked by whole values, millions of bytes in one match; none of it gives back what it took.
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPEN = re.compile(rb"\s*+\{", re.DOTALL)
_KEY = re.compile(rb"[\s,]*+(" + _STRING + rb")\s*+:\s*+", re.DOTALL)
_PLAIN = re.compile(_STRING + rb"|[^\s,\[\]{}]++", re.DOTALL)  # a text, a number, true, false, null
_INSIDE = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb")*+", re.DOTALL)  # up to the next bracket


async def checked(body: bytes) -> None:
    """Refuse a body that names the model twice: two readers could take different ones. The body must be JSON, an object."""
    if len(body) < LARGE:
        check_one_model(body)
    else:
        await asyncio.to_thread(check_one_model, body)


async def named(body: bytes, model: str) -> bytes:
    """`renamed`, of a large body in a thread."""
    return renamed(body, model) if len(body) < LARGE else await asyncio.to_thread(renamed, body, model)


def check_one_model(body: bytes) -> None:
    """See `checked`."""
    if (body.count(KEY) > 1 or any(mark in body for mark in ESCAPED)) and len(list(_model_values(body))) > 1:
        raise ValidationFailed.of([FieldError("model", "stands in the body twice: name one")])


def renamed(body: bytes, model: str) -> bytes:
    """The body with another model. It must be JSON, an object with the one key ``model``."""
    start, end = _place(body)
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def _place(body: bytes) -> tuple[int, int]:
    return next(_model_values(body))


def _model_values(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the values of the outermost keys ``model`` stand that are strings."""
    opened = _OPEN.match(body)
    at = opened.end() if opened else len(body)
    while key := _KEY.match(body, at):
        start = key.end()
        at = _end(body, start)
        if _is_model(key[1]) and body.startswith(b'"', start):
            yield start, at


def _end(body: bytes, at: int) -> int:
    """The end of the value that begins there."""
    if plain := _PLAIN.match(body, at):
        return plain.end()
    depth = 0
    while True:
        depth += 1 if body[at] in b"[{" else -1
        at += 1
        if depth == 0:
            return at
        inside = _INSIDE.match(body, at)
        at = inside.end() if inside else at


def _is_model(key: bytes) -> bool:
    return key == KEY or (b"\\" in key and msgspec.json.decode(key) == "model")
