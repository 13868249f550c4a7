"""Which formats there are: the ending of a name to the type that kreuzberg takes, and the families they make."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from paddock.contracts.providers import Source
from paddock.errors import ValidationFailed

Family = Literal["pdf", "sheets", "slides", "mail", "prose"]

_OFFICE = "application/vnd.openxmlformats-officedocument"
_OPEN = "application/vnd.oasis.opendocument"
PDF = "application/pdf"
DOCX = frozenset(
    {
        f"{_OFFICE}.wordprocessingml.document",
        f"{_OFFICE}.wordprocessingml.template",
        "application/vnd.ms-word.document.macroEnabled.12",
    }
)
XLSX = frozenset({f"{_OFFICE}.spreadsheetml.sheet", "application/vnd.ms-excel.sheet.macroEnabled.12"})

ENDINGS: dict[str, tuple[str, Family]] = {
    ".pdf": (PDF, "pdf"),
    ".docx": (f"{_OFFICE}.wordprocessingml.document", "prose"),
    ".dotx": (f"{_OFFICE}.wordprocessingml.template", "prose"),
    ".docm": ("application/vnd.ms-word.document.macroEnabled.12", "prose"),
    ".doc": ("application/msword", "prose"),
    ".odt": (f"{_OPEN}.text", "prose"),
    ".rtf": ("application/rtf", "prose"),
    ".epub": ("application/epub+zip", "prose"),
    ".fb2": ("application/x-fictionbook+xml", "prose"),
    ".ipynb": ("application/x-ipynb+json", "prose"),
    ".xlsx": (f"{_OFFICE}.spreadsheetml.sheet", "sheets"),
    ".xlsm": ("application/vnd.ms-excel.sheet.macroEnabled.12", "sheets"),
    ".xlsb": ("application/vnd.ms-excel.sheet.binary.macroEnabled.12", "sheets"),
    ".xls": ("application/vnd.ms-excel", "sheets"),
    ".ods": (f"{_OPEN}.spreadsheet", "sheets"),
    ".pptx": (f"{_OFFICE}.presentationml.presentation", "slides"),
    ".ppsx": (f"{_OFFICE}.presentationml.slideshow", "slides"),
    ".pptm": ("application/vnd.ms-powerpoint.presentation.macroEnabled.12", "slides"),
    ".ppt": ("application/vnd.ms-powerpoint", "slides"),
    ".odp": (f"{_OPEN}.presentation", "slides"),
    ".eml": ("message/rfc822", "mail"),
    ".msg": ("application/vnd.ms-outlook", "mail"),
}
FAMILIES: dict[str, Family] = {mime.lower(): family for mime, family in ENDINGS.values()}
TYPES: dict[str, str] = {mime.lower(): mime for mime, _ in ENDINGS.values()}
SLIDES = frozenset(mime for mime, family in ENDINGS.values() if family == "slides")


def endings(*families: Family) -> frozenset[str]:
    """The endings of the families; of all without any."""
    return frozenset(ending for ending, (_, family) in ENDINGS.items() if not families or family in families)


def mimes(*families: Family) -> frozenset[str]:
    """The mime types of the families; of all without any. Lower case."""
    return frozenset(mime.lower() for mime, family in ENDINGS.values() if not families or family in families)


def recognise(source: Source, expected: tuple[Family, ...], usual: str) -> tuple[str, Family]:
    """The type to read a file as, by its ending, else by its mime type, else `usual`.

    Raises ValidationFailed when the bytes begin like another type, and when the family is none of the expected.
    """
    ending = PurePosixPath(source.filename.replace("\\", "/")).suffix.lower()
    mime, family = ENDINGS.get(ending) or _by_mime(source) or ENDINGS[usual]
    if family not in expected:
        raise ValidationFailed(
            f"the file is {ending or mime}, which this parser does not read: use DocumentParser or auto"
        )
    with source.path.open("rb") as file:
        head = file.read(1024)
    if not head.strip(b" \t\r\n\xef\xbb\xbf"):
        raise ValidationFailed("the file is empty")
    if not _fits(mime, head):
        raise ValidationFailed(
            f"the file is damaged, or not {ending or mime}: its first bytes are those of another type"
        )
    return mime, family


def _by_mime(source: Source) -> tuple[str, Family] | None:
    name = source.mime.partition(";")[0].strip().lower()
    return (TYPES[name], FAMILIES[name]) if name in FAMILIES else None


def _fits(mime: str, head: bytes) -> bool:
    if mime == PDF:
        return b"%PDF-" in head
    if "openxml" in mime or "opendocument" in mime or "macroEnabled" in mime or mime == "application/epub+zip":
        return head.startswith(b"PK")
    if mime == "application/rtf":
        return head.lstrip().startswith(b"{\\rtf")
    if mime in (
        "application/msword",
        "application/vnd.ms-excel",
        "application/vnd.ms-powerpoint",
        "application/vnd.ms-outlook",
    ):
        return head.startswith((b"\xd0\xcf\x11\xe0", b"PK"))
    return b"\x00" not in head
