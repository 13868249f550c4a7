"""Boxes of lines on pages that were turned, and how sure a page is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from paddock.contracts.providers import Line, Word

Turn = Literal[0, 90, 180, 270]
Box = tuple[float, float, float, float]
Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]  # the corners of a line, from its upper left one clockwise


def confidence(lines: Sequence[Line]) -> float:
    """The mean over the characters."""
    total = sum(len(line.text) for line in lines)
    return sum(line.confidence * len(line.text) for line in lines) / total if total else 0.0


def unturned_line(line: Line, turn: Turn, width: int, height: int) -> Line:
    """Boxes of the turned page in the page as it was given (`width` and `height` are its own)."""
    return line if turn == 0 else _moved(line, lambda box: unturned(box, turn, width, height))


def shifted_line(line: Line, left: float, top: float, size: tuple[int, int]) -> Line:
    """Boxes of a part of a page, which begins at `left` and `top`, in the whole page of that size; none reaches beyond it."""

    def move(box: Box) -> Box:
        x1, x2 = (min(size[0], max(0.0, x + left)) for x in (box[0], box[2]))
        y1, y2 = (min(size[1], max(0.0, y + top)) for y in (box[1], box[3]))
        return x1, y1, x2, y2

    return _moved(line, move)


def _moved(line: Line, move: Callable[[Box], Box]) -> Line:
    words = [Word(text=one.text, confidence=one.confidence, box=move(one.box)) for one in line.words]
    return Line(text=line.text, confidence=line.confidence, box=move(line.box), words=words)


def level(quads: Sequence[Quad]) -> list[Box]:
    """The boxes that lines of a page that lies aslant would have on a straight one, by the slant of most of their length."""
    slant = _slant(quads)
    return [_levelled(quad, slant) for quad in quads]


def _slant(quads: Sequence[Quad]) -> float:
    """The median angle of the lines against the level, by their lengths, in radians clockwise."""
    angles = sorted((math.atan2(y2 - y1, x2 - x1), math.hypot(x2 - x1, y2 - y1)) for (x1, y1), (x2, y2), _, _ in quads)
    half = sum(length for _, length in angles) / 2
    for angle, length in angles:
        half -= length
        if half <= 0:
            return angle
    return 0.0


def _levelled(quad: Quad, slant: float) -> Box:
    sine, cosine = math.sin(-slant), math.cos(-slant)
    points = [(x * cosine - y * sine, x * sine + y * cosine) for x, y in quad]
    lefts, tops = zip(*points, strict=True)
    return min(lefts), min(tops), max(lefts), max(tops)


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
