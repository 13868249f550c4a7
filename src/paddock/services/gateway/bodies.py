"""The bytes of a request: naming the model otherwise without touching anything else.

A body is never decoded and encoded again, because that would change large numbers and the order of keys.
"""

from __future__ import annotations

import re

import msgspec

from paddock.errors import FieldError, ValidationFailed

KEY = b'"model"'
# A letter of "model" may be written as an escape: the key of another name to those who only compare bytes.
ESCAPED = (b"\\u006", b"\\u004")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)
_FIRST = re.compile(rb'\s*\{\s*"model"\s*:\s*("(?:[^"\\]|\\.)*")', re.DOTALL)


def check_one_model(body: bytes) -> None:
    """Refuse a body that names the model twice: two readers could take different ones. The body must be JSON, an object."""
    if (body.count(KEY) > 1 or any(mark in body for mark in ESCAPED)) and len(_model_values(body)) > 1:
        raise ValidationFailed.of([FieldError("model", "stands in the body twice: name one")])


def renamed(body: bytes, model: str) -> bytes:
    """The body with another model. It must be JSON, an object with the one key ``model``."""
    start, end = _place(body)
    return b"".join((body[:start], msgspec.json.encode(model), body[end:]))


def _place(body: bytes) -> tuple[int, int]:
    first = _FIRST.match(body)
    return first.span(1) if first else _model_values(body)[0]


def _model_values(body: bytes) -> list[tuple[int, int]]:
    """Where the values of the outermost keys ``model`` stand that are strings."""
    found: list[tuple[int, int]] = []
    depth = 0
    key: bytes | None = None  # the last string at depth 1, a key when a colon follows
    expects_value = False
    for token in _TOKENS.finditer(body):
        text = token[0]
        if text in b"{[":
            depth += 1
        elif text in b"}]":
            depth -= 1
        if depth != 1:
            expects_value = False
        elif text == b":":
            expects_value = key is not None and _is_model(key)
        elif text[:1] == b'"':
            if expects_value:
                found.append(token.span())
            key, expects_value = text, False
        elif text == b",":
            key, expects_value = None, False
    return found


def _is_model(key: bytes) -> bool:
    return key == KEY or (b"\\" in key and msgspec.json.decode(key) == "model")
