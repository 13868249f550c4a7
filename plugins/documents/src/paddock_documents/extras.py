"""What kreuzberg leaves out, read from the files themselves: Word's comments, Excel's formulas, a PDF's XMP packet.

Runs in the helper process. The XML is a stranger's: parts with a document type declaration are not read.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from xml.etree import ElementTree

from paddock_documents.wire import Formula

MAX_PART = 32 * 1024 * 1024
MAX_FORMULAS = 200_000
MAX_ENTRIES = 10_000  # of an archive
MAX_UNPACKED = 512 * 1024 * 1024
SUSPICIOUS = 64 * 1024 * 1024  # from this size on an archive must not be packed tighter than MAX_RATIO
MAX_RATIO = 200

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_REL = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_PLACE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")


def _part(archive: zipfile.ZipFile, name: str) -> ElementTree.Element | None:
    try:
        info = archive.getinfo(name)
        if info.file_size > MAX_PART:
            return None
        with archive.open(info) as file:
            return _xml(file.read(MAX_PART))
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return None


def _xml(data: bytes) -> ElementTree.Element | None:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        return None
    try:
        return ElementTree.fromstring(data)  # noqa: S314  no declarations, bounded, in a process of its own
    except (ElementTree.ParseError, ValueError, LookupError):
        return None


def archive_bomb(data: bytes) -> str:
    """Why a ZIP archive must not be unpacked, by what its own directory says; empty when it may, or is none."""
    end = data.rfind(b"PK\x05\x06") if data.startswith(b"PK") else -1
    if end < 0 or len(data) < end + 12:
        return ""
    if int.from_bytes(data[end + 10 : end + 12], "little") > MAX_ENTRIES:  # 65,535 stands for more, too
        return f"holds more than {MAX_ENTRIES:,} entries: it is refused as an archive bomb"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError):
        return "is damaged, or not of the type that its name says"
    if total > MAX_UNPACKED or (total > SUSPICIOUS and total > MAX_RATIO * len(data)):
        return f"unpacks to {total // 1024**2} MiB: it is refused as an archive bomb"
    return ""


def docx_comments(data: bytes) -> list[str]:
    """``author: text`` for each comment."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        root = _part(archive, "word/comments.xml")
    found = []
    for comment in root.iter(f"{_WORD}comment") if root is not None else ():
        text = " ".join("".join(part.text or "" for part in comment.iter(f"{_WORD}t")).split())
        author = comment.get(f"{_WORD}author")
        if text:
            found.append(f"{author}: {text}" if author else text)
    return found


def xlsx_formulas(data: bytes) -> dict[str, list[Formula]]:
    """The formulas of each sheet, placed in the smallest table that holds all its values."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: formulas for name, path in _sheets(archive) if (formulas := _formulas(_part(archive, path)))}


def _sheets(archive: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    book, relations = _part(archive, "xl/workbook.xml"), _part(archive, "xl/_rels/workbook.xml.rels")
    if book is None or relations is None:
        return
    targets = {item.get("Id"): item.get("Target") or "" for item in relations}
    for sheet in book.iter(f"{_SHEET}sheet"):
        target = targets.get(sheet.get(f"{_REL}id"), "")
        yield sheet.get("name") or "", target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _formulas(root: ElementTree.Element | None) -> list[Formula]:
    top = left = 2**31
    found: list[tuple[int, int, str]] = []
    for cell in root.iter(f"{_SHEET}c") if root is not None else ():
        place = _PLACE.fullmatch(cell.get("r") or "")
        if place is None or len(found) >= MAX_FORMULAS:
            continue
        row, column = int(place[2]) - 1, _column(place[1])
        formula, value = cell.find(f"{_SHEET}f"), cell.find(f"{_SHEET}v")
        if value is not None or cell.find(f"{_SHEET}is") is not None:
            top, left = min(top, row), min(left, column)
        if formula is not None and formula.text:
            found.append((row, column, f"={formula.text}"))
    return [Formula(row - top, column - left, text) for row, column, text in found if row >= top and column >= left]


def _column(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def xmp_values(data: bytes) -> dict[str, str]:
    """The simple values of the XMP packet, when it is stored readably: local name to text."""
    start = data.find(b"<x:xmpmeta")
    end = data.find(b"</x:xmpmeta>", start)
    root = _xml(data[start : end + 12]) if 0 <= start < end and end - start < MAX_PART else None
    found: dict[str, str] = {}
    for element in root.iter() if root is not None else ():
        name = element.tag.rpartition("}")[2]
        for item in element.iter():  # a value may stand in a list inside
            if (
                item.text
                and item.text.strip()
                and name not in ("xmpmeta", "RDF", "Description", "Alt", "Seq", "Bag", "li")
            ):
                found.setdefault(name[:100], item.text.strip()[:1000])
        if element.tag.endswith("}Description"):
            given = {key.rpartition("}")[2][:100]: text[:1000] for key, text in element.attrib.items()}
            found |= {key: text for key, text in given.items() if key != "about"}
        if len(found) > 100:
            break
    return found
