"""In the helper: whether tall boxes are columns of upright characters, as Chinese and Japanese are written, or lines of a page
that was turned. A recogniser reads both from the same picture of a line that lies on its side, so that its text alone
does not tell; but only the characters of a column can be laid side by side one by one and read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np

ASKED = 3  # lines, the longest ones
ALIKE = 0.6  # how much of its text a column says again
LEAST = 4  # characters of a line that can tell anything


def are_columns(crops: Sequence[Any], read: Callable[[Any], str]) -> bool:
    """Whether most of the longest lines are columns. `crops` are tall boxes, turned on their side counter-clockwise."""
    longest = sorted(crops, key=lambda crop: -crop.shape[1])[:ASKED]
    votes = [_is_column(crop, read) for crop in longest]
    return sum(votes) * 2 > len(votes)


def _is_column(crop: Any, read: Callable[[Any], str]) -> bool:
    text = _bare(read(crop))
    again = _bare(read(_side_by_side(np.rot90(crop, -1))))
    return len(text) >= LEAST and SequenceMatcher(None, text, again, autojunk=False).ratio() >= ALIKE


def _bare(text: str) -> str:
    return "".join(text.split())


def _side_by_side(column: Any) -> Any:
    """The characters of a column from left to right. They are about as tall as it is wide; it is cut where least ink is."""
    height, width = column.shape[:2]
    ink = column.std(axis=(1, 2))
    about = height / width
    counts = range(max(1, int(about * 0.7)), int(about * 1.2) + 2)
    count = min(counts, key=lambda number: _ink_at_cuts(ink, number))
    return np.hstack(np.array_split(column[: height - height % count], count))


def _ink_at_cuts(ink: Any, count: int) -> float:
    cuts = np.linspace(0, len(ink) - 1, count + 1).astype(int)[1:-1]
    return float(ink[cuts].mean()) if len(cuts) else float(ink.max())
