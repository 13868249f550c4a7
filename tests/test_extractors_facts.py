"""What each extractor of the core finds, on texts whose answer can be told by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from paddock.builtin.extractors import builtin_extractors
from paddock.builtin.extractors.common import sentences
from paddock.builtin.extractors.datetimes import DateTimeExtractor
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, Extractor, Record, Section, Table
from paddock.errors import ValidationFailed

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)  # a Wednesday


def run(
    name: str, text: str, document: Document | None = None, chunk: Chunk | None = None, **config: Json
) -> dict[str, Json]:
    extractor: Extractor = next(item for item in builtin_extractors() if item.name == name)
    if name == "DateTimeExtractor":
        extractor = DateTimeExtractor(lambda: NOW)
    ready = extractor.configure(name, config).config
    return extractor.extract(chunk or Chunk(text=text, start=0, end=len(text)), document or Document(text=text), ready)


def test_statistics_count_words_sentences_and_layout() -> None:
    found = run(
        "ContentStatisticsExtractor", "One two three. Four?\n\n- five\n- six 7\n", include_sentiment_indicators=True
    )
    assert found["word_count"] == 6
    assert found["sentence_count"] == 3
    assert (found["line_count"], found["paragraph_count"], found["list_items"]) == (4, 2, 2)
    assert (found["question_count"], found["number_count"]) == (1, 1)
    assert found["sentiment"] == "neutral"


def test_easy_prose_reads_easier_than_hard_prose() -> None:
    easy = run("ContentStatisticsExtractor", "The cat sat on the mat. The dog ran to the man.")
    hard = run("ContentStatisticsExtractor", "Institutional considerations necessitate comprehensive reformulation.")
    assert easy["flesch_reading_ease"] > 90
    assert hard["flesch_reading_ease"] < 0
    assert easy["flesch_kincaid_grade"] < 3
    assert hard["flesch_kincaid_grade"] > 12


def test_a_chunk_without_words_has_counts_alone() -> None:
    assert run("ContentStatisticsExtractor", "12 34\n")["word_count"] == 0


def test_abbreviations_and_numbers_do_not_end_a_sentence() -> None:
    text = 'Dr. Voss came at 3.30 p.m. on Monday. He paid approx. 4.50 euros! "Really?" Yes'
    assert list(sentences("1. Touching\n\nMind the paint.\n2. It is wet.")) == [
        "1. Touching",
        "Mind the paint.",
        "2. It is wet.",
    ]
    assert list(sentences(text)) == [
        "Dr. Voss came at 3.30 p.m. on Monday.",
        "He paid approx. 4.50 euros!",
        '"Really?"',
        "Yes",
    ]


def test_a_chunk_knows_the_headings_above_it() -> None:
    text = "# Farm\n\nHello.\n\n## Cows\n\nThey moo.\n\n## Hens\n\nThey cluck.\n"
    hens = text.index("## Hens")
    sections = [
        Section(level=1, title="Farm", start=0, end=len(text)),
        Section(level=2, title="Cows", start=text.index("## Cows"), end=hens),
        Section(level=2, title="Hens", start=hens, end=len(text)),
    ]
    document = Document(text=text, sections=sections)
    start = text.index("They cluck")
    found = run("HeadingExtractor", "", document, Chunk(text=text[start:], start=start, end=len(text)))
    assert found == {"heading": "Hens", "heading_level": 2, "heading_path": "Farm > Hens", "section_number": "1.2"}
    whole = run("HeadingExtractor", text, document)
    assert whole["headings"] == ["Farm", "Cows", "Hens"]
    assert whole["outline"] == "1 Farm\n1.1 Cows\n1.2 Hens"


def test_a_chunk_after_the_end_of_a_section_is_not_in_it() -> None:
    document = Document(text="x" * 100, sections=[Section(level=1, title="Short", start=0, end=50)])
    assert run("HeadingExtractor", "", document, Chunk(text="x" * 20, start=60, end=80)) == {}


def test_two_documents_do_not_share_headings() -> None:
    extractor = next(item for item in builtin_extractors() if item.name == "HeadingExtractor")
    config = extractor.configure("HeadingExtractor", {}).config
    for title in ("First", "Second"):
        text = f"{title} title\nbody"
        document = Document(text=text, sections=[Section(level=1, title=title, start=0, end=len(text))])
        assert extractor.extract(Chunk(text=text, start=0, end=len(text)), document, config)["heading"] == title


def test_links_leave_the_sentence_s_punctuation_behind() -> None:
    text = "(See https://en.example.org/wiki/Cow_(animal).) Also www.example.com, <https://a.example/x?y=1#z>; not a@b."
    found = run("LinkExtractor", text)
    assert found["urls"] == ["https://en.example.org/wiki/Cow_(animal)", "www.example.com", "https://a.example/x?y=1#z"]
    assert found["domains"] == ["en.example.org", "www.example.com", "a.example"]
    assert "emails" not in found


def test_a_link_s_domain_is_not_fooled_by_a_user_name() -> None:
    assert run("LinkExtractor", "http://good.example@evil.example/x")["domains"] == ["evil.example"]
    assert "domains" not in run("LinkExtractor", "http://127.0.0.1:8000/x")


def test_a_config_that_extracts_nothing_is_warned_about() -> None:
    off: dict[str, dict[str, Json]] = {
        "LinkExtractor": {"extract_urls": False, "extract_emails": False, "extract_domains": False},
        "PathExtractor": {"extract_file_paths": False, "extract_urls": False, "extract_s3_paths": False},
        "PatternExtractor": {},
    }
    for extractor in builtin_extractors():
        if extractor.name in off:
            assert extractor.configure(extractor.name, off[extractor.name]).warnings, extractor.name


def test_options_of_older_files_are_accepted_with_a_warning() -> None:
    known = {item.name: item for item in builtin_extractors()}
    assert (
        known["ContentStatisticsExtractor"].configure("ContentStatisticsExtractor", {"include_language": True}).warnings
    )
    assert known["YAKEExtractor"].configure("YAKEExtractor", {"extractor_type": "yake"}).warnings


@pytest.mark.parametrize(
    ("name", "text", "matches"),
    [
        ("email", "To a.b+c@example.org, x@y.", ["a.b+c@example.org"]),
        ("phone", "01632 960118, +44 20 7946 0958, (555) 123-4567; on 2026-03-02 and 1.2.3",
         ["01632 960118", "+44 20 7946 0958", "(555) 123-4567"]),
        ("url", "https://example.org/a.", ["https://example.org/a"]),
        ("ip", "10.0.0.1, 999.1.1.1, 2001:db8::1, 12:30:45", ["10.0.0.1", "2001:db8::1"]),
        ("ip_address", "10.0.0.256 192.168.1.20", ["192.168.1.20"]),
        ("ssn", "078-05-1120 but not 1078-05-1120", ["078-05-1120"]),
        ("credit_card", "4111 1111 1111 1111, 4111 1111 1111 1112, 0000 0000 0000 0000", ["4111 1111 1111 1111"]),
        ("zip_code", "90210 and 10001-1234, 123456, 1.90210", ["90210", "10001-1234"]),
        ("file_path", "in /etc/hosts or C:\\Temp\\a.txt or src/app/main.py, not and/or",
         ["C:\\Temp\\a.txt", "/etc/hosts", "src/app/main.py"]),
        ("version", "v2, 1.10.3, 2.0.0-rc.1, 3.5, 10.0.0.1", ["v2", "1.10.3", "2.0.0-rc.1"]),
        ("date", "2026-03-02, 3 March 2026, March 2026, 31.12.2025, 31/02/2026", ["2026-03-02", "3 March 2026", "31.12.2025"]),
    ],
)  # fmt: skip
def test_a_predefined_pattern_finds_its_own_and_no_more(name: str, text: str, matches: list[str]) -> None:
    assert run("PatternExtractor", text, predefined_patterns=[name])[f"pattern_{name}"] == matches


def test_positions_of_matches_are_characters_of_the_chunk() -> None:
    text = "Grüße 🐄 an bob@example.org und Ärger mit AB-12"
    found = run("PatternExtractor", text, predefined_patterns=["email"], return_positions=True,
                custom_patterns=[{"name": "order", "pattern": r"ab-\d+", "description": "Orders"}])  # fmt: skip
    for name in ("email", "order"):
        start, end = found[f"pattern_{name}_starts"][0], found[f"pattern_{name}_ends"][0]
        assert text[start:end] == found[f"pattern_{name}"][0]
    assert found["pattern_order_description"] == "Orders"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "missing"),
        (r"(?=a)", "look-around"),
        (r"(a)\1", "back references"),
        ("((a{100}){100}){100}", "RE2"),
        ("a*", "empty text"),
        ("a\x00b", "control character"),
        ("x" * 1001, "1000"),
        (r"(?:\pL{1,100}\pN{1,100}){50}", "RE2"),
    ],
)
def test_an_expression_that_can_not_be_run_safely_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ValidationFailed, match=reason) as caught:
        run("PatternExtractor", "", custom_patterns=[{"name": "bad", "pattern": pattern}])
    assert caught.value.errors[0].field.startswith("custom_patterns[0]")


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|a)*b", r"(.*a){10}b", r"a(?:.*b)?", r"\pL{1,50}x", r"(x+x+)+y"])
def test_catastrophic_expressions_end(pattern: str) -> None:
    text = "a" * 60_000 + "x" * 60_000
    assert isinstance(run("PatternExtractor", text, custom_patterns=[{"name": "slow", "pattern": pattern}],
                          max_matches_per_pattern=1000, deduplicate_matches=True), dict)  # fmt: skip


@pytest.mark.parametrize("name", ["", "1st", "a-b", "a.b", "a b", "x" * 41, "é"])
def test_a_pattern_s_name_must_fit_a_metadata_key(name: str) -> None:
    with pytest.raises(ValidationFailed, match="custom_patterns"):
        run("PatternExtractor", "", custom_patterns=[{"name": name, "pattern": "a"}])


def test_a_pattern_s_name_is_there_once() -> None:
    with pytest.raises(ValidationFailed, match="twice"):
        run("PatternExtractor", "", predefined_patterns=["email"], custom_patterns=[{"name": "email", "pattern": "a"}])


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("2026-03-02", ["2026-03-02"]),
        ("2026-03-02T14:05:09Z and 2026-03-02 14:05+02:00", ["2026-03-02T14:05:09+00:00", "2026-03-02T14:05:00+02:00"]),
        ("14 April 1987 and April 14th, 1987", ["1987-04-14"]),
        ("the 3rd of May 2026 at 2:30 pm", ["2026-05-03T14:30:00+00:00"]),
        ("am 3. März 2026, le 1er août 2025, 5 de enero de 2024", ["2026-03-03", "2025-08-01", "2024-01-05"]),
        ("03/04/2026, 25/12/2026, 12/25/2026", ["2026-04-03", "2026-12-25"]),
        ("31 February 2026, 2026-13-01, 30.02.2026", []),
        ("March 2026 and 5 May", ["2026-03-01", "2026-05-05"]),
        ("1/2/26 but version 1.2.34 and 10-11-12-13", ["2026-02-01"]),
        ("we may march 20 miles and 1,820 more in may", ["2026-03-20"]),
        ("room 12, 45 cows, 7 mares", []),
    ],
)
def test_dates_are_read_in_their_written_forms(text: str, dates: list[str]) -> None:
    assert run("DateTimeExtractor", text, extract_times=False).get("dates", []) == dates


def test_month_comes_first_only_where_the_config_says_so() -> None:
    assert run("DateTimeExtractor", "03/04/2026", date_format="US")["dates"] == ["03/04/2026"]
    assert run("DateTimeExtractor", "03/04/2026", date_format="US")["earliest_date"] == "2026-03-04"
    assert run("DateTimeExtractor", "03/04/2026")["earliest_date"] == "2026-04-03"


def test_relative_dates_count_from_now() -> None:
    text = (
        "Yesterday, the day after tomorrow, last Friday, next Monday, next week, last year, 3 weeks ago, in two months."
    )
    found = run("DateTimeExtractor", text)
    assert found["relative_dates"] == [
        "2026-11-17", "2026-11-20", "2026-11-13", "2026-11-23", "2026-11-23", "2025-01-01", "2026-10-28", "2027-01-18",
    ]  # fmt: skip
    assert found["relative_expressions"][0] == "Yesterday"
    assert "durations" not in found


def test_relative_dates_of_an_email_count_from_the_day_it_was_sent() -> None:
    document = Document(text="", metadata={"date": "2020-01-10T09:00:00+01:00"})
    assert run("DateTimeExtractor", "See you tomorrow", document)["relative_dates"] == ["2020-01-11"]


def test_times_and_durations_have_one_form() -> None:
    text = "From 9:30 a.m. to 5 pm, at 23:59:30, noon; takes half an hour, 90 minutes, two weeks; P3DT4H. 1:99"
    found = run("DateTimeExtractor", text)
    assert found["times"] == ["09:30", "17:00", "23:59:30", "12:00"]
    assert found["durations"] == ["PT30M", "PT90M", "P2W", "P3DT4H"]


def test_a_word_that_stands_everywhere_in_the_document_counts_little_in_tfidf() -> None:
    document = Document(text="harbour " * 5000 + "the herring")
    assert run("TFIDFExtractor", "harbour, harbour: herring", document)["tfidf_keywords"] == ["herring", "harbour"]
    rows = Document(text="", records=[Record(text="harbour wall")] * 50)
    assert run("TFIDFExtractor", "harbour: herring", rows)["tfidf_keywords"][0] == "herring"


@pytest.mark.parametrize("algorithm", ["rake", "yake", "tfidf", "textrank"])
def test_each_algorithm_finds_what_a_text_is_about(algorithm: str) -> None:
    text = (
        "Compost heaps need air. A compost heap of straw and manure heats up within days. Turn the compost heap with a fork "
        "when the thermometer shows too much. Ripe compost smells of forest floor; spread the compost heap in spring."
    )
    found = run("KeywordExtractor", text, algorithm=algorithm)
    assert any("compost heap" in phrase for phrase in found["keywords"])
    scores: Any = found["keyword_scores"]
    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert len(found["keywords"]) == len(scores) <= 10


def test_nearly_equal_phrases_are_told_once() -> None:
    text = "Milk tank. Milk tanks. The milk tank cools. Cheese room. Milk tanks leak. The cheese room is cold."
    alike = run("YAKEExtractor", text, deduplication_threshold=1.0)["yake_keywords"]
    unlike = run("YAKEExtractor", text, deduplication_threshold=0.8)["yake_keywords"]
    assert {"milk tank", "milk tanks"} <= set(alike)
    assert len({"milk tank", "milk tanks"} & set(unlike)) == 1


def test_a_table_has_four_forms() -> None:
    text = "| Kind | Price |\n|---|--:|\n| Adult \\| one | 9 |\n| Child | 4 |\n"
    forms = {
        form: run("TableExtractor", text, output_format=form)["tables"][0]
        for form in ("dict", "list", "csv", "markdown")
    }
    assert msgspec.json.decode(forms["dict"]) == [
        {"Kind": "Adult | one", "Price": "9"},
        {"Kind": "Child", "Price": "4"},
    ]
    assert msgspec.json.decode(forms["list"]) == [["Kind", "Price"], ["Adult | one", "9"], ["Child", "4"]]
    assert forms["csv"] == "Kind,Price\nAdult | one,9\nChild,4\n"
    assert forms["markdown"] == "| Kind | Price |\n| --- | --- |\n| Adult \\| one | 9 |\n| Child | 4 |"


def test_a_chunk_gets_the_rows_of_the_document_s_table_that_stand_in_it() -> None:
    table = Table(rows=[["name", "age"], ["Ada", "36"], ["Grace", "85"]], page=2)
    document = Document(text="x", tables=[table])
    found = run("TableExtractor", "", document, Chunk(text="Grace 85", page=2))
    assert msgspec.json.decode(found["tables"][0]) == [{"name": "Grace", "age": "85"}]
    assert run("TableExtractor", "", document, Chunk(text="Grace 85", page=1)) == {}


def test_merged_cells_repeat_what_they_say() -> None:
    text = "| Day | | Open |\n|---|---|---|\n| Monday | am | 9 |\n| | pm | |\n"
    merged = run("TableExtractor", text, output_format="list")["tables"][0]
    assert msgspec.json.decode(merged) == [["Day", "Day", "Open"], ["Monday", "am", "9"], ["Monday", "pm", ""]]


def test_paths_inside_web_addresses_are_not_files() -> None:
    found = run(
        "PathExtractor", "https://example.org/etc/passwd and ~/notes.txt, ./a/b.c and \\\\host\\share\\x.doc 1/2"
    )
    assert found["file_paths"] == ["\\\\host\\share\\x.doc", "~/notes.txt", "a/b.c"]
    assert found["url_paths"] == ["/etc/passwd"]


def test_s3_locations_have_one_form() -> None:
    found = run("PathExtractor", "s3a://Data-Lake/2026//x.parquet and arn:aws:s3:::data-lake/2026/x.parquet.")
    assert found["s3_paths"] == ["s3://data-lake/2026/x.parquet"]


def test_a_summary_is_made_of_the_text_s_own_sentences() -> None:
    text = (
        "Cows give milk. Milk becomes cheese. Rain fell. Cheese needs milk and salt. The bus was late. Milk is white."
    )
    for algorithm in ("textrank", "lsa", "luhn", "lexrank"):
        found = run("SummaryExtractor", text, algorithm=algorithm, summary_sentences=2)
        chosen = list(sentences(found["summary"]))
        assert len(chosen) == found["summary_sentence_count"] == 2
        assert [text.index(sentence) for sentence in chosen] == sorted(text.index(sentence) for sentence in chosen)
        assert found["summary_source_sentences"] == 6
        assert "Rain" not in found["summary"]


def test_a_chunk_that_is_too_long_says_that_only_its_beginning_was_read() -> None:
    found = run("KeywordExtractor", "herring barrel. " * 10_000)
    assert found["extraction_truncated"] is True
    assert "extraction_truncated" not in run("KeywordExtractor", "herring barrel")
