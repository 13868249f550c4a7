"""Documented defaults and bounds of every type name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from paddock.contracts.providers import Parser
from paddock.errors import ValidationFailed

OCR = {"ocr": "never", "ocr_languages": ["en"]}  # ours, beside the documented ones
NA = ["", "NA", "N/A", "null", "None"]
DOCUMENTED: dict[str, dict[str, Any]] = {
    "PDFParser_PyPDF2": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "paragraphs",
        "extract_metadata": True,
        "preserve_layout": True,
        "extract_page_info": True,
        "extract_annotations": False,
        "extract_links": False,
        "extract_form_fields": False,
        "extract_outlines": False,
        "extract_images": False,
        "extract_xmp_metadata": False,
        "clean_text": True,
        "combine_pages": False,
        **OCR,
    },
    "PDFParser_LlamaIndex": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "sentences",
        "extract_metadata": True,
        "extract_images": False,
        "extract_tables": True,
        "fallback_strategies": ["llama_pdf_reader", "llama_pymupdf_reader", "direct_pymupdf", "pypdf2_fallback"],
        **OCR,
    },
    "ExcelParser_OpenPyXL": {
        "chunk_size": 1000,
        "extract_formulas": False,
        "extract_metadata": True,
        "sheets": None,
        "data_only": True,
    },
    "ExcelParser_Pandas": {
        "chunk_size": 1000,
        "sheets": None,
        "extract_metadata": True,
        "skiprows": None,
        "na_values": NA,
    },
    "ExcelParser_LlamaIndex": {
        "chunk_size": 1000,
        "chunk_strategy": "rows",
        "sheets": None,
        "combine_sheets": False,
        "extract_metadata": True,
        "extract_formulas": False,
        "header_row": 0,
        "skiprows": None,
        "na_values": NA,
    },
    "DocxParser_PythonDocx": {
        "chunk_size": 1000,
        "chunk_strategy": "paragraphs",
        "extract_metadata": True,
        "extract_tables": True,
        "extract_headers": True,
        "extract_footers": False,
        "extract_comments": False,
    },
    "DocxParser_LlamaIndex": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "paragraphs",
        "extract_metadata": True,
        "extract_tables": True,
        "extract_images": False,
        "preserve_formatting": True,
        "include_header_footer": False,
    },
    "MsgParser_ExtractMsg": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "sentences",
        "extract_metadata": True,
        "extract_attachments": True,
        "extract_headers": True,
        "include_attachment_content": True,
        "clean_text": True,
        "preserve_formatting": False,
        "encoding": "auto",
    },
}


def test_documented_defaults_hold(parsers: Mapping[str, Parser]) -> None:
    assert set(parsers) == {*DOCUMENTED, "DocumentParser"}
    for type_name, defaults in DOCUMENTED.items():
        config = parsers[type_name].configure(type_name, {}).config
        assert msgspec.json.decode(msgspec.json.encode(config)) == defaults, type_name


def test_documented_bounds_hold(parsers: Mapping[str, Parser]) -> None:
    for type_name, parser in parsers.items():
        for value in (99, 10_000_000, "1000", None):
            with pytest.raises(ValidationFailed, match="chunk_size"):
                parser.configure(type_name, {"chunk_size": value})


def test_an_overlap_without_room_is_refused(parsers: Mapping[str, Parser]) -> None:
    with pytest.raises(ValidationFailed, match="chunk_overlap"):
        parsers["PDFParser_PyPDF2"].configure("PDFParser_PyPDF2", {"chunk_size": 100, "chunk_overlap": 100})
    with pytest.raises(ValidationFailed, match="skiprows"):
        parsers["ExcelParser_Pandas"].configure("ExcelParser_Pandas", {"skiprows": [-1]})
