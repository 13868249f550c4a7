"""The parts that strategies are made of: filters, expansion, telling questions apart."""

from collections.abc import Sequence
from typing import Any

import pytest

from paddock.builtin.retrieval.expansion import feedback_queries, feedback_terms, parse_lines
from paddock.builtin.retrieval.filters import both, matches
from paddock.builtin.retrieval.multiturn import MultiTurnConfig, is_complex
from paddock.contracts.providers import Hit
from paddock.errors import ValidationFailed

TWO = "Where does the ship go with the timber, and how much milk does a cow give us?"


def test_two_filters_of_one_key_are_joined() -> None:
    assert both({"year": {"gte": 2000}}, {"year": {"gte": 2010, "lt": 2020}}) == {"year": {"gte": 2010, "lt": 2020}}
    assert both({"year": {"lte": 2000}}, {"year": {"lte": 2010}}) == {"year": {"lte": 2000}}
    assert both({"year": [1999, 2001, 2005]}, {"year": {"gt": 2000}}) == {"year": [2001, 2005]}
    assert both({"year": {"ne": 2001}}, {"year": 2001}) == {"year": []}
    assert both({"a": 1}, {"b": 2}) == {"a": 1, "b": 2}
    for one, other in (({"ne": 1}, {"ne": 2}), ({"gte": 1}, {"gte": "x"})):
        with pytest.raises(ValidationFailed):
            both({"year": one}, {"year": other})


def test_filtering_afterwards_means_what_the_store_means() -> None:
    hit = Hit(chunk_id="c", document_id="d", content="", score=1, metadata={"year": 2020, "kind": "sea", "none": None})
    good: Sequence[dict[str, Any]] = (
        {}, {"year": 2020}, {"year": [1, 2020.0]}, {"year": {"gte": 2020, "lt": 2021}}, {"file_hash": "d"},
        {"kind": {"ne": "farm"}}, {"missing": None}, {"none": None}, {"year": {"ne": "2020"}}, {"missing": {"ne": 1}},
    )  # fmt: skip
    bad: Sequence[dict[str, Any]] = (
        {"year": "2020"}, {"year": []}, {"year": {"gt": 2020}}, {"kind": {"gt": 1}}, {"missing": {"gte": 0}},
        {"kind": "sea", "year": 1},
    )  # fmt: skip
    assert [matches(hit, filters) for filters in good] == [True] * len(good)
    assert [matches(hit, filters) for filters in bad] == [False] * len(bad)


def test_feedback_leaves_out_what_was_asked_and_what_says_nothing() -> None:
    hits = [
        Hit(chunk_id=str(at), document_id="d", content=text, score=0.5, metadata={})
        for at, text in enumerate(("The cow gives milk 1234", "the cow and the calf like milk", "a calf in the meadow"))
    ]
    assert feedback_terms("Which COW?", hits, 3) == ["calf", "milk", "meadow"]
    assert feedback_queries("cow", [], 2) == []


def test_an_answer_is_read_line_by_line() -> None:
    answer = '1. first one\n- "second one"\n\n***\nfirst one\n(3) third\n2) ' + "x" * 900
    assert parse_lines(answer, 10) == ["first one", "second one", "third", "x" * 500]
    assert parse_lines("\x00\n—\n", 3) == []


def test_complex_questions_are_told_from_simple_ones() -> None:
    config = MultiTurnConfig()
    assert is_complex("What is a cow? What is a ship?", config)
    assert is_complex(TWO, config)
    assert not is_complex("What? Why?", config)
    assert not is_complex("cows and ships, and bread", config)
    assert not is_complex("Which of all the many ships in the wide harbour is the oldest one", config)
