"""The parsers of this plugin: one for each family of LlamaFarm's type names, and DocumentParser for all formats."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import ChunkOptions, Document, Parser, Source, TypeName
from paddock.errors import FieldError, ValidationFailed
from paddock_documents import configs
from paddock_documents.formats import Family, endings, mimes, recognise
from paddock_documents.mail import MailWishes, message
from paddock_documents.prose import PageStyle, Wanted, flowing, mark_headings, paged
from paddock_documents.readers import Readers
from paddock_documents.scans import note_scans, read_scans
from paddock_documents.sheets import SheetWishes, tabular
from paddock_documents.wire import Extracted, Request

# Options that are known and do nothing here, with the reason.
_IDLE = {
    "extract_form_fields": "form fields are not read, so it changes nothing",
    "extract_images": "images inside documents are not kept, so it changes nothing",
    "fallback_strategies": "there is one reader for all PDFs, so it changes nothing",
}

_CODE_PAGES = {
    "utf-8": None,
    "iso8859-1": 1252,
    "shift_jis": 932,
    "gbk": 936,
    "gb2312": 936,
    "euc_kr": 949,
    "big5": 950,
    "koi8-r": 20866,
}


class ReadingParser(Parser):
    """Base: what is read in a helper process, and the checks that all options share."""

    families: ClassVar[tuple[Family, ...]] = ("pdf", "prose", "sheets", "slides", "mail")
    usual: ClassVar[str] = ".pdf"

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    async def close(self) -> None:
        """End the helper processes, which all parsers of the plugin share."""
        self._readers.close()

    def read(self, source: Source, mime: str, **wishes: Any) -> Extracted:
        """Read in a helper process. Raises ValidationFailed with the reason."""
        settings = self._readers.settings
        return self._readers.read(
            Request(
                path=str(source.path),
                mime=mime,
                timeout=settings.timeout_seconds,
                max_bytes=settings.max_mb * 1024**2,
                **wishes,
            )
        )

    def chunking(self, source: Source, config: Any) -> ChunkOptions:
        options = super().chunking(source, config)
        return msgspec.structs.replace(options, strategy="full") if getattr(config, "combine_pages", False) else options

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        if getattr(config, "chunk_overlap", 0) >= config.chunk_size:
            reason = f"must be smaller than chunk_size ({config.chunk_size})"
            raise ValidationFailed.of([FieldError("chunk_overlap", reason)])
        fresh = type(config)()
        found = [
            f"{name}: {reason}"
            for name, reason in _IDLE.items()
            if hasattr(config, name) and getattr(config, name) != getattr(fresh, name)
        ]
        if getattr(config, "ocr", "") == "never" and config.ocr_languages != fresh.ocr_languages:
            found.append("ocr_languages: has no effect with ocr never")
        whole = "combine_pages" if getattr(config, "combine_pages", False) else None
        whole = "chunk_strategy full" if getattr(config, "chunk_strategy", "") == "full" else whole
        if whole:
            found += [
                f"{name}: has no effect with {whole}"
                for name in ("chunk_size", "chunk_overlap")
                if hasattr(config, name) and getattr(config, name) != getattr(fresh, name)
            ]
        return found


class DocumentParser(ReadingParser):
    """Every format of this plugin, with sensible defaults for each."""

    types = (TypeName("DocumentParser", configs.DocumentConfig),)
    extensions = endings()
    mime_types = mimes()

    def parse(self, source: Source, config: configs.DocumentConfig) -> Document:
        mime, family = recognise(source, self.families, self.usual)
        structure = config.chunk_strategy in ("sections", "headings")
        found = self.read(source, mime, structure=structure, annotations=config.extract_links)
        scans = read_scans(found, source, config.ocr, config.ocr_languages) if family == "pdf" else []
        document = self._document(found, family, config)
        if structure and not document.sections and family in ("pdf", "slides"):
            mark_headings(document, found)
        if config.extract_metadata:
            document.metadata |= found.facts
        if config.extract_links and found.links:
            document.metadata["links"] = list[Json](found.links)
        note_scans(document, scans)
        return document

    def _document(self, found: Extracted, family: Family, config: configs.DocumentConfig) -> Document:
        if family == "sheets":
            return tabular(found, SheetWishes())
        if family == "mail":
            return message(found, MailWishes(attachments=config.include_attachments))
        if family == "prose":
            return flowing(found, Wanted(tables=config.extract_tables))
        return paged(found, PageStyle(), tables=config.extract_tables, scans=family == "pdf")

    def chunking(self, source: Source, config: configs.DocumentConfig) -> ChunkOptions:
        if recognise(source, self.families, self.usual)[1] == "sheets":
            return ChunkOptions(strategy="rows", size=config.rows_per_chunk)
        return super().chunking(source, config)


class PDFParser(ReadingParser):
    """PDFs with a text layer: pages with their numbers."""

    types = (
        TypeName("PDFParser_PyPDF2", configs.PdfPyPDF2Config),
        TypeName("PDFParser_LlamaIndex", configs.PdfLlamaIndexConfig),
    )
    extensions = endings("pdf")
    mime_types = mimes("pdf")
    families = ("pdf",)

    def parse(self, source: Source, config: Any) -> Document:
        mime, _ = recognise(source, self.families, self.usual)
        notes, xmp = getattr(config, "extract_annotations", False), getattr(config, "extract_xmp_metadata", False)
        found = self.read(source, mime, annotations=notes or getattr(config, "extract_links", False), xmp=xmp)
        scans = read_scans(found, source, config.ocr, config.ocr_languages)
        style = PageStyle(
            clean=getattr(config, "clean_text", True),
            layout=getattr(config, "preserve_layout", True),
            numbers=getattr(config, "extract_page_info", True),
            notes=notes,
        )
        document = paged(found, style, tables=getattr(config, "extract_tables", True))
        document.metadata = self._metadata(found, config)
        note_scans(document, scans)
        if xmp and not found.xmp:
            document.warnings.append("the file has no XMP packet that is stored readably")
        return document

    def _metadata(self, found: Extracted, config: Any) -> dict[str, Json]:
        metadata = dict(found.facts) if config.extract_metadata else {}
        metadata |= {f"xmp_{key}": text for key, text in found.xmp.items()}
        if getattr(config, "extract_links", False) and found.links:
            metadata["links"] = list[Json](found.links)
        if getattr(config, "extract_outlines", False) and found.outline:
            metadata["outline"] = list[Json](found.outline)
        return metadata


class DocxParser(ReadingParser):
    """Word documents. They hold no pages: where a page ends is decided by who prints them."""

    types = (
        TypeName("DocxParser_PythonDocx", configs.DocxPythonConfig),
        TypeName("DocxParser_LlamaIndex", configs.DocxLlamaIndexConfig),
    )
    extensions = frozenset({".docx", ".docm", ".dotx", ".doc"})
    mime_types = frozenset(
        {"application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/msword"}
    )
    families = ("prose",)
    usual = ".docx"

    def parse(self, source: Source, config: Any) -> Document:
        mime, _ = recognise(source, self.families, self.usual)
        found = self.read(source, mime, comments=getattr(config, "extract_comments", False))
        both = getattr(config, "include_header_footer", False)
        document = flowing(
            found,
            Wanted(
                tables=config.extract_tables,
                headers=getattr(config, "extract_headers", both),
                footers=getattr(config, "extract_footers", both),
                marks=getattr(config, "preserve_formatting", True),
            ),
        )
        if config.extract_metadata:
            document.metadata = dict(found.facts)
        return document


class ExcelParser(ReadingParser):
    """Spreadsheets; sizes count rows. Formulas are read from .xlsx and .xlsm."""

    types = (
        TypeName("ExcelParser_OpenPyXL", configs.ExcelOpenPyXLConfig),
        TypeName("ExcelParser_Pandas", configs.ExcelPandasConfig),
        TypeName("ExcelParser_LlamaIndex", configs.ExcelLlamaIndexConfig),
    )
    extensions = endings("sheets")
    mime_types = mimes("sheets")
    families = ("sheets",)
    usual = ".xlsx"
    usual_strategy = "rows"

    def parse(self, source: Source, config: Any) -> Document:
        mime, _ = recognise(source, self.families, self.usual)
        instead = not getattr(config, "data_only", True)
        wanted = instead or getattr(config, "extract_formulas", False)
        found = self.read(source, mime, formulas=wanted)
        document = tabular(
            found,
            SheetWishes(
                sheets=config.sheets,
                combine=getattr(config, "combine_sheets", False),
                header_row=getattr(config, "header_row", 0),
                skiprows=getattr(config, "skiprows", None),
                na_values=getattr(config, "na_values", configs.NA_VALUES),
                formulas="instead" if instead else "both" if wanted else "values",
            ),
        )
        if wanted and not found.formulas:
            document.warnings.append("no formula was found: they are read from .xlsx and .xlsm files only")
        if config.extract_metadata:
            document.metadata = {
                **found.facts,
                "sheets": list[Json](found.sheets[:100]),
                "row_count": len(document.records),
            }
        return document

    def warn(self, type_name: str, config: Any) -> Iterable[str]:
        skiprows = getattr(config, "skiprows", None)
        if any(number < 0 for number in (skiprows if isinstance(skiprows, list) else [skiprows or 0])):
            raise ValidationFailed.of(
                [FieldError("skiprows", "rows count from 0: use a number of rows, or a list of them")]
            )
        found = list(super().warn(type_name, config))
        if not getattr(config, "data_only", True) and getattr(config, "extract_formulas", False):
            found.append(
                "extract_formulas: has no effect with data_only false, which shows formulas in place of values"
            )
        return found


class MsgParser(ReadingParser):
    """E-mail messages, Outlook's and others."""

    types = (TypeName("MsgParser_ExtractMsg", configs.MsgConfig),)
    extensions = endings("mail")
    mime_types = mimes("mail")
    families = ("mail",)
    usual = ".msg"

    def parse(self, source: Source, config: configs.MsgConfig) -> Document:
        mime, _ = recognise(source, self.families, self.usual)
        found = self.read(source, mime, codepage=codepage(config.encoding))
        document = message(
            found,
            MailWishes(
                headers=config.extract_headers,
                attachments=config.extract_attachments and config.include_attachment_content,
                clean=config.clean_text,
                formatting=config.preserve_formatting,
            ),
        )
        if config.extract_metadata:
            document.metadata = {key: value for key, value in found.facts.items() if key != "attachments"}
        if config.extract_attachments and (names := found.facts.get("attachments")):
            document.metadata["attachments"] = names
        return document

    def warn(self, type_name: str, config: configs.MsgConfig) -> Iterable[str]:
        codepage(config.encoding)
        found = list(super().warn(type_name, config))
        if not config.include_attachment_content and not config.extract_attachments:
            found.append("include_attachment_content: has no effect with extract_attachments false")
        return found


def codepage(encoding: str) -> int | None:
    """The Windows code page of an encoding's name; None for auto and for what messages name themselves (UTF-8).

    Raises ValidationFailed for names without a code page.
    """
    if encoding.lower() == "auto":
        return None
    try:
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise ValidationFailed.of(
            [FieldError("encoding", f"unknown encoding {encoding!r}: use auto, cp1251 …")]
        ) from error
    if name in _CODE_PAGES:
        return _CODE_PAGES[name]
    if page := re.fullmatch(r"cp(\d{3,5})", name):
        return int(page[1])
    raise ValidationFailed.of([FieldError("encoding", f"{encoding} has no Windows code page: use auto, cp1251 …")])


def all_parsers(readers: Readers) -> list[Parser]:
    """Every parser of the plugin, over the same helper processes."""
    return [DocumentParser(readers), PDFParser(readers), DocxParser(readers), ExcelParser(readers), MsgParser(readers)]


__all__ = ["DocumentParser", "DocxParser", "ExcelParser", "MsgParser", "PDFParser", "all_parsers"]
