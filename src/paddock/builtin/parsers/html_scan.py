"""HTML to a flow of tags and text, in time linear in the input.

The standard library's html.parser takes minutes for a megabyte of unfinished tags on many Python releases in use; files
come from strangers, so this scanner never looks back.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MAX_ATTRIBUTES = 4000  # characters of one tag that are read
_QUOTED = 2000  # how far a quoted value with a ">" inside may reach

RAW = frozenset({"script", "style", "iframe", "noembed", "noframes", "xmp"})
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]{0,40}")
_ATTRIBUTE = re.compile(r"""(?<![\w-])([a-zA-Z][\w-]{0,40})\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""")
_LONG_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,};?")  # html.unescape would stumble over thousands of digits


class Tag(NamedTuple):
    """A start tag, or an end tag when `closing`; the name in lower case, the attributes not yet read."""

    name: str
    closing: bool
    raw: str

    def attributes(self) -> Mapping[str, str]:
        """Names in lower case to unescaped values."""
        found = _ATTRIBUTE.findall(self.raw[:MAX_ATTRIBUTES])
        return {name.lower(): unescape(text.strip("\"'")) for name, text in reversed(found)}


def unescape(text: str) -> str:
    """Character references to characters."""
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text


def scan(text: str) -> Iterator[Tag | str]:
    """Tags and unescaped text between them, without comments, declarations, scripts and styles."""
    at, length = 0, len(text)
    while at < length:
        opening = text.find("<", at)
        if opening < 0:
            opening = length
        if opening > at:
            yield unescape(text[at:opening])
        if opening == length:
            return
        at, found = _markup(text, opening)
        if found is None:
            continue
        yield found
        if isinstance(found, Tag) and found.name in RAW and not found.closing:
            closing = re.compile(f"</{found.name}", re.IGNORECASE).search(text, at)
            at = closing.start() if closing else length


def _markup(text: str, at: int) -> tuple[int, Tag | str | None]:
    """What stands at a ``<``, and where the flow goes on. What is never closed runs to the end, as in browsers."""
    if text.startswith("<!--", at):
        end = text.find("-->", at + 4)
        return (end + 3 if end >= 0 else len(text)), None
    if text.startswith(("<!", "<?"), at):
        end = text.find(">", at)
        return (end + 1 if end >= 0 else len(text)), None
    closing = text.startswith("</", at)
    name = _NAME.match(text, at + 1 + closing)
    if name is None:
        return at + 1, "<"
    end = _end_of_tag(text, name.end())
    if end < 0:
        return len(text), None
    return end + 1, Tag(name[0].lower(), closing, text[name.end() : end])


def _end_of_tag(text: str, at: int) -> int:
    """The place of the ``>`` that ends a tag; one inside a quoted value does not."""
    end = text.find(">", at)
    if end < 0:
        return end
    inside = text[at : min(end, at + MAX_ATTRIBUTES)]
    for quote in "\"'":
        if inside.count(quote) % 2 and (close := text.find(quote, end, end + _QUOTED)) > 0:
            further = text.find(">", close)
            return further if further >= 0 else end
    return end
