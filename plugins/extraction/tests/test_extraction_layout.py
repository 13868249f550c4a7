"""LayoutLMv3: words with their places go in; fields, answers or a class come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from paddock_extraction.layout import _grouped
from paddock_extraction.samples import layout

from paddock.contracts.providers import Word
from paddock.errors import BadRequest

TOTAL = {"Total": "B-KEY", "5.60": "B-TOTAL", "Harbour": "B-ORG", "Museum": "I-ORG"}
LABELS = ["O", "B-KEY", "B-TOTAL", "B-ORG", "I-ORG"]
UPPER, LOWER = (10.0, 20.0, 40.0, 30.0), (10.0, 150.0, 40.0, 160.0)


async def test_words_become_fields_with_their_places(desk: Any, tmp_path: Path) -> None:
    desk.take(layout(tmp_path / "model", "TokenClassification", LABELS, TOTAL))
    desk.say(
        ("Harbour", UPPER), ("Museum", (50, 20, 90, 30)), ("Tea", LOWER), ("Total", LOWER), ("5.60", (50, 150, 90, 160))
    )
    (found,) = await desk.ask("extraction", desk.page())
    assert [(one.key, one.value) for one in found.fields] == [
        ("ORG", "Harbour Museum"),
        ("KEY", "Total"),
        ("TOTAL", "5.60"),
    ]
    assert found.fields[0].bbox == (10, 20, 90, 30)
    assert found.fields[0].confidence > found.fields[1].confidence > 0.5  # what stands above counts double
    assert (found.text, found.answers) == (None, None)


async def test_a_page_of_many_words_is_read_in_windows(desk: Any, tmp_path: Path) -> None:
    desk.take(layout(tmp_path / "model", "TokenClassification", LABELS, TOTAL))
    desk.say(*([("Tea", LOWER), ("Bread", LOWER)] * 150), ("5.60", UPPER))
    (found,) = await desk.ask("extraction", desk.page())
    assert [(one.key, one.value) for one in found.fields] == [("TOTAL", "5.60")]


@pytest.mark.parametrize("filler", [0, 200])
async def test_a_question_is_answered_by_words_of_the_page(desk: Any, tmp_path: Path, filler: int) -> None:
    desk.take(layout(tmp_path / "model", "QuestionAnswering", known={"Harbour": "start", "Museum": "end"}))
    desk.say(
        *[("Tea", LOWER)] * filler, ("Invoice", UPPER), ("Harbour", UPPER), ("Museum", (50, 20, 90, 30)), ("Tea", LOWER)
    )
    (found,) = await desk.ask("vqa", desk.page(), prompts=("What is the Harbour?", "What is the total?"))
    assert [(one.question, one.answer) for one in found.answers] == [
        ("What is the Harbour?", "Harbour Museum"),  # the question's own words are no answer
        ("What is the total?", "Harbour Museum"),
    ]
    assert found.fields[0].bbox == (10, 20, 90, 30)
    assert found.answers[1].confidence > 0.4


async def test_the_kind_of_a_document_is_told_with_all_scores(desk: Any, tmp_path: Path) -> None:
    known = {"Invoice": "invoice", "Tea": "menu", "Bread": "menu"}
    desk.take(layout(tmp_path / "model", "SequenceClassification", ["invoice", "menu"], known))
    desk.say(("Tea", LOWER), ("Bread", LOWER))
    (found,) = await desk.ask("classification", desk.page())
    assert found.classification.label == "menu"
    assert sum(found.classification.all_scores.values()) == pytest.approx(1, abs=1e-5)


async def test_a_page_without_words_is_no_fault(desk: Any, tmp_path: Path) -> None:
    desk.take(layout(tmp_path / "a", "TokenClassification", LABELS, TOTAL), "org/fields")
    desk.take(layout(tmp_path / "b", "QuestionAnswering"), "org/answers")
    desk.take(layout(tmp_path / "c", "SequenceClassification", ["a", "b"]), "org/kinds")
    assert (await desk.ask("extraction", desk.page(), model="org/fields"))[0].fields == []
    (found,) = await desk.ask("vqa", desk.page(), prompts=("What?",), model="org/answers")
    assert (found.answers[0].answer, found.answers[0].confidence) == ("", 0.0)
    assert (await desk.ask("classification", desk.page(), model="org/kinds"))[0].classification.score == pytest.approx(
        0.5
    )


async def test_another_task_than_the_models_own_is_refused(desk: Any, tmp_path: Path) -> None:
    desk.take(layout(tmp_path / "model", "TokenClassification", LABELS))
    with pytest.raises(BadRequest, match="the task of org/model is extraction, not vqa"):
        await desk.ask("vqa", desk.page(), prompts=("What?",))


async def test_a_question_without_room_for_the_page_is_refused(desk: Any, tmp_path: Path) -> None:
    desk.take(layout(tmp_path / "model", "QuestionAnswering"))
    desk.say(("Tea", UPPER))
    with pytest.raises(BadRequest, match="question is too long"):
        await desk.ask("vqa", desk.page(), prompts=("What? " * 100,))


def test_neighbours_of_one_label_are_one_field() -> None:
    words = [Word(text=text, confidence=1, box=(0, 0, 1, 1)) for text in "abcdef"]
    marks = ["B-X", "I-X", "B-X", "O", "Y", "Y"]
    found = _grouped(words, {number: (mark, 1.0) for number, mark in enumerate(marks)})
    assert [(one.key, one.value) for one in found] == [("X", "a b"), ("X", "c"), ("Y", "e f")]
