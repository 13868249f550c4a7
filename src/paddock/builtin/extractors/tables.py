"""TableExtractor: the tables of a chunk, as text in one of four forms."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Annotated, Any, Literal

import msgspec

from paddock.builtin.extractors.common import TextExtractor, readable, shorten
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName

Rows = list[list[str]]
OutputFormat = Literal["dict", "list", "csv", "markdown"]

MAX_TABLES = 5
MAX_ROWS = 50
MAX_COLUMNS = 30
MAX_CELL = 200  # characters
MAX_TEXT = 4000  # characters of one table as it is written into the metadata
LOOKED_AT = 2000  # rows of the document's tables that are compared with a chunk

_PIPES = re.compile(r"(?:^[^\n|]*\|[^\n]*(?:\n|\Z)){2,}", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\|")


class TableConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of TableExtractor. `min_rows` counts the header; `merge_cells` repeats what a merged cell says."""

    output_format: OutputFormat = "dict"
    extract_headers: bool = True
    merge_cells: bool = True
    min_rows: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 2
    enabled: bool = True


class TableExtractor(TextExtractor):
    """``tables``, one text for each table: JSON (dict: a list of objects, list: a list of lists), CSV or Markdown.

    Beside them ``table_count``, ``table_rows`` (without headers) and, with `extract_headers`, ``table_headers``. Without
    it the first row is data and columns are called ``column_1`` …; tables are those that the chunk's text shows with
    bars, else the rows of the document's tables that stand in the chunk. At most 5 tables, 50 rows, 30 columns each.
    """

    types = (TypeName("TableExtractor", TableConfig),)
    limit = 200_000

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        tables = list(islice(_barred(text), MAX_TABLES)) or list(islice(_parsed(text, chunk, document), MAX_TABLES))
        tables = [_tidy(rows, merge=config.merge_cells) for rows in tables if len(rows) >= config.min_rows]
        if not tables:
            return {}
        headed = config.extract_headers
        found: dict[str, Json] = {
            "tables": [_written(rows, config.output_format, headed=headed) for rows in tables],
            "table_count": len(tables),
            "table_rows": sum(len(rows) - headed for rows in tables),
        }
        if headed:
            found["table_headers"] = list(dict.fromkeys(cell for rows in tables for cell in rows[0] if cell))[
                :MAX_COLUMNS
            ]
        return found


def _barred(text: str) -> Iterator[Rows]:
    """Tables drawn with bars: a header, a rule of hyphens, rows."""
    if "|" not in text:
        return
    for block in _PIPES.finditer(text):
        lines = block[0].strip("\n").split("\n")
        rules = [index for index, line in enumerate(lines) if "-" in line and len(line) < 1000 and _is_rule(line)]
        if rules and rules[0] > 0:
            yield [_cells(lines[rules[0] - 1]), *(_cells(line) for line in lines[rules[0] + 1 : rules[0] + MAX_ROWS])]


def _is_rule(line: str) -> bool:
    return not line.strip("|-: \t")


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace("\\|", "|") for cell in _CELL.split(inner)]


def _parsed(text: str, chunk: Chunk, document: Document) -> Iterator[Rows]:
    """The document's tables, each with its header and those rows that stand in the chunk."""
    budget = LOOKED_AT
    for table in document.tables:
        if budget <= 0:
            return
        if not table.rows or (None not in (table.page, chunk.page) and table.page != chunk.page):
            continue
        looked = table.rows[1 : budget + 1]
        budget -= len(looked) + 1
        rows = [row for row in looked if any(row) and all(readable(cell).strip() in text for cell in row[:MAX_COLUMNS])]
        if rows:
            yield [[readable(cell) for cell in row] for row in [table.rows[0], *rows]]


def _tidy(rows: Rows, *, merge: bool) -> Rows:
    """Rows of equal width, cells of bounded length; with `merge` what was one cell is repeated in each of its places."""
    rows = rows[:MAX_ROWS]
    width = min(MAX_COLUMNS, max(map(len, rows)))
    even = [
        [shorten(" ".join(cell.split()), MAX_CELL) for cell in row[:width]] + [""] * (width - len(row)) for row in rows
    ]
    if merge:
        for column in range(1, width):
            even[0][column] = even[0][column] or even[0][column - 1]
        for above, row in pairwise(even[1:]):
            for column in range(width):
                if row[column]:
                    break  # only the cells on the left, which name a group of rows
                row[column] = above[column]
    return even


def _written(rows: Rows, form: OutputFormat, *, headed: bool) -> str:
    """As much of the table as fits, whole rows only."""
    while True:
        text = _form(rows, form, headed=headed)
        if len(text) <= MAX_TEXT or len(rows) <= 1 + headed:
            return text if len(text) <= MAX_TEXT else shorten(text, MAX_TEXT)
        rows = rows[: max(1 + headed, len(rows) * 3 // 4)]


def _form(rows: Rows, form: OutputFormat, *, headed: bool) -> str:
    header = _unique(rows[0]) if headed else [f"column_{number}" for number in range(1, len(rows[0]) + 1)]
    body = rows[1:] if headed else rows
    if form == "dict":
        return _json([dict(zip(header, row, strict=True)) for row in body])
    if form == "list":
        return _json([rows[0], *body] if headed else body)
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([rows[0], *body] if headed else body)
        return out.getvalue()
    lines = [rows[0] if headed else header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _unique(header: Sequence[str]) -> list[str]:
    """Column names, none empty and none twice."""
    names: list[str] = []
    for number, name in enumerate(header, 1):
        wanted = name or f"column_{number}"
        names.append(wanted if wanted not in names else f"{wanted}_{number}")
    return names


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
