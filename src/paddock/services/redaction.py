"""What may be kept of a request in the event log: everything bounded, no secrets, no bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

CLIP = 1000  # characters of one text
MAX_ITEMS = 30  # of one list or object
MAX_DEPTH = 6

_SECRET_KEY = re.compile(
    r"api_?-?key|authorization|password|passwd|secret|credential|cookie|(?:access|auth|bearer|refresh)_?-?token",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}|\b(?:hf|ghp|gho|xoxb)[_-][A-Za-z0-9-]{16,}"
    r"|\b(?:[Bb]earer|[Bb]asic) [A-Za-z0-9._~+/=-]{16,}"
)


# What stands in an encoded value, in lower case, that may need redaction. A search for each of them costs a fraction of
# what walking through the value costs.
_SUSPICIOUS = (
    b"key", b"auth", b"passw", b"secret", b"credential", b"cookie", b'token":', b"k-", b"hf", b"ghp", b"gho", b"xoxb",
    b"bearer", b"basic ", b'"data:',
)  # fmt: skip


def needs_redaction(encoded: bytes) -> bool:
    """Whether JSON may hold something that `redacted` would change for secrecy; wrong only towards yes."""
    lower = encoded.lower()
    return any([word in lower for word in _SUSPICIOUS])  # noqa: C419  a list is faster here


def clipped(text: str) -> str:
    """A text as it may be kept: cut, data URLs and things that look like credentials replaced."""
    if text.startswith("data:"):
        return f"<data of {len(text)} characters>"
    if len(text) > CLIP:
        text = f"{text[:CLIP]}… ({len(text) - CLIP} more characters)"
    return _SECRET_TEXT.sub("***", text)


def redacted(value: Any, depth: int = 0) -> Any:
    """Any value as it may be kept: bounded in every direction, without secrets and bytes. Never raises."""
    kind = type(value)
    if kind is str:
        return clipped(value)
    if value is None or kind is bool or kind is int or kind is float:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if depth >= MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        found = {
            str(key)[:100]: "***" if item is not None and _SECRET_KEY.search(str(key)) else redacted(item, depth + 1)
            for key, item in islice(value.items(), MAX_ITEMS)
        }
        return found if len(value) <= MAX_ITEMS else {**found, "…": f"{len(value) - MAX_ITEMS} more"}
    if isinstance(value, list | tuple):
        items = [redacted(item, depth + 1) for item in value[:MAX_ITEMS]]
        return items if len(value) <= MAX_ITEMS else [*items, f"… {len(value) - MAX_ITEMS} more"]
    return clipped(str(value))
