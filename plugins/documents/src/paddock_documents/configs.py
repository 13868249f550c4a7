"""The options of every type name, with the defaults and bounds that LlamaFarm documents. Sizes in characters, or rows."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

ChunkSize = Annotated[int, msgspec.Meta(ge=100, le=50_000, description="characters of a chunk")]
ChunkOverlap = Annotated[int, msgspec.Meta(ge=0, le=5_000, description="characters repeated from the chunk before")]
RowSize = Annotated[int, msgspec.Meta(ge=100, le=1_000_000, description="rows of a chunk")]
SkipRows = int | list[int] | None
Sheets = list[str | int] | None

Ocr = Literal["never", "auto", "always"]
Languages = tuple[str, ...]

NA_VALUES = ("", "NA", "N/A", "null", "None")
PDF_FALLBACKS = ("llama_pdf_reader", "llama_pymupdf_reader", "direct_pymupdf", "pypdf2_fallback")


class DocumentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of DocumentParser. `rows_per_chunk` counts for spreadsheets, in place of size, overlap and strategy. `ocr` auto
    reads the pages of PDFs that have no text layer by OCR, always reads all of them so; `ocr_languages` are codes of ISO 639-1.
    """

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal[
        "paragraphs",
        "sentences",
        "sections",
        "headings",
        "pages",
        "characters",
        "semantic",
        "tokens",
        "email_sections",
        "full",
    ] = "paragraphs"
    rows_per_chunk: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 20
    extract_metadata: bool = True
    extract_tables: bool = True
    extract_links: bool = True
    include_attachments: bool = True
    ocr: Ocr = "never"
    ocr_languages: Languages = ("en",)


class PdfPyPDF2Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of PDFParser_PyPDF2; `ocr` as for DocumentParser."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["paragraphs", "sentences", "characters"] = "paragraphs"
    extract_metadata: bool = True
    preserve_layout: bool = True
    extract_page_info: bool = True
    extract_annotations: bool = False
    extract_links: bool = False
    extract_form_fields: bool = False
    extract_outlines: bool = False
    extract_images: bool = False
    extract_xmp_metadata: bool = False
    clean_text: bool = True
    combine_pages: bool = False
    ocr: Ocr = "never"
    ocr_languages: Languages = ("en",)


class PdfLlamaIndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of PDFParser_LlamaIndex; `ocr` as for DocumentParser."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["sentences", "paragraphs", "pages", "semantic"] = "sentences"
    extract_metadata: bool = True
    extract_images: bool = False
    extract_tables: bool = True
    fallback_strategies: tuple[str, ...] = PDF_FALLBACKS
    ocr: Ocr = "never"
    ocr_languages: Languages = ("en",)


class DocxPythonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of DocxParser_PythonDocx."""

    chunk_size: ChunkSize = 1000
    chunk_strategy: Literal["paragraphs", "sentences", "sections", "headings", "characters"] = "paragraphs"
    extract_metadata: bool = True
    extract_tables: bool = True
    extract_headers: bool = True
    extract_footers: bool = False
    extract_comments: bool = False


class DocxLlamaIndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of DocxParser_LlamaIndex."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["paragraphs", "sentences", "semantic"] = "paragraphs"
    extract_metadata: bool = True
    extract_tables: bool = True
    extract_images: bool = False
    preserve_formatting: bool = True
    include_header_footer: bool = False


class ExcelOpenPyXLConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ExcelParser_OpenPyXL."""

    chunk_size: RowSize = 1000
    extract_formulas: bool = False
    extract_metadata: bool = True
    sheets: Sheets = None
    data_only: bool = True


class ExcelPandasConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ExcelParser_Pandas."""

    chunk_size: RowSize = 1000
    sheets: Sheets = None
    extract_metadata: bool = True
    skiprows: SkipRows = None
    na_values: tuple[str, ...] = NA_VALUES


class ExcelLlamaIndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ExcelParser_LlamaIndex."""

    chunk_size: RowSize = 1000
    chunk_strategy: Literal["rows", "columns", "semantic", "full"] = "rows"
    sheets: Sheets = None
    combine_sheets: bool = False
    extract_metadata: bool = True
    extract_formulas: bool = False
    header_row: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    skiprows: SkipRows = None
    na_values: tuple[str, ...] = NA_VALUES


class MsgConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of MsgParser_ExtractMsg. `encoding` is that of old Outlook messages which don't name theirs."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["sentences", "paragraphs", "characters", "email_sections"] = "sentences"
    extract_metadata: bool = True
    extract_attachments: bool = True
    extract_headers: bool = True
    include_attachment_content: bool = True
    clean_text: bool = True
    preserve_formatting: bool = False
    encoding: Annotated[str, msgspec.Meta(max_length=40)] = "auto"
