"""What each format of the core promises, and what becomes of bad files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paddock.builtin.parsers import builtin_parsers
from paddock.contracts.providers import Document
from paddock.errors import ValidationFailed
from paddock.testing.parser import PROSE, Sample, check_document, store

PARSERS = {declared.name: parser for parser in builtin_parsers() for declared in parser.types}
MARKDOWN = (
    "---\ntitle: Hello there\ntags: [one, two]\n---\n# Top\n\nSome *marked* text with [a link](https://example.org/page).\n\n"
    "## Sub\n\nMore prose. "
    + PROSE
    + "\n| a | b |\n|---|---|\n| cell one | 2 |\n\n### Deep\n\n"
    + PROSE
    + "\n```python\n# no heading\nx = 1\n```\n\n# Last\n\n"
    + PROSE * 8
)
CSV = b'id,name,town\n1,"Smith, Jo",K\xc3\xb6ln\n2,NA,Paris\n3,"two\nlines",\n' + b"".join(
    b"%d,n%d,x\n" % (n, n) for n in range(150)
)
HTML = (
    b"<!doctype html><html lang='en'><head><title>Page &amp; title</title><meta name=description content='About it'>"
    b"<style>p { color: red }</style><script>if (1 < 2) document.write('<p>evil</p>')</script></head><body><!-- hidden -->"
    b"<h1>First <em>heading</em></h1><p>Words of   the <b>first</b> paragraph.<p>Second one with <a href='https://example.org/x?a=1&amp;b=2'>"
    b"a link</a> and <a href='javascript:alert(1)'>no link</a>.<h2>Second heading</h2><ul><li>apple<li>pear</ul>"
    b"<table><tr><th>Town<th>People</tr><tr><td>K&ouml;ln</td><td>1,000,000</td></tr></table><pre>kept\n  as is</pre>"
    b"</body></html>"
)


def parse(folder: Path, type_name: str, filename: str, data: bytes | str, **config: Any) -> Document:
    data = data.encode() if isinstance(data, str) else data
    parser = PARSERS[type_name]
    document = parser.parse(store(folder, Sample(filename, data)), parser.configure(type_name, config).config)
    check_document(document)
    return document


def refused(folder: Path, type_name: str, filename: str, data: bytes | str, **config: Any) -> str:
    with pytest.raises(ValidationFailed) as caught:
        parse(folder, type_name, filename, data, **config)
    return caught.value.message


# --- encodings ---------------------------------------------------------------------------------------------------------

GREETING = "Grüße aus Köln, “zitiert” — 100 €."


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_auto_recognises_an_encoding(tmp_path: Path, encoding: str) -> None:
    assert parse(tmp_path, "TextParser", "a.txt", GREETING.encode(encoding)).text == GREETING


def test_auto_reads_any_single_byte_text(tmp_path: Path) -> None:
    assert parse(tmp_path, "TextParser", "a.txt", "ab\x81cd".encode("latin-1")).text == "ab\x81cd"


def test_a_wrong_encoding_is_an_error_with_place_and_guess(tmp_path: Path) -> None:
    reason = refused(tmp_path, "TextParser_Python", "a.txt", GREETING.encode("cp1252"))
    assert reason == "the file is not valid utf-8 at byte 2; it looks like cp1252: set encoding, or encoding: auto"
    assert "utf-16" in refused(tmp_path, "TextParser_Python", "a.txt", GREETING.encode("utf-16"))


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    assert parse(tmp_path, "TextParser_Python", "a.txt", GREETING.encode("utf-8-sig")).text == GREETING


@pytest.mark.parametrize("encoding", ["klingon", "hex", "rot13", "punycode", "idna", "unicode_escape", "a\x00b"])
def test_what_is_no_text_encoding_is_refused_at_validation(encoding: str) -> None:
    for type_name in ("TextParser", "CSVParser", "JSONParser", "HTMLParser", "MarkdownParser"):
        with pytest.raises(ValidationFailed, match="encoding"):
            PARSERS[type_name].configure(type_name, {"encoding": encoding})


# --- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"abc\x00def" * 9, "NUL bytes"),
        (b"%PDF-1.7 x", "a PDF"),
        (b"PK\x03\x04xx", "ZIP"),
        (bytes(range(1, 9)) * 50, "binary"),
    ],
)
def test_binary_files_that_pose_as_text_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    for type_name, ending in (
        ("TextParser", ".txt"),
        ("CSVParser", ".csv"),
        ("MarkdownParser", ".md"),
        ("HTMLParser", ".html"),
        ("JSONParser", ".json"),
    ):
        assert reason in refused(tmp_path, type_name, "a" + ending, data)


def test_control_characters_and_lone_surrogates_never_reach_the_text(tmp_path: Path) -> None:
    assert parse(tmp_path, "TextParser", "a.txt", "a\x1b[31mred" + "x" * 99).text.startswith("a[31mred")
    assert parse(tmp_path, "JSONParser", "a.json", '{"a": "x\\ud800y\\u0000z"}').text == "a: x\ufffdyz"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, "[" * 150 + "1" + "]" * 150]
)
def test_deep_json_is_refused(tmp_path: Path, text: str) -> None:
    assert "100 levels" in refused(tmp_path, "JSONParser", "a.json", text)


def test_bad_json_names_the_place(tmp_path: Path) -> None:
    assert "at line 2 column 1" in refused(tmp_path, "JSONParser", "a.json", '{"a":\n}')
    assert "line 2 of JSON Lines" in refused(tmp_path, "JSONParser", "a.jsonl", '{"a": 1}\n{"a"\n')
    assert "too long" in refused(tmp_path, "JSONParser", "a.json", "[" + "9" * 5000 + "]")


def test_a_cell_without_end_is_refused(tmp_path: Path) -> None:
    assert "quotechar" in refused(tmp_path, "CSVParser", "a.csv", 'a,b\n1,"' + "x" * 17_000_000)


@pytest.mark.parametrize(
    "piece", ["<a", "<!--", "<![CDATA[", "</", '<a "', "<a b='>", "<table><td>", "<svg>", "<title>x", "&#99999999999;"]
)
def test_broken_html_of_a_megabyte_is_read_or_refused(tmp_path: Path, piece: str) -> None:
    source = store(tmp_path, Sample("a.html", ("<p>word" + piece * (1_000_000 // len(piece))).encode()))
    assert "word" in PARSERS["HTMLParser"].parse(source, PARSERS["HTMLParser"].types[0].config()).text


def test_a_line_of_many_megabytes_is_read_and_cut(tmp_path: Path) -> None:
    document = parse(tmp_path, "TextParser", "a.txt", "word" * 2_000_000)
    assert len(document.text) == 8_000_000


# --- formats -----------------------------------------------------------------------------------------------------------


def test_text_keeps_indents_and_loses_trailing_blanks(tmp_path: Path) -> None:
    assert (
        parse(tmp_path, "TextParser", "a.py", "def f():  \r\n    pass\r\n\r\n\r\n\r\nx").text
        == "def f():\n    pass\n\nx"
    )
    assert parse(tmp_path, "TextParser", "a.py", "def f():  \n", clean_text=False).text == "def f():  \n"


def test_front_matter_becomes_metadata(tmp_path: Path) -> None:
    document = parse(
        tmp_path,
        "MarkdownParser",
        "a.md",
        "---\ntitle: T\ndate: 2024-05-06\ntags: [a, b]\ndeep: {x: 1}\n---\n\nText.\n",
    )
    assert document.text == "Text."
    assert document.metadata == {"title": "T", "date": "2024-05-06", "tags": ["a", "b"]}


@pytest.mark.parametrize("block", ["a: [", "- x: {", "a: " + "[" * 3000, "a: &x 1\na: 2", "just words"])
def test_front_matter_that_is_no_mapping_stays_text_with_a_warning(tmp_path: Path, block: str) -> None:
    document = parse(tmp_path, "MarkdownParser", "a.md", f"---\n{block}\n---\nText.")
    assert block[:6] in document.text
    assert document.warnings


def test_front_matter_with_nested_aliases_stays_small(tmp_path: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert parse(tmp_path, "MarkdownParser", "a.md", f"---\n{bomb}---\nText.").metadata == {"a0": ["x", "x"]}


def test_markdown_headings_make_sections_but_not_in_code(tmp_path: Path) -> None:
    document = parse(tmp_path, "MarkdownParser", "a.md", MARKDOWN)
    assert [(item.level, item.title) for item in document.sections] == [
        (1, "Top"),
        (2, "Sub"),
        (3, "Deep"),
        (1, "Last"),
    ]
    assert document.text[document.sections[1].start :].startswith("## Sub")
    assert document.sections[0].end == document.sections[3].start


def test_underlined_and_closed_headings_count(tmp_path: Path) -> None:
    document = parse(tmp_path, "MarkdownParser", "a.md", "One\n===\ntext\n\nTwo\n---\n\n## Three ##\n#no heading\n")
    assert [(item.level, item.title) for item in document.sections] == [(1, "One"), (2, "Two"), (2, "Three")]


def test_markdown_tables_links_and_code_are_told(tmp_path: Path) -> None:
    document = parse(tmp_path, "MarkdownParser", "a.md", MARKDOWN)
    assert [table.rows for table in document.tables] == [[["a", "b"], ["cell one", "2"]]]
    assert document.metadata["links"] == ["https://example.org/page"]
    assert (document.metadata["code_blocks"], document.metadata["code_languages"]) == (1, ["python"])


def test_markup_goes_when_structure_is_not_wanted(tmp_path: Path) -> None:
    text = parse(
        tmp_path,
        "MarkdownParser",
        "a.md",
        "# Top\n\n- *one* [two](http://x.y)\n\n> `three`\n\n```\ncode\n```",
        preserve_structure=False,
    ).text
    assert text == "Top\n\none two\n\nthree\n\ncode"


def test_csv_rows_become_records_with_names(tmp_path: Path) -> None:
    document = parse(tmp_path, "CSVParser", "a.csv", CSV)
    assert document.records[0].text == "id: 1\nname: Smith, Jo\ntown: Köln"
    assert document.records[1].text == "id: 2\ntown: Paris"
    assert document.records[1].metadata == {"row": 2}
    assert document.metadata == {"columns": ["id", "name", "town"], "row_count": 153, "encoding": "utf-8"}
    assert document.tables[0].rows[2] == ["2", "NA", "Paris"]


def test_auto_delimiter_is_the_one_that_the_header_uses(tmp_path: Path) -> None:
    for delimiter in ",;\t|":
        assert parse(tmp_path, "CSVParser", "a.csv", f"a{delimiter}b\n1{delimiter}2\n").records[0].text == "a: 1\nb: 2"


def test_a_tsv_file_is_read_with_tabs_under_every_name(tmp_path: Path) -> None:
    for type_name in ("CSVParser", "CSVParser_Pandas", "CSVParser_Python", "CSVParser_LlamaIndex"):
        assert parse(tmp_path, type_name, "a.tsv", "a\tb\n1\t2\n").records[0].text == "a: 1\nb: 2"


def test_ragged_rows_and_a_lone_header_lose_nothing(tmp_path: Path) -> None:
    assert (
        parse(tmp_path, "CSVParser", "a.csv", "a,,c\n1\n1,2,3,4\n").records[1].text
        == "a: 1\ncolumn_2: 2\nc: 3\ncolumn_4: 4"
    )
    assert parse(tmp_path, "CSVParser", "a.csv", "only,header\n").text == "only | header"


def test_a_large_table_is_kept_only_for_columns(tmp_path: Path) -> None:
    data = "a,b\n" + "1,2\n" * 100_001
    assert not parse(tmp_path, "CSVParser", "a.csv", data).tables
    assert len(parse(tmp_path, "CSVParser", "a.csv", data, chunk_strategy="columns").tables[0].rows) == 100_002


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"delimiter": "ab"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"quotechar": "\r"}, "quotechar"),
        ({"skiprows": -1}, "skiprows"),
        ({"skiprows": [0, -2]}, "skiprows"),
        ({"chunk_overlap": 20}, "chunk_overlap"),
        ({"chunk_size": 0}, "chunk_size"),
    ],
)
def test_csv_options_that_make_no_sense_are_refused(config: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        PARSERS["CSVParser"].configure("CSVParser", config)
    assert [error.field for error in caught.value.errors] == [field]


def test_json_paths_lead_to_every_value(tmp_path: Path) -> None:
    text = parse(tmp_path, "JSONParser", "a.json", '{"a": 1, "b": {"c": [true, {"d": "x"}], "e": null}, "f": ""}').text
    assert text == "a: 1\n\nb.c[0]: true\nb.c[1].d: x"


def test_json_items_are_paragraphs(tmp_path: Path) -> None:
    assert parse(tmp_path, "JSONParser", "a.json", '[{"a": 1, "b": 2}, {"a": 3}]').text == "a: 1\nb: 2\n\na: 3"


def test_html_drops_scripts_and_finds_structure(tmp_path: Path) -> None:
    document = parse(tmp_path, "HTMLParser", "a.html", HTML)
    assert not any(word in document.text for word in ("evil", "color", "hidden", "<", "document.write"))
    assert [(item.level, item.title) for item in document.sections] == [(1, "First heading"), (2, "Second heading")]
    assert document.text[document.sections[1].start :].startswith("Second heading\n\n- apple\n- pear")
    assert document.tables[0].rows == [["Town", "People"], ["Köln", "1,000,000"]]
    assert document.metadata == {
        "language": "en",
        "title": "Page & title",
        "description": "About it",
        "links": ["https://example.org/x?a=1&b=2"],
    }


def test_html_declares_its_encoding(tmp_path: Path) -> None:
    page = "<meta charset=iso-8859-2><p>Łódź"
    assert parse(tmp_path, "HTMLParser", "a.html", page.encode("iso-8859-2")).text == "Łódź"
    lie = "<meta charset=ascii><p>Łódź"
    assert parse(tmp_path, "HTMLParser", "a.html", lie).text == "Łódź"


def test_html_without_words_is_refused(tmp_path: Path) -> None:
    assert "no readable text" in refused(tmp_path, "HTMLParser", "a.html", "<script>x()</script><p></p>")
