"""Spreadsheets: each row of each sheet becomes a record of ``column: value`` lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Record, Table
from paddock.errors import FieldError, ValidationFailed
from paddock_documents.configs import NA_VALUES, SkipRows
from paddock_documents.wire import Extracted, Formula

Formulas = Literal["values", "both", "instead"]


class SheetWishes(msgspec.Struct, frozen=True, kw_only=True):
    """Which sheets (names, or numbers from 0), which rows, and what to show where a formula stands."""

    sheets: Sequence[str | int] | None = None
    combine: bool = False
    header_row: int = 0
    skiprows: SkipRows = None
    na_values: Sequence[str] = NA_VALUES
    formulas: Formulas = "values"


def tabular(found: Extracted, wishes: SheetWishes) -> Document:
    """Records of the wanted sheets. Raises ValidationFailed: no such sheet, no cell with a value."""
    document = Document(text="")
    for name, rows in _wanted(found, wishes):
        kept = [row for index, row in enumerate(rows) if index not in _skipped(wishes.skiprows)][wishes.header_row :]
        if not kept:
            continue
        names = [cell.strip() or f"column_{at}" for at, cell in enumerate(kept[0], 1)]
        document.tables.append(Table(rows=[names, *kept[1:]]))
        document.records.extend(_records(name, names, kept[1:], wishes))
    document.text = "\n\n".join(record.text for record in document.records)
    if not document.text:
        raise ValidationFailed("the file holds no cell with a value in the sheets and rows that were asked for")
    return document


def _skipped(skiprows: SkipRows) -> frozenset[int]:
    return frozenset(skiprows if isinstance(skiprows, list) else range(skiprows or 0))


def _records(sheet: str, names: Sequence[str], rows: Sequence[Sequence[str]], wishes: SheetWishes) -> Iterator[Record]:
    empty = frozenset(wishes.na_values)
    metadata: dict[str, Json] = {} if wishes.combine else {"sheet": sheet}
    if not rows:
        yield Record(text=" | ".join(names), metadata={"row": 0, **metadata})
    for number, row in enumerate(rows, 1):
        pairs = [
            (names[at] if at < len(names) else f"column_{at + 1}", cell)
            for at, cell in enumerate(row)
            if cell not in empty
        ]
        if pairs:
            yield Record(
                text="\n".join(f"{name}: {cell}" for name, cell in pairs), metadata={"row": number, **metadata}
            )


def _wanted(found: Extracted, wishes: SheetWishes) -> Iterator[tuple[str, list[list[str]]]]:
    names = found.sheets
    chosen = set(range(len(names))) if wishes.sheets is None else {_index(item, names) for item in wishes.sheets}
    for table in found.tables:
        index = (table.page or 1) - 1
        name = names[index] if index < len(names) else f"Sheet{index + 1}"
        if index in chosen:
            rows = [list(row) for row in table.rows]
            _place(rows, found.formulas.get(name, ()), wishes.formulas)
            yield name, rows


def _index(item: str | int, names: Sequence[str]) -> int:
    index = item if isinstance(item, int) else names.index(item) if item in names else -1
    if not 0 <= index < len(names):
        raise ValidationFailed.of(
            [FieldError("sheets", f"the file has no sheet {item!r}; it has {', '.join(names)[:500]}")]
        )
    return index


def _place(rows: list[list[str]], formulas: Sequence[Formula], how: Formulas) -> None:
    if how == "values":
        return
    for formula in formulas:
        if formula.row < len(rows) and formula.column < len(rows[formula.row]):
            value = rows[formula.row][formula.column]
            rows[formula.row][formula.column] = (
                formula.text if how == "instead" or not value else f"{value} ({formula.text})"
            )
