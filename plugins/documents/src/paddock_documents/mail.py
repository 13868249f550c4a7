"""E-mail: header, body and attachments, each a section of the text."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from paddock.contracts.providers import Document, Section
from paddock.errors import ValidationFailed
from paddock_documents.text import reflow, tidy
from paddock_documents.wire import Extracted

_FIELDS = ("Subject:", "From:", "To:", "CC:", "BCC:", "Date:")


class MailWishes(msgspec.Struct, frozen=True, kw_only=True):
    """What of a message goes to the text, and how it is treated."""

    headers: bool = True
    attachments: bool = True
    clean: bool = True
    formatting: bool = True


def message(found: Extracted, wishes: MailWishes) -> Document:
    """Text with the sections header, body and ``attachment NAME``. Raises ValidationFailed when there is none."""
    parts: list[str] = []
    sections: list[Section] = []
    at = 0
    for title, text in _parts(found, wishes):
        shown = text if wishes.formatting else reflow(text)
        shown = (tidy(shown) if wishes.clean else shown).strip("\n")
        if not shown.strip():
            continue
        sections.append(Section(level=1, title=title, start=at, end=at + len(shown)))
        parts.append(shown)
        at += len(shown) + 2
    if not parts:
        raise ValidationFailed("the file holds no text")
    return Document(text="\n\n".join(parts), sections=sections)


def _parts(found: Extracted, wishes: MailWishes) -> Iterator[tuple[str, str]]:
    header, body = _split(found.text)
    if wishes.headers:
        yield "header", header
    yield "body", body
    if wishes.attachments:
        for attachment in found.attachments:
            if attachment.text.strip():
                name = attachment.name.replace("\\", "/").rpartition("/")[2][:200]
                yield f"attachment {name}", f"Attachment {name}:\n{attachment.text}"


def _split(text: str) -> tuple[str, str]:
    """The lines that the library puts before the body, up to the first empty one."""
    header, _, body = text.partition("\n\n")
    return (header, body) if header.startswith(_FIELDS) else ("", text)
