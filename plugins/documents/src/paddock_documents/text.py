"""Small work on text that the parsers share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from paddock.contracts.providers import Page

WRAPPED = 40  # a line at least this long, in characters, was broken by its margin, not by its author
MAX_TITLE = 300


def tidy(text: str) -> str:
    """No trailing blanks, no runs of blanks inside lines, no soft hyphens, at most one empty line in a row."""
    text = re.sub("[\u00ad\u200b\u2060\ufeff]", "", text)
    lines = [re.sub(r"(?<=\S)[ \t\u00a0]+(?=\S)", " ", line.rstrip()) for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def reflow(text: str) -> str:
    """Paragraphs as single lines: breaks that a margin made go, and words that they parted are joined."""
    parts: list[str] = []
    before = ""
    for line in text.split("\n"):
        wrapped = len(before) >= WRAPPED and bool(line.strip())
        if wrapped and line[:1].islower() and re.search(r"\w-$", before[-2:]):
            parts[-1] = parts[-1][:-1]
            parts.append(line)
        elif wrapped:
            parts += [" ", line.lstrip()]
        else:
            parts += ["\n", line] if parts else [line]
        before = line
    return "".join(parts)


def join_pages(pages: Iterable[tuple[int, str]]) -> tuple[str, list[Page]]:
    """The text of all pages that have some, and where each stands in it, in characters."""
    parts: list[str] = []
    found: list[Page] = []
    at = 0
    for number, text in pages:
        if not text.strip():
            continue
        found.append(Page(number, at, at + len(text)))
        parts.append(text)
        at += len(text) + 2
    return "\n\n".join(parts), found


def row_line(row: Sequence[str]) -> str:
    """A table's row as it stands in running text."""
    return " | ".join(" ".join(cell.split()) for cell in row)
