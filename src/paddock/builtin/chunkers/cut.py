"""Cutting text into spans at the best boundary that fits, and the overlap between them.

A span is ``(start, end)`` in characters.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence

Span = tuple[int, int]
Level = re.Pattern[str]  # its matches end where a new unit may begin

PARAGRAPHS: Level = re.compile(r"\n[^\S\n]*\n\s*")
# A full stop ends a sentence unless it follows an initial or a common title, or small letters go on behind it. The
# pattern begins with a plain set of characters, because that is what the regex engine skips to quickly.
SENTENCES: Level = re.compile(
    r"[.!?…。！？\n](?:(?<=\n)[^\S\n]*\n\s*|(?<=[。！？])[。！？]*|"  # noqa: RUF001  full-width marks end sentences too
    r"(?<=[.!?…])(?<!\b[A-Z]\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bMrs\.)(?<!\bvs\.)(?<!\bcf\.)(?<!\bNo\.)"
    r"(?<!\bFig\.)(?<!\bProf\.)[\"'”’»)\]]{0,4}\s+(?=[^a-z\s]))"  # noqa: RUF001  and curly quotes close them
)
LINES: Level = re.compile(r"\n")
BLOCKS: Level = re.compile(r"\n(?:[^\S\n]*\n)+(?=[^\s)\]}])")  # code at the first column after an empty line
_SPACE = re.compile(r"\s")
_JOINERS = "\u200d\ufe0e\ufe0f"
_LONGEST_CLUSTER = 32
_AHEAD = 64  # characters behind a chunk's end that a pattern may look at


def pack(text: str, region: Span, size: int, levels: Sequence[Level]) -> Iterator[Span]:
    """Spans of at most `size` characters that fill the region, each as long as the boundaries allow.

    The first level that has a boundary in reach decides; without any, the text is cut between words, and inside a word
    only when it alone is longer than `size`. A unit of the first level that fits is never cut.
    """
    begin, stop = region
    while stop - begin > size:
        cut = _last_boundary(text, begin, begin + size, levels) or word_cut(text, begin, begin + size, begin)
        yield begin, cut
        begin = cut
    if begin < stop:
        yield begin, stop


def _last_boundary(text: str, begin: int, reach: int, levels: Sequence[Level]) -> int | None:
    """The last boundary behind `begin` and not behind `reach`, of the first level that has one."""
    for level in levels:
        for low in (reach - (reach - begin) // 4, begin):  # most often the last quarter has one
            place = _last_match(level, text, low, reach)
            if place > begin:
                return place
    return None


def _last_match(level: Level, text: str, low: int, reach: int) -> int:
    place = 0
    for match in level.finditer(text, low, reach + _AHEAD):
        if match.end() > reach:
            break
        place = match.end()
    return place


def word_cut(text: str, begin: int, reach: int, earliest: int) -> int:
    """The place behind the last blank in ``text[earliest:reach + 1]``, else `reach`, not inside a visible character."""
    blank = max(text.rfind(space, earliest, reach + 1) for space in " \n\t")
    if blank > begin:
        return min(blank + 1, reach)
    cut = reach
    while cut > max(begin + 1, reach - _LONGEST_CLUSTER) and _joined(text, cut):
        cut -= 1
    return cut


def _joined(text: str, at: int) -> bool:
    return at < len(text) and (
        unicodedata.combining(text[at]) > 0 or text[at] in _JOINERS or text[at - 1] == _JOINERS[0]
    )


def trim(text: str, span: Span, *, indent: bool = False) -> Span | None:
    """The span without blanks around it, None when nothing is left; `indent` keeps those before the first word's line."""
    piece = text[span[0] : span[1]]
    bare = piece.rstrip()
    if not bare:
        return None
    left = len(bare) - len(bare.lstrip())
    if indent:
        left = bare.rfind("\n", 0, left) + 1
    return span[0] + left, span[0] + len(bare)


def reach_back(text: str, start: int, overlap: int, floor: int) -> int:
    """Where a span starts that repeats up to `overlap` characters before `start`, whole words where there are blanks."""
    early = max(floor, start - overlap)
    if early == 0 or early >= start or text[early - 1].isspace():
        return min(early, start)
    blank = _SPACE.search(text, early, start)
    return blank.end() if blank and blank.end() < start else early


class Places:
    """The number of the page for an offset, by bisection: documents have thousands of pages and chunks."""

    def __init__(self, spans: Sequence[tuple[int, int, int]]) -> None:
        self._spans = sorted((start, end, number) for number, start, end in spans)
        self._starts = [start for start, _, _ in self._spans]

    def at(self, offset: int) -> int | None:
        """The number whose span holds the offset, or None."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0 or offset >= self._spans[index][1]:
            return None
        return self._spans[index][2]
