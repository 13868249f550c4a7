"""OpenDocument, books, rich text and e-mail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime

from paddock_documents.samples.zipped import XML, archive

DAY = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
_OPEN = "urn:oasis:names:tc:opendocument:xmlns"


def odt(paragraphs: Sequence[str]) -> bytes:
    """An OpenDocument text."""
    text = "".join(f"<text:p>{line}</text:p>" for line in paragraphs)
    return archive(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "content.xml": f'{XML}<office:document-content xmlns:office="{_OPEN}:office:1.0" xmlns:text="{_OPEN}:text:1.0">'
            f"<office:body><office:text>{text}</office:text></office:body></office:document-content>",
            "META-INF/manifest.xml": f'{XML}<manifest:manifest xmlns:manifest="{_OPEN}:manifest:1.0"/>',
        },
        stored=("mimetype",),
    )


def epub(chapters: Sequence[tuple[str, str]]) -> bytes:
    """A book of (title, text) chapters."""
    manifest = "".join(
        f'<item id="c{at}" href="c{at}.xhtml" media-type="application/xhtml+xml"/>' for at in range(len(chapters))
    )
    spine = "".join(f'<itemref idref="c{at}"/>' for at in range(len(chapters)))
    entries = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": f'{XML}<container version="1.0" xmlns="{_OPEN}:container"><rootfiles>'
        '<rootfile full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "book.opf": f'{XML}<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>A book</dc:title></metadata><manifest>{manifest}</manifest><spine>{spine}</spine></package>",
    }
    for at, (title, text) in enumerate(chapters):
        entries[f"c{at}.xhtml"] = (
            f'{XML}<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>{title}</h1><p>{text}</p></body></html>'
        )
    return archive(entries, stored=("mimetype",))


def rtf(paragraphs: Sequence[str]) -> bytes:
    """Rich text; characters beyond ASCII as escapes."""
    text = "\\par\n".join(
        "".join(char if ord(char) < 128 else f"\\u{ord(char)}?" for char in line) for line in paragraphs
    )
    return (r"{\rtf1\ansi\deff0{\fonttbl{\f0 Arial;}}" + text + "}").encode("ascii")


def eml(body: str, *, subject: str = "A subject", attachments: Mapping[str, bytes] | None = None) -> bytes:
    """A message with text attachments."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Ann <ann@example.org>", "bob@example.org", subject
    message["Date"] = format_datetime(DAY)
    message.set_content(body)
    for name, data in (attachments or {}).items():
        message.add_attachment(data, maintype="text", subtype="plain", filename=name)
    return message.as_bytes()


def ods(sheets: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """An OpenDocument spreadsheet of texts."""
    tables = "".join(
        f'<table:table table:name="{name}">' + "".join(map(_ods_row, rows)) + "</table:table>"
        for name, rows in sheets.items()
    )
    return archive(
        {
            "mimetype": "application/vnd.oasis.opendocument.spreadsheet",
            "content.xml": f'{XML}<office:document-content xmlns:office="{_OPEN}:office:1.0" xmlns:text="{_OPEN}:text:1.0"'
            f' xmlns:table="{_OPEN}:table:1.0"><office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body>'
            "</office:document-content>",
            "META-INF/manifest.xml": f'{XML}<manifest:manifest xmlns:manifest="{_OPEN}:manifest:1.0"/>',
        },
        stored=("mimetype",),
    )


def _ods_row(row: Sequence[str]) -> str:
    cells = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>' for cell in row
    )
    return f"<table:table-row>{cells}</table:table-row>"
