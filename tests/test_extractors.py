"""Extractors of the core: the conformance suite over each, with every option shown at work."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import ClassVar

import pytest

from paddock.builtin.extractors import builtin_extractors
from paddock.builtin.extractors.datetimes import DateTimeExtractor
from paddock.contracts.providers import Chunk, Document, Extractor, Section, Table
from paddock.testing.extractor import ExtractorSuite, Option, Sample, sample

PROSE = """The harbour museum keeps nine thousand exhibits. The harbour museum opens its doors every Tuesday morning.
Visitors of the harbour museum love the red lightship, and children love the red lightship most of all!

Head of state visits are rare. The head of state visited the old lighthouse keeper once. Does the lighthouse keeper still
live there? The lighthouse keeper moved away because the ladder was dangerous, and nobody replaced him. Ladder rungs rust.
"""
COWS = (
    "Cows drink water. Cows eat grass. Grass needs water and rain. Rain falls on grass and cows alike, says the farmer."
)
KEYWORD_SAMPLES = {
    "prose": sample(PROSE, "harbour museum"),
    "cows": Sample(Chunk(text=COWS), Document(text="Cows and cows and cows. " * 200 + COWS), "grass"),
    "german": sample("Der Hafen und der Turm und das Meer. Nach dem Meer kommt der Hafen."),
}
PHRASE_OPTIONS = [
    Option("max_keywords", 2, "prose"),
    Option("min_length", 2, "cows"),
    Option("max_length", 1, "prose"),
    Option("min_frequency", 2, "prose"),
    Option("stop_words", ["harbour"], "prose"),
    Option("language", "de", "german"),
    Option("language", "de", given={"stop_words": ["und"]}, warns=True),
    Option("language", "tlh", refused=True),
]


def named(name: str) -> Extractor:
    return next(item for item in builtin_extractors() if item.name == name)


def test_all_documented_types_but_the_one_that_needs_a_model_are_provided() -> None:
    assert sorted(declared.name for item in builtin_extractors() for declared in item.types) == [
        "ContentStatisticsExtractor", "DateTimeExtractor", "HeadingExtractor", "KeywordExtractor", "LinkExtractor",
        "PathExtractor", "PatternExtractor", "RAKEExtractor", "SummaryExtractor", "TFIDFExtractor", "TableExtractor",
        "YAKEExtractor",
    ]  # fmt: skip


class TestStatistics(ExtractorSuite):
    samples: ClassVar = {"prose": sample(PROSE, "flesch_reading_ease")}
    options: ClassVar = [
        Option("include_readability", False, "prose"),
        Option("include_vocabulary", False, "prose"),
        Option("include_structure", False, "prose"),
        Option("include_sentiment_indicators", True, "prose"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("ContentStatisticsExtractor")


class TestHeadings(ExtractorSuite):
    text = "# Farm\nWe farm.\n## Animals\nMany.\n### Cows\nThey moo.\n#### Ox\nStrong.\n"
    sections: ClassVar = [
        Section(level=1, title="Farm", start=0, end=len(text)),
        Section(level=2, title="Animals", start=16, end=len(text)),
        Section(level=3, title="Cows", start=33, end=len(text)),
        Section(level=4, title="Ox", start=52, end=len(text)),
    ]
    samples: ClassVar = {
        "whole": sample(text, "Farm", sections=sections),
        "marked": sample(text, "Animals"),
        "cows": Sample(
            Chunk(text=text[33:], start=33, end=len(text)), Document(text=text, sections=sections), "Farm > Animals"
        ),
    }
    options: ClassVar = [
        Option("max_level", 1, "cows"),
        Option("include_hierarchy", False, "cows"),
        Option("extract_outline", False, "cows"),
        Option("min_heading_length", 1, "cows"),
        Option("enabled", False, "cows"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("HeadingExtractor")


class TestLinks(ExtractorSuite):
    samples: ClassVar = {
        "links": sample("See https://docs.example.org/a?b=c, or write to Bob@example.com.", "docs.example.org")
    }
    options: ClassVar = [
        Option("extract_urls", False, "links"),
        Option("extract_emails", False, "links"),
        Option("extract_domains", False, "links"),
        Option("validate_urls", True, refused=True),
        Option("resolve_redirects", True, refused=True),
        Option("enabled", False, "links"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("LinkExtractor")


class TestPaths(ExtractorSuite):
    samples: ClassVar = {
        "paths": sample(
            "Edit /etc//app/../app.conf and C:\\Temp\\.\\x.log; see https://example.org/a/b, s3://Bucket/k//v.",
            "/etc/app.conf",
        )
    }
    options: ClassVar = [
        Option("extract_file_paths", False, "paths"),
        Option("extract_urls", False, "paths"),
        Option("extract_s3_paths", False, "paths"),
        Option("validate_paths", True, refused=True),
        Option("normalize_paths", False, "paths"),
        Option("enabled", False, "paths"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("PathExtractor")


class TestPatterns(ExtractorSuite):
    text = "Mail bob@example.org or BOB@example.org. Order AB-12, ab-12 and AB-13. Call 01632 960118."
    orders: ClassVar = {"custom_patterns": [{"name": "order", "pattern": r"ab-\d+"}]}
    samples: ClassVar = {
        "orders": sample(text, "AB-12", orders),
        "all": sample(text, "960118", {"predefined_patterns": ["email", "phone", "url", "ip", "ssn", "credit_card", "zip_code",
                                                               "file_path", "version", "date"]}),
    }  # fmt: skip
    options: ClassVar = [
        Option("predefined_patterns", ["email"], "orders"),
        Option("predefined_patterns", ["no_such"], refused=True),
        Option("custom_patterns", orders["custom_patterns"], "orders"),
        Option("case_sensitive", True, "orders", orders),
        Option("return_positions", True, "orders", orders),
        Option("include_context", True, "orders", orders),
        Option("max_matches_per_pattern", 1, "orders", orders),
        Option("deduplicate_matches", False, "orders", orders),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("PatternExtractor")


class TestDateTimes(ExtractorSuite):
    samples: ClassVar = {
        "dates": sample("Founded on 14 April 1987, moved in March 2021. Open 3/4/2026 at 9:30 pm. Due 5 January, 5 May, "
                        "yesterday, for 90 minutes at 14:30.", "1987-04-14"),
    }  # fmt: skip
    options: ClassVar = [
        Option("fuzzy_parsing", False, "dates"),
        Option("extract_relative", False, "dates"),
        Option("extract_times", False, "dates"),
        Option("extract_durations", False, "dates"),
        Option("default_timezone", "Europe/Berlin", "dates"),
        Option("default_timezone", "../../etc/passwd", refused=True),
        Option("date_format", "US", "dates"),
        Option("date_format", "EU", "dates"),
        Option("date_format", "%d %b %Y", "dates"),
        Option("date_format", "%99999Y", refused=True),
        Option("date_format", "plain", refused=True),
        Option("prefer_dates_from", "past", "dates"),
        Option("prefer_dates_from", "future", "dates"),
        Option("prefer_dates_from", "past", given={"fuzzy_parsing": False}, warns=True),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return DateTimeExtractor(lambda: datetime(2026, 2, 1, 12, tzinfo=UTC))


class TestKeywords(ExtractorSuite):
    samples: ClassVar = KEYWORD_SAMPLES
    options: ClassVar = [
        *PHRASE_OPTIONS,
        Option("algorithm", "yake", "prose"),
        Option("algorithm", "tfidf", "prose"),
        Option("algorithm", "textrank", "prose"),
        Option("max_ngram_size", 1, "prose", {"algorithm": "yake"}),
        Option("max_ngram_size", 1, warns=True),
        Option("deduplication_threshold", 0.2, "prose", {"algorithm": "yake"}),
        Option("deduplication_threshold", 0.2, given={"algorithm": "tfidf"}, warns=True),
        Option("min_length", 2, given={"algorithm": "yake"}, warns=True),
        Option("min_length", 5, refused=True),
        *(Option("max_length", 1, "prose", {"algorithm": name}) for name in ("tfidf", "textrank")),
        *(Option("min_frequency", 2, "prose", {"algorithm": name}) for name in ("tfidf", "textrank")),
        *(Option("stop_words", ["harbour"], "prose", {"algorithm": name}) for name in ("tfidf", "textrank", "yake")),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("KeywordExtractor")


@pytest.mark.parametrize("name", ["RAKEExtractor", "TFIDFExtractor"])
class TestPhraseExtractors(ExtractorSuite):
    samples: ClassVar = KEYWORD_SAMPLES
    options: ClassVar = PHRASE_OPTIONS

    @pytest.fixture
    def extractor(self, name: str) -> Extractor:
        return named(name)


class TestYake(ExtractorSuite):
    samples: ClassVar = KEYWORD_SAMPLES
    options: ClassVar = [
        Option("max_keywords", 2, "prose"),
        Option("language", "de", "german"),
        Option("max_ngram_size", 1, "prose"),
        Option("deduplication_threshold", 0.2, "prose"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("YAKEExtractor")


class TestTables(ExtractorSuite):
    text = (
        "Prices:\n\n| Ticket | Day | Price |\n|---|---|---|\n| Adult | Monday | 9 |\n| | Sunday | 13 |\n\nThat is all."
    )
    rows: ClassVar = [["Ticket", "Day", "Price"], ["Adult", "Monday", "9"], ["Child", "Sunday", "4"]]
    samples: ClassVar = {
        "bars": sample(text, "Adult"),
        "parsed": sample("Ticket: Adult\nDay: Monday\nPrice: 9", "Monday", tables=[Table(rows=rows)]),
    }
    options: ClassVar = [
        Option("output_format", "list", "bars"),
        Option("output_format", "csv", "bars"),
        Option("output_format", "markdown", "bars"),
        Option("extract_headers", False, "bars"),
        Option("merge_cells", False, "bars"),
        Option("min_rows", 4, "bars"),
        Option("enabled", False, "bars"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("TableExtractor")


class TestSummary(ExtractorSuite):
    text = PROSE + (
        "A tide clock hangs in the hall. The tide clock is wound on Friday. Rust is red. It is late. Museum tickets cost nine "
        "pounds, and museum tickets for the lightship and the museum cost thirteen. The herring went away, and the town with it."
    )
    samples: ClassVar = {"prose": sample(text + COWS, "museum")}
    options: ClassVar = [
        Option("summary_sentences", 1, "prose"),
        Option("algorithm", "lsa", "prose"),
        Option("algorithm", "luhn", "prose"),
        Option("algorithm", "lexrank", "prose"),
        Option("include_key_phrases", False, "prose"),
        Option("include_statistics", False, "prose"),
        Option("min_sentence_length", 60, "prose"),
        Option("min_sentence_length", 501, refused=True),
        Option("max_sentence_length", 50, "prose"),
    ]

    @pytest.fixture
    def extractor(self) -> Extractor:
        return named("SummaryExtractor")
