"""What the server asks a helper process for, and what comes back: plain data, as JSON over pipes."""

from __future__ import annotations

import msgspec

from paddock.contracts.base import Json

MAX_TEXT = 64 * 1024 * 1024  # characters of one document


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One document to read and what is wanted of it. `codepage` is that of old Outlook messages without one."""

    path: str
    mime: str
    timeout: float
    max_bytes: int
    structure: bool = False
    annotations: bool = False
    xmp: bool = False
    comments: bool = False
    formulas: bool = False
    codepage: int | None = None


class PageText(msgspec.Struct, frozen=True):
    """The text of one page or slide; numbers from 1."""

    number: int
    text: str


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of the text: its kind (paragraph, heading, list_item, table, code …) and layer (body, header, footer)."""

    kind: str
    text: str = ""
    level: int = 0
    rows: list[list[str]] = []
    layer: str = "body"
    page: int | None = None


class TableData(msgspec.Struct, frozen=True):
    """A table and the number of its page or sheet."""

    rows: list[list[str]]
    page: int | None


class Note(msgspec.Struct, frozen=True):
    """An annotation's text and its page."""

    page: int
    text: str


class Attachment(msgspec.Struct, frozen=True):
    """A file inside the file, and its text when it has one."""

    name: str
    text: str


class Formula(msgspec.Struct, frozen=True):
    """A formula in the table that its sheet gives: row and column from 0."""

    row: int
    column: int
    text: str


class Extracted(msgspec.Struct, kw_only=True):
    """All that a helper found."""

    text: str
    pages: list[PageText] = []
    blocks: list[Block] = []
    tables: list[TableData] = []
    sheets: list[str] = []
    facts: dict[str, Json] = {}
    notes: list[Note] = []
    links: list[str] = []
    outline: list[str] = []
    attachments: list[Attachment] = []
    comments: list[str] = []
    formulas: dict[str, list[Formula]] = {}
    xmp: dict[str, str] = {}
