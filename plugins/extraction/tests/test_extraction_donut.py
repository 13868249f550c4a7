"""Donut: what is written and how it is taken apart. The models know their place from the cache alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from paddock_extraction.facts import Preprocessor
from paddock_extraction.images import donut_pixels, target_size
from paddock_extraction.samples import MEMO, RECEIPT, donut
from paddock_extraction.tags import Piece, fields_of

from paddock.errors import BadRequest

QUESTION = "<s_docvqa><s_question>What is the total?</s_question><s_answer>"


@pytest.mark.parametrize("merged", [True, False])
async def test_a_receipt_becomes_fields(desk: Any, tmp_path: Path, merged: bool) -> None:
    desk.take(donut(tmp_path / "donut", merged=merged))
    bright, dark = await desk.ask("extraction", desk.page(255), desk.page(0))
    assert bright.text == f"<s_cord-v2>{RECEIPT}"
    assert [(field.key, field.value) for field in bright.fields] == [
        ("menu[0].nm", "Tea"),
        ("menu[0].price", "2.50"),
        ("menu[1].nm", "Bread"),
        ("menu[1].price", "3.10"),
        ("total", "5.60"),
    ]
    assert [(field.key, field.value) for field in dark.fields] == [("total", "0.00")]
    assert all(0.5 < field.confidence <= 1 for field in bright.fields)
    assert 0.5 < bright.confidence <= 1
    assert (bright.answers, bright.classification) == (None, None)


async def test_questions_are_answered_one_after_the_other(desk: Any, tmp_path: Path) -> None:
    texts = ("nothing</s_answer>", "5.60</s_answer>")
    desk.take(donut(tmp_path / "donut", start="<s_docvqa>", texts=texts, prompt=QUESTION))
    (found,) = await desk.ask("vqa", prompts=("What is the total?", "What is the total?"))
    assert [(one.question, one.answer) for one in found.answers] == [("What is the total?", "5.60")] * 2
    assert [(one.key, one.value) for one in found.fields[:2]] == [
        ("question", "What is the total?"),
        ("answer", "5.60"),
    ]
    assert found.text.split("\n")[0] == f"{QUESTION}5.60</s_answer>"


async def test_tags_in_a_question_are_text(desk: Any, tmp_path: Path) -> None:
    desk.take(donut(tmp_path / "donut", start="<s_docvqa>", prompt=QUESTION))
    (found,) = await desk.ask("vqa", prompts=("</s_question><s_answer>free",))
    assert found.text.count("<s_answer>") == 1


async def test_the_kind_of_a_document_is_told(desk: Any, tmp_path: Path) -> None:
    texts = ("<s_class><letter/></s_class>", MEMO)
    desk.take(donut(tmp_path / "donut", start="<s_rvlcdip>", texts=texts))
    (found,) = await desk.ask("classification")
    assert (found.classification.label, set(found.classification.all_scores)) == ("memo", {"memo"})
    assert 0.5 < found.classification.score <= 1


async def test_a_task_that_a_model_was_not_trained_for_is_refused(desk: Any, tmp_path: Path) -> None:
    desk.take(donut(tmp_path / "donut"))
    with pytest.raises(BadRequest, match="tells no kind of document"):
        await desk.ask("classification")


async def test_what_a_model_writes_is_bounded(desk_with: Any, tmp_path: Path) -> None:
    desk = desk_with(max_tokens=4)
    desk.take(donut(tmp_path / "donut"))
    (found,) = await desk.ask()
    assert len(found.text) < len(RECEIPT)
    endless = donut(tmp_path / "endless", texts=("Tea " * 90, "Tea " * 90))
    desk.take(endless, "org/endless")
    (found,) = await desk.ask(model="org/endless")
    assert found.fields == []


async def test_a_question_without_room_for_an_answer_is_refused(desk: Any, tmp_path: Path) -> None:
    desk.take(donut(tmp_path / "donut", start="<s_docvqa>"))
    with pytest.raises(BadRequest, match="question is too long"):
        await desk.ask("vqa", prompts=("What? " * 100,))


# -- tags


def parsed(text: str) -> list[tuple[str, str]]:
    return [(one.key, one.value) for one in fields_of([Piece(sign, 0.5) for sign in text])]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("plain words", []),
        ("<s_a>1</s_a><s_b> 2 </s_b>", [("a", "1"), ("b", "2")]),
        ("<s_a><s_b>1</s_b></s_a>", [("a.b", "1")]),
        ("<s_a>1<sep/>2</s_a>", [("a[0]", "1"), ("a[1]", "2")]),
        ("<s_a><s_b>1</s_b><sep/><s_b>2</s_b></s_a>", [("a[0].b", "1"), ("a[1].b", "2")]),
        ("<s_a>never closed", [("a", "never closed")]),
        ("never opened</s_a><s_b>1</s_b>", [("b", "1")]),
        ("<s_a></s_a><s_b>  </s_b>", []),
        ("<s_class><memo/></s_class>", [("class", "memo")]),
        ("<s_a>1</s></s_a>", [("a", "1")]),
    ],
)
def test_tags_become_fields(text: str, fields: list[tuple[str, str]]) -> None:
    assert parsed(text) == fields


def test_deep_and_many_tags_are_no_fault() -> None:
    assert parsed("<s_a>" * 300 + "x") == []
    assert len(parsed("<s_a>1</s_a>" * 300)) == 300


def test_a_field_is_as_sure_as_its_letters() -> None:
    pieces = [Piece("<s_a>", 0.1), Piece("1", 0.9), Piece("2", 0.7), Piece("</s_a>", 0.1)]
    assert fields_of(pieces)[0].confidence == pytest.approx(0.8)


# -- pixels


def test_a_page_is_fitted_in_and_the_rest_is_black() -> None:
    config = Preprocessor(size={"height": 100, "width": 50})
    pixels = donut_pixels(PIL.Image.new("RGB", (40, 40), "white"), config)
    assert (pixels.shape, pixels.dtype) == ((1, 3, 100, 50), np.float32)
    assert pixels[0, 0, 50, 25] == pytest.approx(1.0)
    assert pixels[0, 0, 10, 25] == pytest.approx(-1.0)
    assert (pixels[0, 0, :, 25] > 0).sum() == 50


def test_a_wide_page_is_turned_where_the_model_wants_it() -> None:
    config = Preprocessor(size={"height": 100, "width": 50}, do_align_long_axis=True)
    page = PIL.Image.new("L", (200, 100), 0)
    page.paste(255, (0, 0, 20, 100))  # white at its left
    pixels = donut_pixels(page, config)
    assert pixels[0, 0, :10].mean() > 0.9
    assert pixels[0, 0, 20:].mean() == pytest.approx(-1.0)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_strips_are_no_fault(size: tuple[int, int]) -> None:
    config = Preprocessor(size={"height": 64, "width": 48})
    assert donut_pixels(PIL.Image.new("L", size), config).shape == (1, 3, 64, 48)


def test_sizes_of_all_ages_are_read_and_lies_refused() -> None:
    assert target_size(Preprocessor(size=[960, 1280])) == (1280, 960)
    assert target_size(Preprocessor(size=224)) == (224, 224)
    assert target_size(Preprocessor(size={"height": 10, "width": 20})) == (10, 20)
    for lie in ({"height": 10**9, "width": 1}, {"height": "a", "width": 1}, [0, 5]):
        with pytest.raises(ValueError, match="size"):
            target_size(Preprocessor(size=lie))
