"""HeadingExtractor: which headings a chunk stands under, and which it holds."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from paddock.builtin.extractors.common import MAX_ITEMS, Memory, TextExtractor, readable, shorten
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, Section, TypeName

MAX_TITLE = 150

_MARKDOWN = re.compile(r"^ {0,3}(#{1,6})[ \t]+(\S[^\n]*)$", re.MULTILINE)


class HeadingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of HeadingExtractor. Deeper headings than `max_level`, and titles that are too short, don't count."""

    max_level: Annotated[int, msgspec.Meta(ge=1, le=6)] = 6
    include_hierarchy: bool = True
    extract_outline: bool = True
    min_heading_length: Annotated[int, msgspec.Meta(ge=1, le=1000, description="characters of a title")] = 3
    enabled: bool = True


class _Entry(NamedTuple):
    start: int
    end: int
    level: int
    title: str
    number: str  # "2.1"
    parent: int  # index, -1 at the top


class HeadingExtractor(TextExtractor):
    """The headings around and inside a chunk, from the document's sections, else from Markdown marks in the chunk.

    ``heading`` and ``heading_level`` of the innermost section in which the chunk begins (else of its first heading);
    ``headings`` that begin inside the chunk. Hierarchy: ``heading_path``, "Farm > Animals > Cows", and ``section_number``,
    "2.1". Outline: ``outline``, the chunk's part of the document's outline, one numbered line for each heading.
    """

    types = (TypeName("HeadingExtractor", HeadingConfig),)

    def __init__(self) -> None:
        self._memory: Memory[tuple[list[int], list[_Entry]]] = Memory()

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        if document.sections and chunk.start is not None:
            key = (config.max_level, config.min_heading_length)
            starts, entries = self._memory.get(document, key, lambda: _index(document.sections, config))
            end = chunk.end if chunk.end is not None else chunk.start + len(chunk.text)
            # White space before a heading belongs to the section before it; the chunk does not.
            begin = chunk.start + len(chunk.text) - len(chunk.text.lstrip())
            first = bisect_right(starts, begin) - 1
            inside = entries[bisect_left(starts, chunk.start) : bisect_left(starts, end)]
        else:
            entries = _index(_marked(text), config)[1]
            first, inside = 0 if entries and not text[: entries[0].start].strip() else -1, entries
        while first >= 0 and entries[first].end <= (chunk.start or 0):
            first = entries[first].parent
        around = entries[first] if first >= 0 else inside[0] if inside else None
        return {} if around is None else _describe(around, inside, entries, config)


def _describe(around: _Entry, inside: Sequence[_Entry], entries: Sequence[_Entry], config: Any) -> dict[str, Json]:
    found: dict[str, Json] = {"heading": around.title, "heading_level": around.level}
    if inside:
        found["headings"] = [entry.title for entry in inside[:MAX_ITEMS]]
    if config.include_hierarchy:
        path = [around]
        while path[-1].parent >= 0:
            path.append(entries[path[-1].parent])
        found["heading_path"] = " > ".join(entry.title for entry in reversed(path))
        found["section_number"] = around.number
    if config.extract_outline and inside:
        found["outline"] = "\n".join(f"{entry.number} {entry.title}" for entry in inside[:MAX_ITEMS])
    return found


def _index(sections: Iterable[Section], config: Any) -> tuple[list[int], list[_Entry]]:
    """Starts, and entries with number and parent, in order of their start."""
    entries: list[_Entry] = []
    open_: list[int] = []  # indexes of the sections around the next one
    children = [0]  # how many numbered so far, at each depth
    for section in sorted(sections, key=lambda item: item.start):
        title = shorten(" ".join(readable(section.title).split()), MAX_TITLE)
        if section.level > config.max_level or len(title) < config.min_heading_length:
            continue
        while open_ and entries[open_[-1]].level >= section.level:
            open_.pop()
        del children[len(open_) + 1 :]
        children[-1] += 1
        number = ".".join(map(str, children))
        entries.append(_Entry(section.start, section.end, section.level, title, number, open_[-1] if open_ else -1))
        open_.append(len(entries) - 1)
        children.append(0)
    return [entry.start for entry in entries], entries


def _marked(text: str) -> list[Section]:
    """The headings that the text itself marks, for files whose parser finds none."""
    found = [
        Section(level=len(mark[1]), title=mark[2].strip().rstrip("#").rstrip(), start=mark.start(), end=len(text))
        for mark in _MARKDOWN.finditer(text)
    ]
    return [section for section in found if section.title]
