"""Pages without a text layer, read by OCR when the parser's options ask for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Reading, Source
from paddock.errors import ValidationFailed
from paddock_documents.wire import Extracted, PageText

Ocr = Literal["never", "auto", "always"]
FEW = 20  # letters and digits; a page with fewer is a scan with a number on it, or almost empty


def read_scans(found: Extracted, source: Source, ocr: Ocr, languages: Sequence[str]) -> list[int]:
    """Fill in what OCR reads: with auto on pages that have next to no text layer, with always on all of them. Returns the
    numbers of the pages that got their text so. Raises ValidationFailed, ProviderUnavailable (no OCR plugin)."""
    wanted = _wanted(found, ocr)
    if ocr == "never" or wanted == []:
        return []
    if source.ocr is None:
        raise ValidationFailed("the file is to be read by OCR, which works inside of a server only")
    read = source.ocr.pages(source.path, wanted, Reading(languages=languages))
    texts = {page.number: page.text for page in found.pages}
    better = {
        number: page.text
        for number, page in read.items()
        if ocr == "always" or _count(page.text) > _count(texts.get(number, ""))
    }
    texts = {**dict.fromkeys(read, ""), **texts, **better}
    found.pages = [PageText(number, texts[number]) for number in sorted(texts)]
    if not any(text.strip() for text in texts.values()):
        raise ValidationFailed("OCR found no text on the file's pages: they are blank, or not legible for the engine")
    return sorted(number for number, text in better.items() if text.strip())


def _wanted(found: Extracted, ocr: Ocr) -> list[int] | None:
    """The numbers of the pages to read; None for all."""
    if ocr == "always" or not found.pages:
        return None
    return [page.number for page in found.pages if _count(page.text) < FEW]


def _count(text: str) -> int:
    return len(re.findall(r"[^\W_]", text))


def note_scans(document: Document, numbers: Sequence[int]) -> None:
    """Say in the metadata which pages were read by OCR."""
    if numbers:
        document.metadata["ocr_pages"] = list[Json](numbers)
