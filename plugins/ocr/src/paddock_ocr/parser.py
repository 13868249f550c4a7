"""The parser of pictures: text by OCR."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from paddock.builtin.parsers.reading import check_overlap
from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Page, Parser, Reading, Source, TypeName
from paddock.errors import ProviderUnavailable, ValidationFailed


class ImageConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ImageParser. `languages` are codes of ISO 639-1; `engine` null is the best one that speaks them."""

    chunk_size: Annotated[int, msgspec.Meta(ge=100, le=50_000)] = 1000
    chunk_overlap: Annotated[int, msgspec.Meta(ge=0, le=5_000)] = 100
    languages: tuple[str, ...] = ("en",)
    engine: str | None = None


class ImageParser(Parser):
    """Pictures of text; each page of a TIFF is a page."""

    types = (TypeName("ImageParser", ImageConfig),)
    extensions = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"})
    mime_types = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff"})

    def warn(self, type_name: str, config: ImageConfig) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_overlap(config)
        return ()

    def parse(self, source: Source, config: ImageConfig) -> Document:
        if source.ocr is None:
            raise ProviderUnavailable("pictures are read inside of a server only")
        found = source.ocr.pages(source.path, None, Reading(languages=config.languages, engine=config.engine))
        parts: list[str] = []
        pages: list[Page] = []
        at = 0
        for number, page in sorted(found.items()):
            text = page.text.strip()
            if text:
                pages.append(Page(number, at, at + len(text)))
                parts.append(text)
                at += len(text) + 2
        if not parts:
            raise ValidationFailed("the picture holds no text that the OCR engine can read")
        sure = sum(page.confidence for page in found.values()) / len(found)
        metadata: dict[str, Json] = {"ocr": True, "ocr_confidence": round(sure, 3)}
        return Document(text="\n\n".join(parts), pages=pages, metadata=metadata)
