"""What the helper process does: kreuzberg's extraction, turned into plain data."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paddock.builtin.helper import Refused
from paddock.contracts.base import Json
from paddock_documents.extras import archive_bomb, docx_comments, xlsx_formulas, xmp_values
from paddock_documents.formats import DOCX, SLIDES, XLSX
from paddock_documents.wire import MAX_TEXT, Attachment, Block, Extracted, Note, PageText, Request, TableData

MAX_CELLS = 2_000_000
MAX_LINKS = 200
_CONTAINERS = frozenset({"group", "list", "slide", "metadata_block", "page_break", "image"})
_FACTS = (
    "title",
    "subject",
    "authors",
    "keywords",
    "language",
    "created_at",
    "modified_at",
    "created_by",
    "producer",
    "page_count",
    "from_email",
    "to_emails",
    "cc_emails",
    "attachments",
)
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
# Parts of the library's sentences, in the order of looking, and what people are told.
_REASONS = (
    ("password", "is encrypted: remove its password and upload it again"),
    ("encrypted", "is encrypted: remove its password and upload it again"),
    ("entries, exceeds", "holds more than 10,000 entries: it is refused as an archive bomb"),
    ("exceeds limit", "unpacks to more than 100 MiB: it is refused as an archive bomb"),
    ("timed out", "took longer than documents.timeout_seconds to read"),
)


def extract(request: Request) -> Extracted:
    """Read one document. Raises Refused."""
    path = Path(request.path)
    if path.stat().st_size > request.max_bytes:
        raise Refused(f"is larger than documents.max_mb ({request.max_bytes // 1024**2} MiB)")
    data = path.read_bytes()
    if reason := archive_bomb(data):
        raise Refused(reason)
    marker = secrets.token_hex(12)
    result = _kreuzberg(data, request, marker)
    if len(result.content) > MAX_TEXT:
        raise Refused("holds more than 64 million characters: split it")
    found = Extracted(text=clean(result.content), facts=_facts(result.metadata))
    found.pages = _marked(found.text, marker) if request.mime in SLIDES else _pages(result.pages or [])
    found.blocks = _blocks((result.document or {}).get("nodes", []), marker)
    found.tables = [_table(table) for table in result.tables if _cell_count(table.cells) <= MAX_CELLS]
    found.sheets = [clean(name) for name in result.metadata.get("sheet_names") or []]
    _references(found, result)
    found.attachments = [
        Attachment(clean(str(child["path"])), clean(child["result"].content[:MAX_TEXT]))
        for child in result.children or []
    ]
    _extras(found, data, request)
    return found


def _kreuzberg(data: bytes, request: Request, marker: str) -> Any:
    import kreuzberg  # noqa: PLC0415  heavy: only in the helper process

    slides = request.mime in SLIDES
    config = kreuzberg.ExtractionConfig(  # type: ignore[call-arg]  # disable_ocr is missing in the library's stubs
        use_cache=False,
        disable_ocr=True,
        enable_quality_processing=False,  # it rewrites text by guesses; ours only tidies, when asked
        include_document_structure=True,
        output_format="markdown" if request.structure and request.mime == "application/pdf" else "plain",
        pages=kreuzberg.PageConfig(
            extract_pages=True,
            insert_page_markers=slides,
            marker_format=f"\n\n{marker} {{page_num}}\n\n" if slides else None,
        ),
        pdf_options=kreuzberg.PdfConfig(extract_annotations=request.annotations),
        email=kreuzberg.EmailConfig(msg_fallback_codepage=request.codepage),
        concurrency=kreuzberg.ConcurrencyConfig(max_threads=1),
        extraction_timeout_secs=math.ceil(request.timeout),
    )
    config.max_archive_depth = 2
    try:
        return kreuzberg.extract_bytes_sync(data, request.mime, config=config)
    except (kreuzberg.KreuzbergError, RuntimeError, ValueError, OSError) as error:
        said = str(error).lower()
        reason = next(
            (reason for part, reason in _REASONS if part in said), "is damaged, or not of the type that its name says"
        )
        raise Refused(reason, busy="timed out" in said) from error


def clean(text: str) -> str:
    """Unix line ends, no control characters, no lone surrogates."""
    return _UNPRINTABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0c", "\n"))


def _pages(pages: Sequence[Mapping[str, Any]]) -> list[PageText]:
    return [PageText(int(page["page_number"]), clean(page["content"]).strip("\n")) for page in pages]


def _marked(text: str, marker: str) -> list[PageText]:
    """Slides, cut at the marks; what stands before the first one belongs to it."""
    parts = re.split(f"{marker} ([0-9]+)", text)
    pages = [PageText(int(number), body.strip("\n")) for number, body in zip(parts[1::2], parts[2::2], strict=True)]
    if pages and parts[0].strip():
        pages[0] = PageText(pages[0].number, f"{parts[0].strip()}\n\n{pages[0].text}")
    return pages


def _blocks(nodes: Sequence[Mapping[str, Any]], marker: str) -> list[Block]:
    found = []
    for node in nodes:
        content = node["content"]
        kind, layer, page = content.get("node_type", "paragraph"), node.get("content_layer") or "body", node.get("page")
        if kind == "table":
            rows = _grid(content.get("grid") or {})
            found += [Block(kind=kind, rows=rows, layer=layer, page=page)] if rows else []
            continue
        text = clean(str(content.get("text") or "")).strip("\n")
        if text.strip() and kind not in _CONTAINERS and marker not in text:
            found.append(Block(kind=kind, text=text, level=int(content.get("level") or 0), layer=layer, page=page))
    return found


def _grid(grid: Mapping[str, Any]) -> list[list[str]]:
    """The cells as rows; a grid that is mostly empty and huge is not built."""
    height, width = int(grid.get("rows") or 0), int(grid.get("cols") or 0)
    if height * width > MAX_CELLS:
        return []
    rows = [[""] * width for _ in range(height)]
    for cell in grid.get("cells") or []:
        if cell["row"] < height and cell["col"] < width:
            rows[cell["row"]][cell["col"]] = clean(cell.get("content") or "").strip()
    return rows


def _cell_count(rows: Sequence[Sequence[str]]) -> int:
    return sum(map(len, rows))


def _table(table: Any) -> TableData:
    return TableData([[clean(cell).strip() for cell in row] for row in table.cells], table.page_number or None)


def _facts(metadata: Mapping[str, Any]) -> dict[str, Json]:
    """The facts that many formats share, bounded."""
    found: dict[str, Json] = {}
    for key in _FACTS:
        given = metadata.get(key)
        if isinstance(given, str):
            found[key] = clean(given)[:1000]
        elif isinstance(given, list):
            found[key] = [clean(str(item))[:1000] for item in given[:100]]
        elif isinstance(given, int):
            found[key] = given
    return {key: given for key, given in found.items() if given not in ("", [], None)}


def _references(found: Extracted, result: Any) -> None:
    for note in result.annotations or []:
        if note.annotation_type == "link":
            continue
        if note.content and note.content.strip():
            found.notes.append(Note(int(note.page_number), clean(note.content).strip()))
    for uri in result.uris or []:
        if uri.get("kind") == "anchor":
            found.outline.append(clean(f"{uri.get('label') or ''} (page {uri.get('page')})"))
        elif str(uri.get("url", "")).lower().startswith(("http://", "https://", "mailto:")):
            found.links.append(clean(uri["url"])[:2000])
    found.links = list(dict.fromkeys(found.links))[:MAX_LINKS]
    found.outline = found.outline[:MAX_LINKS]


def _extras(found: Extracted, data: bytes, request: Request) -> None:
    """What the library leaves out."""
    if request.comments and request.mime in DOCX:
        found.comments = [clean(text) for text in docx_comments(data)]
    if request.formulas and request.mime in XLSX:
        found.formulas = xlsx_formulas(data)
    if request.xmp and request.mime == "application/pdf":
        found.xmp = {key: clean(text) for key, text in xmp_values(data).items()}
