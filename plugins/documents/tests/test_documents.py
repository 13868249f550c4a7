"""The suite over each parser of the plugin, and every documented option."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from paddock_documents.samples import docx, epub, msg, ods, odt, pdf, pptx, rtf, xlsx
from paddock_documents.samples.rich import BODY, RICH_DOCX, RICH_MAIL, RICH_PDF, RICH_XLSX, ROWS, SPLIT

from paddock.contracts.providers import PageText, Parser, Reading, TextReader
from paddock.errors import ValidationFailed
from paddock.testing.parser import Option, ParserSuite, Sample, store

# A page with a text layer, and one that has next to none: a scan with its number printed on it.
STAMPED = Sample("s.pdf", pdf([["The first page is made of letters."], ["Page 2"]]), ("made of letters",))


class TestPDF(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "short": Sample(
            "b.pdf", pdf([["One is first. Two words here.", f"Three of page {at}. Four."] for at in range(9)])
        ),
        "stamped": STAMPED,
        "rich": Sample("a.pdf", RICH_PDF, ("Größe", "number 1 of this", "end of page two", "Cologne")),
    }
    options: ClassVar[Sequence[Option]] = (
        Option("chunk_size", 200, "rich"),
        Option("chunk_overlap", 10, "rich"),
        *(Option("chunk_strategy", name, "rich", SPLIT) for name in ("characters", "pages", "semantic")),
        Option("chunk_strategy", "sentences", "short", SPLIT),
        Option("chunk_strategy", "paragraphs", "short", SPLIT),
        *(
            Option(name, False, "rich")
            for name in ("extract_metadata", "preserve_layout", "extract_page_info", "clean_text", "extract_tables")
        ),
        *(
            Option(name, True, "rich")
            for name in ("extract_annotations", "extract_links", "extract_outlines", "extract_xmp_metadata")
        ),
        Option("ocr", "auto", "stamped"),
        Option("ocr", "always", "short"),
        Option("ocr_languages", ["de", "fr"], "short", {"ocr": "always"}),
        Option("ocr_languages", ["de"], warns=True),
        Option("extract_form_fields", True, warns=True),
        Option("extract_images", True, warns=True),
        Option("fallback_strategies", ["direct_pymupdf"], warns=True),
        Option("combine_pages", True, "rich"),
        Option("chunk_size", 200, given={"combine_pages": True}, warns=True, types=("PDFParser_PyPDF2",)),
    )

    @pytest.fixture
    def parser(self, parsers: Mapping[str, Parser]) -> Parser:
        return parsers["PDFParser_PyPDF2"]


class TestDocx(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "table": Sample(
            "b.docx", docx(["Before."], table=[["A sentence. More of", f"it, row {at}."] for at in range(60)])
        ),
        "rich": Sample("a.docx", RICH_DOCX, ("Heading two", "ümläuts", "cell | 2")),
    }
    options: ClassVar[Sequence[Option]] = (
        Option("chunk_size", 200, "rich"),
        Option("chunk_overlap", 10, "rich"),
        *(Option("chunk_strategy", name, "rich", SPLIT) for name in ("sentences", "characters")),
        Option("chunk_strategy", "semantic", "table", SPLIT),
        *(Option("chunk_strategy", name, "rich", {"chunk_size": 1000}) for name in ("sections", "headings")),
        *(
            Option(name, False, "rich")
            for name in ("extract_metadata", "extract_tables", "extract_headers", "preserve_formatting")
        ),
        *(Option(name, True, "rich") for name in ("extract_footers", "extract_comments", "include_header_footer")),
        Option("extract_images", True, warns=True),
    )

    @pytest.fixture
    def parser(self, parsers: Mapping[str, Parser]) -> Parser:
        return parsers["DocxParser_PythonDocx"]


class TestExcel(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "rich": Sample("a.xlsx", RICH_XLSX, ("town: Köln", "n: 2.5", "n: 3.5", "n149")),
        "small": Sample("b.xlsx", xlsx({"A": ROWS, "B": ROWS}), ("Köln",)),
    }
    options: ClassVar[Sequence[Option]] = (
        Option("chunk_size", 100, "rich"),
        *(Option("chunk_strategy", name, "rich") for name in ("columns", "semantic", "full")),
        Option("sheets", ["Two"], "rich"),
        Option("sheets", [0], "rich"),
        Option("combine_sheets", True, "rich"),
        Option("header_row", 1, "rich"),
        Option("skiprows", 1, "rich"),
        Option("skiprows", [1], "rich"),
        Option("na_values", ["Paris"], "rich"),
        Option("extract_metadata", False, "rich"),
        Option("extract_formulas", True, "rich"),
        Option("data_only", False, "rich"),
        Option("extract_formulas", True, given={"data_only": False}, warns=True, types=("ExcelParser_OpenPyXL",)),
    )

    @pytest.fixture
    def parser(self, parsers: Mapping[str, Parser]) -> Parser:
        return parsers["ExcelParser_OpenPyXL"]


class TestMsg(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "mail": Sample("a.eml", RICH_MAIL, ("Subject: A subject", "Dear Bob", "attached words")),
        "outlook": Sample("a.msg", msg(BODY, attachments={"n.txt": b"in the file"}), ("Dear Bob", "in the file")),
        "russian": Sample("r.msg", msg("Привет, мир. " * 9, codec="cp1251"), ("A subject",)),
    }
    options: ClassVar[Sequence[Option]] = (
        Option("chunk_size", 200, "mail"),
        Option("chunk_overlap", 10, "mail", {"chunk_size": 300}),
        *(Option("chunk_strategy", name, "mail", SPLIT) for name in ("paragraphs", "characters", "email_sections")),
        *(
            Option(name, False, "mail")
            for name in (
                "extract_metadata",
                "extract_attachments",
                "extract_headers",
                "include_attachment_content",
                "clean_text",
            )
        ),
        Option("preserve_formatting", True, "mail"),
        Option("encoding", "cp1251", "russian"),
        Option("include_attachment_content", False, given={"extract_attachments": False}, warns=True),
    )

    @pytest.fixture
    def parser(self, parsers: Mapping[str, Parser]) -> Parser:
        return parsers["MsgParser_ExtractMsg"]


class TestDocument(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "pdf": TestPDF.samples["rich"],
        "short": TestPDF.samples["short"],
        "stamped": STAMPED,
        "docx": TestDocx.samples["rich"],
        "xlsx": TestExcel.samples["rich"],
        "mail": TestMsg.samples["mail"],
        "pptx": Sample("a.pptx", pptx([["Title öne", "line a"], ["Title two", "line b"]]), ("Title öne", "line b")),
        "odt": Sample("a.odt", odt(["Para öne", "Para two"]), ("Para öne", "Para two")),
        "ods": Sample("a.ods", ods({"S": [["k", "l"], ["v", "w"]]}), ("k: v", "l: w")),
        "epub": Sample(
            "a.epub", epub([("Chapter one", "Text öne"), ("Chapter two", "Text two")]), ("Text öne", "Chapter two")
        ),
        "rtf": Sample("a.rtf", rtf(["Para öne", "Para two"]), ("Para öne", "Para two")),
        "notebook": Sample(
            "a.ipynb",
            b'{"cells": [{"cell_type": "markdown", "source": ["# Hi\\n", "text"], "metadata": {}}], "metadata": {},'
            b' "nbformat": 4, "nbformat_minor": 5}',
            ("Hi", "text"),
        ),
        "fb2": Sample(
            "a.fb2",
            b'<?xml version="1.0"?><FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0"><body><section>'
            b"<title><p>Part</p></title><p>of a book</p></section></body></FictionBook>",
            ("Part", "of a book"),
        ),
    }
    options: ClassVar[Sequence[Option]] = (
        Option("chunk_size", 200, "pdf"),
        Option("chunk_overlap", 10, "pdf"),
        *(
            Option("chunk_strategy", name, "pdf", SPLIT)
            for name in ("pages", "characters", "semantic", "tokens", "full")
        ),
        *(Option("chunk_strategy", name, "docx") for name in ("sections", "headings")),
        Option("chunk_strategy", "email_sections", "mail"),
        Option("chunk_strategy", "sentences", "short", SPLIT),
        Option("ocr", "auto", "stamped"),
        Option("ocr", "always", "short"),
        Option("ocr_languages", ["de", "fr"], "short", {"ocr": "always"}),
        Option("ocr_languages", ["de"], warns=True),
        Option("rows_per_chunk", 5, "xlsx"),
        *(Option(name, False, "pdf") for name in ("extract_metadata", "extract_tables", "extract_links")),
        Option("include_attachments", False, "mail"),
    )

    @pytest.fixture
    def parser(self, parsers: Mapping[str, Parser]) -> Parser:
        return parsers["DocumentParser"]


class NothingRead(TextReader):
    """OCR that finds no text on any page."""

    def pages(self, path: Path, numbers: Sequence[int] | None, reading: Reading) -> dict[int, PageText]:
        return {number: PageText(text="", confidence=0.0, lines=[]) for number in numbers or [1]}


def test_a_scan_on_which_ocr_finds_nothing_is_not_told_to_use_ocr(
    parsers: Mapping[str, Parser], tmp_path: Path
) -> None:
    parser = parsers["PDFParser_PyPDF2"]
    source = msgspec.structs.replace(store(tmp_path, Sample("s.pdf", pdf([[]]))), ocr=NothingRead())
    with pytest.raises(ValidationFailed, match="with ocr: auto"):
        parser.parse(source, parser.configure("PDFParser_PyPDF2", {}).config)
    with pytest.raises(ValidationFailed, match="OCR found no text"):
        parser.parse(source, parser.configure("PDFParser_PyPDF2", {"ocr": "auto"}).config)
