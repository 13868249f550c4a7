"""Chunkers of records: rows, columns, and rows that belong together. Sizes count rows; chunks have no offsets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from paddock.builtin.chunkers.running import ParagraphChunker, SemanticChunker, check
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Chunker, ChunkOptions, Document, Record, TypeName

_WORD = re.compile(r"\w{3,}")


class RowChunker(Chunker):
    """`size` rows in each chunk, `overlap` of them repeated; rows of two sheets never share one.

    Metadata: `row_start`, `row_end` and what all rows of the chunk have in common (the sheet). A document without records
    is cut as paragraphs.
    """

    types = (TypeName("rows"),)

    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        check(options)
        if not document.records:
            return ParagraphChunker().chunk(document, options)
        step = options.size - options.overlap
        return [
            _together(group[at : at + options.size])
            for group in _sheets(document.records)
            for at in range(0, max(1, len(group) - options.overlap), step)
        ]


class ColumnChunker(Chunker):
    """A column in each chunk: its name, then its values, at most `size` rows, `overlap` of them repeated.

    Metadata: `column`, `row_start`, `row_end`. A document without tables is cut as rows.
    """

    types = (TypeName("columns"),)

    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        check(options)
        if not document.tables:
            return RowChunker().chunk(document, options)
        chunks: list[Chunk] = []
        for table in document.tables:
            for index, name in enumerate(table.rows[0] if table.rows else []):
                values = [row[index] if index < len(row) else "" for row in table.rows[1:]]
                chunks.extend(_column(name, values, options))
        return chunks or RowChunker().chunk(document, options)


class SemanticRowChunker(SemanticChunker):
    """Running text as SemanticChunker. Records: a row that shares no word with the one before begins a new chunk."""

    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        if not document.records:
            return super().chunk(document, options)
        check(options)
        return [_together(group) for sheet in _sheets(document.records) for group in _related(sheet, options.size)]


def _sheets(records: Sequence[Record]) -> Iterator[list[Record]]:
    group: list[Record] = []
    for record in records:
        if group and record.metadata.get("sheet") != group[-1].metadata.get("sheet"):
            yield group
            group = []
        group.append(record)
    if group:
        yield group


def _related(records: Sequence[Record], size: int) -> Iterator[list[Record]]:
    group: list[Record] = []
    before: frozenset[str] = frozenset()
    for record in records:
        values = " ".join([line.partition(": ")[2] or line for line in record.text.split("\n")])
        words = frozenset(_WORD.findall(values.lower()))
        if group and (len(group) >= size or not words & before):
            yield group
            group = []
        group.append(record)
        before = words
    yield group


def _together(records: Sequence[Record]) -> Chunk:
    common: dict[str, Json] = {
        key: thing
        for key, thing in records[0].metadata.items()
        if key != "row" and all(record.metadata.get(key) == thing for record in records)
    }
    rows: dict[str, Json] = {"row_start": records[0].metadata.get("row"), "row_end": records[-1].metadata.get("row")}
    return Chunk(text="\n\n".join([record.text for record in records]), metadata=rows | common)


def _column(name: str, values: Sequence[str], options: ChunkOptions) -> Iterator[Chunk]:
    for at in range(0, max(1, len(values) - options.overlap), options.size - options.overlap):
        part = values[at : at + options.size]
        text = "\n".join([name, *[value for value in part if value]]).strip()
        if text:
            facts: dict[str, Json] = {"column": name, "row_start": at + 1, "row_end": at + len(part)}
            yield Chunk(text=text, metadata=facts)
