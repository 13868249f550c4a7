"""From headings to sections: each ends where the next one of its level, or of a higher one, begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paddock.contracts.providers import Section

MAX_TITLE = 300


class Heading(NamedTuple):
    """A heading's level (1 to 6), title, and first character in the text."""

    level: int
    title: str
    start: int


def close_sections(headings: Sequence[Heading], length: int) -> list[Section]:
    """Sections in order of their start; a section holds its subsections. `length` is that of the whole text."""
    ends = [length] * len(headings)
    open_: list[int] = []
    for index, heading in enumerate(headings):
        while open_ and headings[open_[-1]].level >= heading.level:
            ends[open_.pop()] = heading.start
        open_.append(index)
    return [
        Section(level=heading.level, title=heading.title[:MAX_TITLE], start=heading.start, end=end)
        for heading, end in zip(headings, ends, strict=True)
    ]
