"""Cutting text into sentences."""

from __future__ import annotations

import pytest

from paddock.builtin.sentences import sentences_of


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in sentences_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith met Mr. J. Doe, e.g. in No. 5 at 3.5 km. Then he left.",
         ["Dr. Smith met Mr. J. Doe, e.g. in No. 5 at 3.5 km.", "Then he left."]),
        ("The answer is no. Then we left.", ["The answer is no.", "Then we left."]),
        ("It rained (see Fig. 3). The U.S. Army came.", ["It rained (see Fig. 3).", "The U.S. Army came."]),
        ('He said "Stop." She went on.', ['He said "Stop."', "She went on."]),
        ("Visit example.com for more. It is v1.2.3 now.", ["Visit example.com for more.", "It is v1.2.3 now."]),
        ("A line that\nwraps here. And an exam-\nple of one.", ["A line that wraps here.", "And an example of one."]),
        ("牛は水を飲む。羊も飲む。", ["牛は水を飲む。", "羊も飲む。"]),
        ("**Bold** and `code` and [a link](http://x.example/).", ["Bold and code and a link."]),
        ("Water is wet [3]. So is rain [1, 2].", ["Water is wet.", "So is rain."]),
        ("Tabs\tand\x1b[31m escapes\u202e go.", ["Tabs and [31m escapes go."]),
        ("", []),
        ("----\n\n***", []),
    ],
)  # fmt: skip
def test_running_text(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


def test_list_items_stand_alone_after_their_lead_in() -> None:
    assert texts("You need:\n- a barn\n- two cows.\n\n1. Feed them\n2) Milk them") == [
        "You need:", "You need: a barn", "You need: two cows.", "Feed them", "Milk them",
    ]  # fmt: skip


def test_a_lead_in_may_be_a_paragraph_of_its_own() -> None:
    assert texts("You need:\n\n- a barn") == ["You need:", "You need: a barn"]


def test_rows_of_a_table_carry_the_names_of_its_columns() -> None:
    assert texts("| Animal | Water |\n|---|---:|\n| Cow | 100 |\n| Sheep | |") == [
        "Animal: Cow; Water: 100",
        "Animal: Sheep",
    ]


def test_lines_of_names_and_values_are_one_record() -> None:
    assert texts("name: Bella\nbreed: Holstein\n\nname: Rosa\nbreed: Jersey") == [
        "name: Bella; breed: Holstein", "name: Rosa; breed: Jersey",
    ]  # fmt: skip


def test_headings_are_the_context_of_what_stands_below() -> None:
    found = sentences_of("# Farm\nIt is old.\n## Cows\nThey eat.\n# Harbour\nShips.")
    assert [(one.text, one.context) for one in found] == [
        ("It is old.", "Farm"), ("They eat.", "Farm Cows"), ("Ships.", "Harbour"),
    ]  # fmt: skip
