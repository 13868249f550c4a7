"""What each format promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from paddock_documents.samples import epub, msg, ods, pdf, pptx, scanned_pdf, xlsx
from paddock_documents.samples.rich import BODY, RICH_DOCX, RICH_MAIL, RICH_PDF, RICH_XLSX, TABLE

from paddock.contracts.providers import Document, Parser
from paddock.errors import ValidationFailed

Read = Callable[..., Document]


RUSSIAN = msg("Привет, мир. " * 9, codec="cp1251")


# --- PDF ---------------------------------------------------------------------------------------------------------------


def test_pages_are_counted_in_characters(read: Read) -> None:
    document = read("PDFParser_PyPDF2", "a.pdf", pdf([["Größe öäü ß."], ["zwei €"], ["drei"]]))
    assert [(page.number, document.text[page.start : page.end]) for page in document.pages] == [
        (1, "Größe öäü ß."),
        (2, "zwei €"),
        (3, "drei"),
    ]


def test_blank_pages_keep_the_numbers_of_the_others_and_are_told(read: Read) -> None:
    document = read("PDFParser_LlamaIndex", "a.pdf", pdf([["one"], [], ["three"]]))
    assert [page.number for page in document.pages] == [1, 3]
    assert document.warnings == ["pages without a text layer were left out (scans, or blank): 2"]


def test_a_scan_says_what_to_do(read: Read) -> None:
    for type_name in ("DocumentParser", "PDFParser_PyPDF2", "PDFParser_LlamaIndex"):
        with pytest.raises(ValidationFailed, match="has no text layer: it is a scan, or empty"):
            read(type_name, "a.pdf", scanned_pdf())


def test_what_stands_beside_the_text_of_a_pdf_is_read_when_asked(read: Read) -> None:
    document = read(
        "PDFParser_PyPDF2",
        "a.pdf",
        RICH_PDF,
        extract_annotations=True,
        extract_links=True,
        extract_outlines=True,
        extract_xmp_metadata=True,
    )
    assert "Note: a margin note" in document.text[: document.pages[0].end]
    assert document.metadata["title"] == "A title"
    assert document.metadata["links"] == ["https://example.org/x"]
    assert document.metadata["outline"] == ["Chapter 1 (page 1)", "Chapter 2 (page 2)"]
    assert document.metadata["xmp_subject"] == "told by XMP"


def test_tables_of_a_pdf_know_their_page(read: Read) -> None:
    assert [
        (table.page, table.rows) for table in read("PDFParser_LlamaIndex", "a.pdf", RICH_PDF).tables if table.page == 3
    ] == [(3, TABLE)]


def test_headings_of_a_pdf_make_sections_when_they_are_wanted(read: Read) -> None:
    document = read("DocumentParser", "a.pdf", RICH_PDF, chunk_strategy="headings")
    assert {"Größe", "Second part"} <= {section.title for section in document.sections}


def test_without_layout_wrapped_lines_and_parted_words_are_joined(read: Read) -> None:
    text = read("PDFParser_PyPDF2", "a.pdf", RICH_PDF, preserve_layout=False).text
    assert "is long enough to be wrapped. And so is another one 2." in text


# --- Office ------------------------------------------------------------------------------------------------------------


def test_word_headings_make_sections(read: Read) -> None:
    document = read("DocxParser_LlamaIndex", "a.docx", RICH_DOCX)
    assert [section.title for section in document.sections] == ["Heading one", "Heading two", "Heading three"]
    assert all(document.text[section.start :].lstrip("# ").startswith(section.title) for section in document.sections)
    assert document.tables[0].rows == [["a", "b"], ["cell", "2"]]


def test_running_heads_feet_and_comments_come_only_when_asked(read: Read) -> None:
    assert "RUNNING" not in read("DocxParser_LlamaIndex", "a.docx", RICH_DOCX).text
    text = read("DocxParser_PythonDocx", "a.docx", RICH_DOCX, extract_footers=True, extract_comments=True).text
    assert text.startswith("RUNNING HEAD\n\n")
    assert text.endswith("RUNNING FOOT\n\nComment by Reviewer: please check")


def test_sheets_become_records_that_name_their_sheet(read: Read) -> None:
    document = read("ExcelParser_Pandas", "a.xlsx", RICH_XLSX)
    assert document.records[0].text == "name: Jo\ntown: Köln\nn: 1"
    assert document.records[0].metadata == {"row": 1, "sheet": "One"}
    assert document.records[-1].metadata["sheet"] == "Two"
    assert document.metadata["sheets"] == ["One", "Two"]


def test_an_unknown_sheet_names_the_known(read: Read) -> None:
    for sheets in (["Three"], [2], [-1]):
        with pytest.raises(ValidationFailed, match="it has One, Two"):
            read("ExcelParser_Pandas", "a.xlsx", RICH_XLSX, sheets=sheets)


def test_formulas_find_their_cell_in_a_table_that_does_not_begin_at_a1(read: Read) -> None:
    moved = xlsx({"S": [["", "", ""], ["", "name", "n"], ["", "sum", ("1+2", "3")]]})
    assert (
        read("ExcelParser_OpenPyXL", "a.xlsx", moved, extract_formulas=True).records[0].text == "name: sum\nn: 3 (=1+2)"
    )
    assert read("ExcelParser_OpenPyXL", "a.xlsx", moved, data_only=False).records[0].text == "name: sum\nn: =1+2"


def test_formulas_of_another_format_are_a_warning(read: Read) -> None:
    assert read("ExcelParser_OpenPyXL", "a.ods", ods({"S": [["k"], ["v"]]}), extract_formulas=True).warnings


def test_slides_are_pages(read: Read) -> None:
    document = read("DocumentParser", "a.pptx", pptx([["Title öne", "a"], ["Two", "b"], ["Three", "c"]]))
    assert [(page.number, document.text[page.start : page.end]) for page in document.pages] == [
        (1, "Title öne\n\na"),
        (2, "Two\n\nb"),
        (3, "Three\n\nc"),
    ]


def test_chapters_of_a_book_are_sections(read: Read) -> None:
    document = read("DocumentParser", "a.epub", epub([("One", "text"), ("Two", "more")]))
    assert [section.title for section in document.sections] == ["One", "Two"]


# --- e-mail ------------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_message_are_sections(read: Read) -> None:
    for filename, data in (("a.eml", RICH_MAIL), ("a.msg", msg(BODY, attachments={"note.txt": b"attached words"}))):
        document = read("MsgParser_ExtractMsg", filename, data)
        assert [section.title for section in document.sections] == ["header", "body", "attachment note.txt"]
        assert document.metadata["attachments"] == ["note.txt"]


def test_an_old_message_is_read_with_the_encoding_that_is_told(read: Read) -> None:
    assert "Привет" in read("MsgParser_ExtractMsg", "r.msg", RUSSIAN, encoding="windows-1251").text


@pytest.mark.parametrize("encoding", ["klingon", "utf-16", "a\x00b"])
def test_an_encoding_without_code_page_is_refused(parsers: Mapping[str, Parser], encoding: str) -> None:
    with pytest.raises(ValidationFailed, match="encoding"):
        parsers["MsgParser_ExtractMsg"].configure("MsgParser_ExtractMsg", {"encoding": encoding})
