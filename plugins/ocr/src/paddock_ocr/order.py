"""Lines of a page in the order in which people read them: columns from left to right, rows from top to bottom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

import msgspec

from paddock.contracts.providers import Line
from paddock_ocr.boxes import Box

DEPTH = 60  # cuts within cuts; a page that needs more is read row by row
COLUMN_WIDTH = 6  # line heights: narrower things side by side are cells of a table, read row by row
COLUMN_LINES = 2

Row = list[Line]


def rows(lines: Sequence[Line]) -> list[Row]:
    """The lines grouped into rows, top to bottom within a column, each from left to right."""
    return list(_ordered(list(lines), DEPTH))


def arranged(lines: Sequence[Line], boxes: Sequence[Box]) -> list[Row]:
    """The rows of `lines` as they would be if these stood in `boxes`."""
    moved = [msgspec.structs.replace(line, box=box) for line, box in zip(lines, boxes, strict=True)]
    own = {id(one): line for one, line in zip(moved, lines, strict=True)}
    return [[own[id(one)] for one in row] for row in rows(moved)]


def from_right(lines: Sequence[Line]) -> list[Row]:
    """Rows of a page whose tall lines are columns, read from top to bottom, the first at the right. Wide lines above the middle
    of the columns, such as a title, come first, the others last."""
    tall = [line for line in lines if _height(line) > line.box[2] - line.box[0]]
    if not tall:
        return rows(lines)
    columns = arranged(tall, [_on_its_side(line.box) for line in tall])
    middle = median(line.box[1] + line.box[3] for line in tall)
    wide = [line for line in lines if line not in tall]
    above = [line for line in wide if line.box[1] + line.box[3] < middle]
    return [*rows(above), *columns, *rows([line for line in wide if line not in above])]


def _on_its_side(box: Box) -> Box:
    left, top, right, bottom = box
    return top, -right, bottom, -left


def joined(ordered: Sequence[Row]) -> str:
    """The text: rows as lines, an empty line where the page leaves more room, or goes on in another column."""
    parts: list[str] = []
    before: Row | None = None
    for row in ordered:
        if before is not None:
            parts.append("\n\n" if _apart(before, row) else "\n")
        parts.append(" ".join(line.text for line in row))
        before = row
    return "".join(parts)


def _apart(before: Row, row: Row) -> bool:
    gap = min(line.box[1] for line in row) - max(line.box[3] for line in before)
    height = median(_height(line) for line in (*before, *row))
    return gap > 0.9 * height or gap < -2 * height


def _height(line: Line) -> float:
    return max(1.0, line.box[3] - line.box[1])


def _ordered(lines: Row, depth: int) -> Iterator[Row]:
    if len(lines) < 2 * COLUMN_LINES or depth == 0 or not _side_by_side(lines):
        yield from _by_rows(lines)
        return
    cut = _columns(lines) or _bands(lines)
    if cut is None:
        yield from _by_rows(lines)
        return
    for part in cut:
        yield from _ordered(part, depth - 1)


def _side_by_side(lines: Row) -> bool:
    """Whether anything stands beside something else at all."""
    return any(len(row) > 1 for row in _by_rows(lines))


def _by_rows(lines: Row) -> Iterator[Row]:
    """Lines whose middles lie within each other's height are one row."""
    row: Row = []
    for line in sorted(lines, key=lambda line: (line.box[1] + line.box[3], line.box[0])):
        middle = (line.box[1] + line.box[3]) / 2
        if row and not row[0].box[1] <= middle <= row[0].box[3]:
            yield sorted(row, key=lambda line: line.box[0])
            row = []
        row.append(line)
    if row:
        yield sorted(row, key=lambda line: line.box[0])


def _gaps(lines: Row, axis: int) -> list[tuple[float, float]]:
    """Where nothing stands along an axis (0 from left to right, 1 from top to bottom): size and place of each gap."""
    spans = sorted((line.box[axis], line.box[axis + 2]) for line in lines)
    found, end = [], spans[0][1]
    for start, stop in spans[1:]:
        if start > end:
            found.append((start - end, (start + end) / 2))
        end = max(end, stop)
    return sorted(found, reverse=True)


def _split(lines: Row, axis: int, place: float) -> tuple[Row, Row]:
    return [line for line in lines if line.box[axis] < place], [line for line in lines if line.box[axis] >= place]


def _columns(lines: Row) -> tuple[Row, Row] | None:
    height = median(_height(line) for line in lines)
    for size, place in _gaps(lines, 0):
        if size < 0.6 * height:
            return None
        parts = _split(lines, 0, place)
        if all(_is_column(part, height) for part in parts):
            return parts
    return None


def _is_column(lines: Row, height: float) -> bool:
    """Running text: some lines of some width. Prices beside the names of things are none."""
    return len(lines) >= COLUMN_LINES and median(line.box[2] - line.box[0] for line in lines) >= COLUMN_WIDTH * height


def _bands(lines: Row) -> tuple[Row, Row] | None:
    """Cut at the widest gap between rows, so that what spans columns comes off them."""
    gaps = _gaps(lines, 1)
    return _split(lines, 1, gaps[0][1]) if gaps else None
