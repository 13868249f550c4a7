"""Boxes of lines on pages that were turned, and how sure a page is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from paddock.contracts.providers import Line, Word

Turn = Literal[0, 90, 180, 270]
Box = tuple[float, float, float, float]


def confidence(lines: Sequence[Line]) -> float:
    """The mean over the characters."""
    total = sum(len(line.text) for line in lines)
    return sum(line.confidence * len(line.text) for line in lines) / total if total else 0.0


def unturned_line(line: Line, turn: Turn, width: int, height: int) -> Line:
    """Boxes of the turned page in the page as it was given (`width` and `height` are its own)."""
    if turn == 0:
        return line
    words = [
        Word(text=one.text, confidence=one.confidence, box=unturned(one.box, turn, width, height)) for one in line.words
    ]
    return Line(text=line.text, confidence=line.confidence, box=unturned(line.box, turn, width, height), words=words)


def unturned(box: Box, turn: Turn, width: int, height: int) -> Box:
    """A box of a page that was turned clockwise, in the page before."""
    left, top, right, bottom = box
    if turn == 180:
        return width - right, height - bottom, width - left, height - top
    if turn == 90:
        return top, height - right, bottom, height - left
    if turn == 270:
        return width - bottom, left, width - top, right
    return box
