"""Documents that flow: Word, OpenDocument text, rich text, books. And PDFs and slides, which have pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from paddock.builtin.parsers.sections import Heading, close_sections
from paddock.contracts.providers import Document, Table
from paddock.errors import ValidationFailed
from paddock_documents.text import join_pages, reflow, row_line, tidy
from paddock_documents.wire import Block, Extracted, PageText

NO_TEXT = (
    "the file has no text layer: it is a scan, or empty; with ocr: auto in the parser's options, OCR reads its pages"
)
MISSING = 0.8  # of the words: below it the pieces are not the whole document


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a flowing document goes to the text, and whether its marks (# for headings, - for lists) stay."""

    tables: bool = True
    headers: bool = False
    footers: bool = False
    marks: bool = True


def flowing(found: Extracted, wanted: Wanted) -> Document:
    """Text from the pieces in order: page headers first, then the body, footers and comments last."""
    parts: list[str] = []
    headings: list[Heading] = []
    at = 0
    for block in _ordered(found.blocks, wanted):
        text = _shown(block, wanted)
        if not text.strip():
            continue
        if block.kind in ("heading", "title") and block.layer == "body":
            headings.append(Heading(min(6, max(1, block.level or 1)), " ".join(block.text.split()), at))
        parts.append(text)
        at += len(text) + 2
    parts.extend(f"Comment by {comment}" for comment in found.comments)
    text = "\n\n".join(parts)
    if _word_count(text) < MISSING * _word_count(found.text) and wanted.tables:
        text, headings = tidy(found.text), []
    if not text.strip():
        raise ValidationFailed("the file holds no text")
    tables = [Table(rows=block.rows) for block in found.blocks if block.kind == "table"] if wanted.tables else []
    return Document(text=text, sections=close_sections(headings, len(text)), tables=tables)


def _word_count(text: str) -> int:
    return len(text.split())


def _ordered(blocks: Sequence[Block], wanted: Wanted) -> Iterator[Block]:
    layers = {"header": wanted.headers, "body": True, "footer": wanted.footers}
    for layer in ("header", "body", "footer"):
        if layers[layer]:
            yield from (block for block in blocks if (block.layer if block.layer in layers else "body") == layer)


def _shown(block: Block, wanted: Wanted) -> str:
    if block.kind == "table":
        return "\n".join(row_line(row) for row in block.rows) if wanted.tables else ""
    text = tidy(block.text)
    if wanted.marks and block.kind == "heading":
        return f"{'#' * min(6, max(1, block.level))} {' '.join(text.split())}"
    if wanted.marks and block.kind == "list_item":
        return f"- {text}"
    return text


class PageStyle(msgspec.Struct, frozen=True, kw_only=True):
    """How the text of pages is treated: tidied, line breaks kept, and whether page numbers are told."""

    clean: bool = True
    layout: bool = True
    numbers: bool = True
    notes: bool = False


def paged(found: Extracted, style: PageStyle, *, tables: bool = True, scans: bool = True) -> Document:
    """Text of the pages with their places. Raises ValidationFailed when no page has any (`scans` words it for PDFs)."""
    text, pages = join_pages((page.number, _page(page, found, style)) for page in found.pages)
    if not text:
        raise ValidationFailed(NO_TEXT if scans else "the file holds no text")
    document = Document(text=text, pages=pages if style.numbers else [])
    blank = [str(page.number) for page in found.pages if not page.text.strip()]
    if blank and scans:
        document.warnings.append(f"pages without a text layer were left out (scans, or blank): {', '.join(blank[:50])}")
    if tables:
        document.tables = [Table(rows=table.rows, page=table.page) for table in found.tables if table.rows]
    return document


def _page(page: PageText, found: Extracted, style: PageStyle) -> str:
    text = tidy(page.text) if style.clean else page.text
    text = text if style.layout else reflow(text)
    if style.notes:
        text = "\n".join([text, *(f"Note: {note.text}" for note in found.notes if note.page == page.number)])
    return text


def mark_headings(document: Document, found: Extracted) -> None:
    """Sections of a paged document, from the headings that stand in its text in the same order."""
    headings: list[Heading] = []
    at = 0
    for block in found.blocks:
        line = block.text.split("\n")[0].strip()
        if block.kind != "heading" or not line:
            continue
        place = document.text.find(line, at)
        if place >= 0 and (place == 0 or document.text[place - 1] == "\n"):
            headings.append(Heading(min(6, max(1, block.level or 1)), " ".join(block.text.split()), place))
            at = place + len(line)
    document.sections = close_sections(headings, len(document.text))
