"""HTML: the readable text, headings to sections, tables, title and links; never scripts or styles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from paddock.builtin.parsers.html_scan import Tag, scan
from paddock.builtin.parsers.reading import (
    MAX_VALUES,
    ChunkOverlap,
    ChunkSize,
    Encoding,
    check_encoding,
    check_overlap,
    clean,
    decode,
    read_bytes,
    refuse,
    value,
)
from paddock.builtin.parsers.sections import Heading, close_sections
from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Parser, Source, Table, TypeName
from paddock.errors import ValidationFailed

_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s{0,5}=\s{0,5}["']?([\w.:-]{1,40})""", re.IGNORECASE)
_BLOCKS = frozenset(
    {
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "center",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "header",
        "hgroup",
        "hr",
        "html",
        "legend",
        "li",
        "main",
        "menu",
        "nav",
        "ol",
        "optgroup",
        "option",
        "p",
        "pre",
        "search",
        "section",
        "select",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
        "title",
        "head",
    }
)
_PARAGRAPHS = frozenset(
    {
        "p",
        "blockquote",
        "pre",
        "table",
        "ul",
        "ol",
        "dl",
        "figure",
        "section",
        "article",
        "div",
    }
)
_HIDDEN = frozenset({"template", "noscript", "svg", "canvas", "object"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


class HtmlConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of HTMLParser; sizes in characters. `encoding` auto: a BOM, the file's own declaration, a guess."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal[
        "sections", "headings", "paragraphs", "sentences", "characters", "tokens", "semantic", "full"
    ] = "sections"
    encoding: Encoding = "auto"
    extract_metadata: bool = True
    extract_tables: bool = True
    extract_links: bool = True


class HTMLParser(Parser):
    """Web pages as files. Table rows stand in the text as ``a | b`` lines."""

    types = (TypeName("HTMLParser", HtmlConfig),)
    extensions = frozenset({".html", ".htm", ".xhtml"})
    mime_types = frozenset({"text/html", "application/xhtml+xml"})

    def parse(self, source: Source, config: Any) -> Document:
        reader = _Reader()
        for item in scan(clean(_text(read_bytes(source), config.encoding))):
            if isinstance(item, Tag):
                reader.tag(item)
            else:
                reader.text(item)
        reader.end_table()
        document = Document(text="".join(reader.parts).rstrip())
        if not document.text:
            raise refuse("holds no readable text, only markup")
        document.sections = close_sections(reader.headings, len(document.text))
        if config.extract_tables:
            document.tables = [Table(rows=rows) for rows in reader.tables]
        if config.extract_metadata:
            document.metadata |= {key: value(text) for key, text in reader.facts.items() if text}
        if config.extract_links and reader.links:
            document.metadata["links"] = list(reader.links)
        return document

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_encoding(config.encoding)
        check_overlap(config)
        return ()


def _text(data: bytes, encoding: str) -> str:
    declared = _CHARSET.search(data[:2048]) if encoding.lower() == "auto" else None
    if declared:
        name = declared[1].decode("ascii", "replace")
        try:
            check_encoding(name)
            return decode(data, name)[0]
        except ValidationFailed:
            pass  # pages lie about their encoding: then it is guessed as for any other text
    return decode(data, encoding)[0]


class _Reader:
    """Collects text with collapsed blanks; knows whether it stands in a heading, a cell, the title or hidden content."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.tables: list[list[list[str]]] = []
        self.links: dict[str, None] = {}
        self.facts: dict[str, Json] = {}
        self._length = 0
        self._break = 0  # line ends owed before the next text
        self._blank = False  # a space owed
        self._hidden: str | None = None
        self._hidden_depth = 0
        self._heading: tuple[int, int, list[str]] | None = None
        self._title: list[str] | None = None
        self._pre = 0
        self._nested = 0  # tables around this place
        self._rows: list[list[str]] = []
        self._cell: list[str] | None = None

    def tag(self, tag: Tag) -> None:
        name = tag.name
        if self._title is not None and name != "title":
            self._end_title()  # it was never closed
        if self._hidden:
            self._hidden_depth += (not tag.closing) - tag.closing if name == self._hidden else 0
            self._hidden = self._hidden if self._hidden_depth else None
        elif name in _HIDDEN and not tag.closing and not tag.raw.endswith("/"):
            self._hidden, self._hidden_depth = name, 1
        elif name == "title":
            self._end_title() if tag.closing else self._begin_title()
        elif name in ("table", "tr", "td", "th"):
            self._table(name, tag.closing)
        else:
            self._flow(tag)

    def _flow(self, tag: Tag) -> None:
        name = tag.name
        if name in ("meta", "a", "html") and not tag.closing:
            self._facts(name, tag)
        elif name in _HEADINGS and self._cell is None:
            self._head(_HEADINGS[name], tag.closing)
        elif name == "br":
            self.owe(1)
        elif name in _BLOCKS:
            self._pre = max(0, self._pre + (1 - 2 * tag.closing) * (name == "pre"))
            self.owe(2 if name in _PARAGRAPHS else 1)
            if name == "li" and not tag.closing:
                self._write("- ")

    def owe(self, lines: int) -> None:
        """Line ends before the next text (a space inside a cell)."""
        if self._cell is not None:
            self._cell.append(" ")
        self._break = max(self._break, lines)

    def text(self, text: str) -> None:
        if self._hidden:
            return
        if self._title is not None:
            self._title.append(text)
        elif self._cell is not None:
            self._cell.append(text)
        elif self._nested == 0 or text.strip():
            self._write(text)

    def _write(self, text: str) -> None:
        if self._pre:
            kept = text
        else:
            kept = " ".join(text.split())
            self._blank = self._blank or text[:1].isspace()
            if not kept:
                return
            blank_after = text[-1].isspace()
        lead = ("\n" * self._break or " " * self._blank) if self._length else ""
        self.parts.append(lead + kept)
        if self._heading:
            self._heading[2].append(lead + kept)
        self._length += len(lead) + len(kept)
        self._break, self._blank = 0, not self._pre and blank_after

    def _head(self, level: int, closing: bool) -> None:
        if self._heading:
            begun, start, title = self._heading
            self._heading = None
            if name := " ".join("".join(title).split()):
                self.headings.append(Heading(begun, name, start))
        self.owe(2)
        if not closing:
            self._heading = (level, self._length + 2 * bool(self._length), [])

    def _begin_title(self) -> None:
        self._title = []

    def _end_title(self) -> None:
        if self._title is not None:
            self.facts.setdefault("title", " ".join("".join(self._title).split()))
        self._title = None

    def _facts(self, name: str, tag: Tag) -> None:
        given = tag.attributes()
        if name == "html" and given.get("lang"):
            self.facts.setdefault("language", given["lang"])
        elif name == "meta" and given.get("name", "").lower() in ("description", "author", "keywords"):
            self.facts.setdefault(given["name"].lower(), given.get("content"))
        elif name == "a" and len(self.links) < MAX_VALUES:
            address = given.get("href", "").strip()
            if address.lower().startswith(("http://", "https://", "mailto:")):
                self.links[address[:2000]] = None

    def _table(self, name: str, closing: bool) -> None:
        """A table inside a cell is part of that cell's text."""
        if name == "table":
            self._nested = max(0, self._nested + 1 - 2 * closing)
            if self._nested == 0 or (self._nested == 1 and not closing):
                self.end_table()
                self.owe(2)
        elif self._nested > 1:
            self.owe(1)
        elif self._nested == 1:
            self._end_cell()
            if name == "tr" and not closing:
                self._end_row()
                self._rows.append([])
            elif name != "tr" and not closing:
                self._rows = self._rows or [[]]
                self._cell = []

    def _end_cell(self) -> None:
        if self._cell is not None:
            self._rows[-1].append(" ".join("".join(self._cell).split()))
            self._cell = None

    def _end_row(self) -> None:
        if self._rows and any(self._rows[-1]):
            self.owe(1)
            self._write(" | ".join(self._rows[-1]))
            self.owe(1)
        elif self._rows:
            self._rows.pop()

    def end_table(self) -> None:
        """Close what is open of a table."""
        self._end_cell()
        self._end_row()
        if self._rows:
            self.tables.append(self._rows)
        self._rows = []
