"""Parsers of the core: the suite over each, what each format promises, and proofs that the suite can fail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from paddock.builtin.parsers import AutoParser, builtin_parsers, choose_parser
from paddock.contracts.providers import ChunkOptions, Document, Parser, Reading, Source, TypeName
from paddock.errors import ValidationFailed
from paddock.testing.parser import PROSE, Option, ParserSuite, Sample, store

PARSERS = {declared.name: parser for parser in builtin_parsers() for declared in parser.types}

LONG = PROSE * 8
SPLIT = {"chunk_size": 350, "chunk_overlap": 0}
LINES = "".join(f"Line {number} starts here. It goes on\n" for number in range(60))
GERMAN = "Straßenbahnhaltestelle übermäßig. " * 60
CODE = "import os\n\n\n" + "".join(f"def f{number}(x):\n    a = {number}\n\n    return a\n\n\n" for number in range(30))
MARKDOWN = (
    "---\ntitle: Hello there\ntags: [one, two]\n---\n# Top\n\nSome *marked* text with [a link](https://example.org/page).\n\n"
    "## Sub\n\nMore prose. "
    + PROSE
    + "\n| a | b |\n|---|---|\n| cell one | 2 |\n\n### Deep\n\n"
    + PROSE
    + "\n```python\n# no heading\nx = 1\n```\n\n# Last\n\n"
    + LONG
)
CSV = b'id,name,town\n1,"Smith, Jo",K\xc3\xb6ln\n2,NA,Paris\n3,"two\nlines",\n' + b"".join(
    b"%d,n%d,x\n" % (n, n) for n in range(150)
)
HTML = (
    "<!doctype html><html lang='en'><head><title>Page &amp; title</title><meta name=description content='About it'>"
    "<style>p { color: red }</style><script>if (1 < 2) document.write('<p>evil</p>')</script></head><body><!-- hidden -->"
    "<h1>First <em>heading</em></h1><p>Words of   the <b>first</b> paragraph.<p>Second one with <a href='https://example.org/x?a=1&amp;b=2'>"
    "a link</a> and <a href='javascript:alert(1)'>no link</a>.<h2>Second heading</h2><ul><li>apple<li>pear</ul>"
    "<table><tr><th>Town<th>People</tr><tr><td>K&ouml;ln</td><td>1,000,000</td></tr></table><pre>kept\n  as is</pre>"
    + "".join(f"<p>{line}</p>" for line in LONG.split("\n\n"))
    + "</body></html>"
).encode()
JSON = msgspec.json.encode(
    {
        "name": "Jo",
        "age": 3,
        "tags": ["red apple", "blue. Sky."],
        "nested": {"deep": [{"x": 1.5}, None, True]},
        "prose": LONG,
        "more": [LONG],
    }
)

STRATEGIES = {
    "characters": LONG,
    "sentences": LONG,
    "paragraphs": LONG,
    "tokens": LONG,
    "semantic": LONG,
    "full": LONG,
    "code": CODE,
}


class TestText(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "prose": Sample("a.txt", LONG.encode(), ("First words", "ümläuts", "👩‍🚀")),
        "code": Sample("a.py", CODE.encode(), ("def f29", "import os")),
        "lines": Sample("lines.txt", LINES.encode(), ("Line 59",)),
        "german": Sample("german.txt", GERMAN.encode()),
        "messy": Sample("messy.log", b"one  \r\n\r\n\r\n\r\n\xe2\x80\x8btwo\r\n", ("one", "two")),
    }
    options = (
        Option("chunk_size", 200, "prose"),
        Option("chunk_overlap", 30, "prose", SPLIT),
        *(Option("chunk_strategy", name, "prose", SPLIT) for name in ("characters", "sentences", "tokens", "full")),
        Option("chunk_strategy", "semantic", "lines", SPLIT),
        Option("chunk_strategy", "paragraphs", "lines", SPLIT, types=("TextParser_LlamaIndex",)),
        Option("chunk_strategy", "paragraphs", "prose", SPLIT, types=("TextParser", "TextParser_Python")),
        Option("chunk_strategy", "code", "code", {"chunk_size": 220, "chunk_overlap": 0}),
        Option("encoding", "utf-16", "prose"),
        Option("clean_text", False, "messy"),
        Option("extract_metadata", False, "prose"),
        Option("detect_language", False, "code"),
        Option("token_model", "gpt-4o", "german", {"chunk_size": 100, "chunk_overlap": 0, "chunk_strategy": "tokens"}),
        Option("token_model", "gpt-4o", warns=True),
        Option("preserve_code_structure", False, "code", {"chunk_strategy": "code", "chunk_size": 200}),
        Option("preserve_code_structure", False, warns=True),
        Option("include_prev_next_rel", True, "prose"),
        Option("include_prev_next_rel", False, "prose"),
        Option("semantic_buffer_size", 3, warns=True),
        Option("semantic_breakpoint_percentile_threshold", 80, warns=True),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        return PARSERS["TextParser"]


class TestMarkdown(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "page": Sample("page.md", MARKDOWN.encode(), ("marked", "cell one", "x = 1", "Last"))
    }
    options = (
        Option("chunk_size", 200, "page"),
        Option("chunk_overlap", 30, "page", SPLIT),
        *(
            Option("chunk_strategy", name, "page", SPLIT)
            for name in ("sections", "paragraphs", "sentences", "characters", "tokens", "semantic", "full")
        ),
        Option("encoding", "utf-16", "page"),
        Option("chunk_strategy", "headings", "page"),
        *(
            Option(name, False, "page")
            for name in (
                "extract_metadata",
                "extract_code_blocks",
                "extract_tables",
                "extract_links",
                "preserve_structure",
            )
        ),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        return PARSERS["MarkdownParser"]


class TestCSV(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "table": Sample("t.csv", CSV, ("Smith, Jo", "Köln", "Paris", "two\nlines", "n149")),
        "semicolons": Sample("s.csv", b"a;b\n1;'x;y'\n", ("x",)),
    }
    options = (
        Option("chunk_size", 100, "table"),
        Option("chunk_overlap", 5, "table"),
        *(Option("chunk_strategy", name, "table") for name in ("columns", "semantic")),
        Option("chunk_strategy", "full", "table", {"chunk_size": 100}),
        Option("chunk_overlap", 2, given={"chunk_strategy": "full"}, warns=True),
        Option("encoding", "latin-1", "table"),
        Option("delimiter", ";", "table"),
        Option("quotechar", "'", "semicolons", {"delimiter": ";"}),
        Option("skiprows", 1, "table"),
        Option("skiprows", [2], "table"),
        Option("na_values", ["Paris"], "table"),
        Option("field_mapping", {"town": "city"}, "table"),
        Option("combine_fields", False, "table"),
        Option("extract_metadata", False, "table"),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        return PARSERS["CSVParser"]


class TestJSON(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "object": Sample("a.json", JSON, ("name: Jo", "nested.deep[0].x: 1.5", "tags[0]: red apple")),
        "lines": Sample(
            "a.jsonl", b'{"a": "one. Two. %s. Last"}\n\n["two", 3]\n' % (b"long " * 50) * 4, ("a: one", "[0]: two")
        ),
    }
    options = (
        Option("chunk_size", 200, "object"),
        Option("chunk_overlap", 30, "object", SPLIT),
        *(Option("chunk_strategy", name, "object", SPLIT) for name in ("characters", "tokens", "semantic", "full")),
        Option("chunk_strategy", "sentences", "lines", SPLIT),
        Option("encoding", "latin-1", "object"),
        Option("extract_metadata", False, "object"),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        return PARSERS["JSONParser"]


class TestHTML(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "page": Sample(
            "a.html",
            HTML,
            ("First heading", "Words of the first paragraph.", "Köln | 1,000,000", "- pear", "kept\n  as is"),
        )
    }
    options = (
        Option("chunk_size", 200, "page"),
        Option("chunk_overlap", 30, "page", SPLIT),
        *(
            Option("chunk_strategy", name, "page", SPLIT)
            for name in ("paragraphs", "sentences", "characters", "tokens", "semantic", "full")
        ),
        Option("encoding", "latin-1", "page"),
        Option("chunk_strategy", "headings", "page", {"chunk_size": 5000}),
        *(Option(name, False, "page") for name in ("extract_metadata", "extract_tables", "extract_links")),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        return PARSERS["HTMLParser"]


class ScanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of `ScanParser`."""

    ocr: str = "never"
    ocr_languages: tuple[str, ...] = ("en",)


class ScanParser(Parser):
    """Files of a kind that OCR can read."""

    types = (TypeName("ScanParser", ScanConfig),)
    extensions = frozenset({".scan"})

    def parse(self, source: Source, config: ScanConfig) -> Document:
        if not source.path.read_bytes().startswith(b"%PDF"):
            raise ValidationFailed("is no scan")
        if config.ocr == "never" or source.ocr is None:
            return Document(text="Only the stamp.")
        read = source.ocr.pages(source.path, None, Reading(languages=config.ocr_languages))
        return Document(text=f"The stamp. {read[1].text}")


class TestAuto(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {
        "prose": TestText.samples["prose"],
        "page": TestHTML.samples["page"],
        "table": TestCSV.samples["table"],
        "markdown": TestMarkdown.samples["page"],
        "object": TestJSON.samples["object"],
        "scan": Sample("a.scan", b"%PDF with a stamp", ("stamp",)),
    }
    options = (
        Option("chunk_size", 200, "prose", {"chunk_overlap": 0}),
        Option("chunk_overlap", 0, "prose"),
        Option("ocr", "auto", "scan"),
        Option("ocr", "always", "scan"),
        Option("ocr_languages", ["de"], "scan", {"ocr": "auto"}),
        Option("ocr_languages", ["de"], warns=True),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        auto = PARSERS["auto"]
        assert isinstance(auto, AutoParser)
        return auto.among(lambda: [ScanParser(), *builtin_parsers()])


# --- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "type_name", [name for name in PARSERS if "chunk_overlap" in PARSERS[name].types[0].config.__struct_fields__]
)
def test_an_overlap_without_room_is_refused_at_validation(type_name: str) -> None:
    fields = next(item for item in PARSERS[type_name].types if item.name == type_name).config.__struct_fields__
    if "chunk_overlap" in fields:
        with pytest.raises(ValidationFailed, match="chunk_overlap"):
            PARSERS[type_name].configure(type_name, {"chunk_size": 100, "chunk_overlap": 100})


@pytest.mark.parametrize("type_name", PARSERS)
def test_documented_bounds_hold(type_name: str) -> None:
    for value in (0, -1, 10_000_000, "100", None, True):
        with pytest.raises(ValidationFailed, match="chunk_size"):
            PARSERS[type_name].configure(type_name, {"chunk_size": value})


DOCUMENTED = {
    "auto": {"chunk_size": 1000, "chunk_overlap": 200, "ocr": "never", "ocr_languages": ["en"]},  # ocr is ours
    "CSVParser_Pandas": {
        "chunk_size": 1000,
        "chunk_strategy": "rows",
        "extract_metadata": True,
        "encoding": "utf-8",
        "delimiter": ",",
        "na_values": ["", "NA", "N/A", "null", "None"],
    },
    "CSVParser_Python": {"chunk_size": 1000, "encoding": "utf-8", "delimiter": ",", "quotechar": '"'},
    "CSVParser_LlamaIndex": {
        "chunk_size": 1000,
        "chunk_strategy": "rows",
        "field_mapping": {},
        "extract_metadata": True,
        "combine_fields": True,
        "skiprows": None,
        "na_values": ["", "NA", "N/A", "null", "None"],
    },
    "MarkdownParser_Python": {
        "chunk_size": 1000,
        "chunk_strategy": "sections",
        "extract_metadata": True,
        "extract_code_blocks": True,
        "extract_links": True,
    },
    "MarkdownParser_LlamaIndex": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "headings",
        "extract_metadata": True,
        "extract_code_blocks": True,
        "extract_tables": True,
        "extract_links": True,
        "preserve_structure": True,
    },
    "TextParser_Python": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "sentences",
        "encoding": "utf-8",
        "clean_text": True,
        "extract_metadata": True,
    },
    "TextParser_LlamaIndex": {
        "chunk_size": 1000,
        "chunk_overlap": 100,
        "chunk_strategy": "semantic",
        "encoding": "utf-8",
        "clean_text": True,
        "extract_metadata": True,
        "semantic_buffer_size": 1,
        "semantic_breakpoint_percentile_threshold": 95,
        "token_model": "gpt-3.5-turbo",
        "preserve_code_structure": True,
        "detect_language": True,
        "include_prev_next_rel": True,
    },
}


@pytest.mark.parametrize("type_name", DOCUMENTED)
def test_documented_defaults_hold(type_name: str) -> None:
    assert (
        msgspec.json.decode(msgspec.json.encode(PARSERS[type_name].configure(type_name, {}).config))
        == DOCUMENTED[type_name]
    )


# --- choosing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "mime", "data", "name"),
    [
        ("A.MD", "x/y", b"x", "MarkdownParser"),
        ("a.b.csv", "text/plain", b"x", "CSVParser"),
        ("page", "text/html; charset=utf-8", b"x", "HTMLParser"),
        ("LICENSE", "application/octet-stream", b"words", "TextParser"),
        ("a\\b.json", "", b"x", "JSONParser"),
        ("strange.xyz", "", "wörds".encode("utf-16"), "TextParser"),
    ],
)
def test_the_parser_is_chosen_by_ending_then_type_then_content(
    tmp_path: Path, filename: str, mime: str, data: bytes, name: str
) -> None:
    chosen = choose_parser(store(tmp_path, Sample(filename, data, mime=mime)), builtin_parsers())
    assert chosen is not None
    assert chosen.name == name


def test_auto_says_when_no_parser_reads_a_type(tmp_path: Path) -> None:
    source = store(tmp_path, Sample("a.bin", b"\x00\x01" * 50))
    for ask in (PARSERS["auto"].parse, PARSERS["auto"].chunking):
        with pytest.raises(ValidationFailed, match=r"\(\.bin\)"):
            ask(source, PARSERS["auto"].types[0].config())


def test_auto_scales_the_parsers_own_number_of_rows_and_repeats_none(tmp_path: Path) -> None:
    auto = PARSERS["auto"]
    config, table = auto.configure("auto", {}).config, store(tmp_path, Sample("a.csv", CSV))
    assert auto.chunking(table, config) == ChunkOptions(strategy="rows", size=20, overlap=0)
    assert auto.chunking(table, auto.configure("auto", {"chunk_size": 5000}).config).size == 100
    assert auto.chunking(store(tmp_path, Sample("a.txt", b"x")), config).overlap == 200


def test_auto_chooses_among_what_it_is_given(tmp_path: Path) -> None:
    auto = PARSERS["auto"]
    assert isinstance(auto, AutoParser)
    only_text = auto.among(lambda: [PARSERS["TextParser"], auto])
    assert only_text.chosen(store(tmp_path, Sample("a.csv", b"a,b"))).name == "TextParser"
