"""Reading order, without any engine."""

import math

import pytest
from paddock_ocr.boxes import Quad, level, shifted_line, unturned
from paddock_ocr.order import from_right, joined, rows

from paddock.contracts.providers import Line


def line(text: str, left: float, top: float, width: float = 300, height: float = 20) -> Line:
    return Line(text=text, confidence=1.0, box=(left, top, left + width, top + height))


def text_of(*lines: Line) -> str:
    return joined(rows(lines)).replace("\n\n", "\n")


def test_rows_go_down_and_each_from_left_to_right() -> None:
    assert text_of(line("c", 0, 60), line("b", 400, 2, 50), line("a", 0, 0, 50)) == "a b\nc"


def test_columns_of_running_text_go_one_after_the_other() -> None:
    left = [line(f"left {n}", 0, 30 * n) for n in range(5)]
    right = [line(f"right {n}", 350, 30 * n + 4) for n in range(5)]
    mixed = [one for pair in zip(right, left, strict=True) for one in pair]
    assert text_of(*mixed).split("\n") == [f"left {n}" for n in range(5)] + [f"right {n}" for n in range(5)]


def test_a_heading_over_columns_comes_first() -> None:
    left = [line(f"left {n}", 0, 100 + 30 * n) for n in range(3)]
    right = [line(f"right {n}", 350, 100 + 30 * n) for n in range(3)]
    found = text_of(*right, *left, line("heading", 0, 0, 650, 40))
    assert found.split("\n") == ["heading", "left 0", "left 1", "left 2", "right 0", "right 1", "right 2"]


def test_prices_beside_things_are_read_with_them() -> None:
    receipt = [line(name, 0, 30 * n, 120) for n, name in enumerate(("bread", "milk", "tea"))]
    prices = [line(f"{n}.50", 400, 30 * n, 50) for n in range(3)]
    assert text_of(*receipt, *prices) == "bread 0.50\nmilk 1.50\ntea 2.50"


def test_an_empty_line_stands_where_the_page_leaves_more_room() -> None:
    assert joined(rows([line("a", 0, 0), line("b", 0, 25), line("c", 0, 80)])) == "a\nb\n\nc"


def test_tall_columns_are_read_from_the_right_after_a_title_and_before_what_stands_below() -> None:
    columns = [line(f"column {n}", 300 - 60 * n, 100, 30, 400) for n in range(3)]
    page = [line("below", 0, 550), *columns[::-1], line("title", 0, 20)]
    assert [[one.text for one in row] for row in from_right(page)] == [
        ["title"],
        ["column 0"],
        ["column 1"],
        ["column 2"],
        ["below"],
    ]
    assert from_right([]) == []


def test_nothing_and_very_much_are_no_fault() -> None:
    assert rows([]) == []
    assert len(rows([line("x", 40 * (n % 30), 25 * (n // 30), 30) for n in range(3000)])) == 100


def test_lines_of_a_slanted_page_are_level_after_it_was_straightened() -> None:
    def quad(left: float, top: float, width: float, height: float = 20, slant: float = 0.2) -> Quad:
        sine, cosine = math.sin(slant), math.cos(slant)
        corners = ((left, top), (left + width, top), (left + width, top + height), (left, top + height))
        found = [(x * cosine - y * sine, x * sine + y * cosine) for x, y in corners]
        return found[0], found[1], found[2], found[3]

    stray = quad(0, 200, 30, slant=1.5)
    straight = level([quad(0, 0, 300), quad(0, 30, 200), stray])
    assert straight[0] == pytest.approx((0, 0, 300, 20))
    assert straight[1] == pytest.approx((0, 30, 200, 50))
    assert level([]) == []


def test_a_box_of_a_part_stays_within_the_page() -> None:
    part = line("a", -3, 5, 40, 20)
    assert shifted_line(part, 10, 100, (40, 120)).box == (7, 105, 40, 120)
    assert shifted_line(part, 0, 0, (100, 100)).box == (0, 5, 37, 25)


def test_a_box_of_a_turned_page_returns_to_its_place() -> None:
    # a page of 100 x 50 with a mark at its upper left corner, looked at after it was turned clockwise
    assert unturned((40, 0, 50, 10), 90, 100, 50) == (0, 0, 10, 10)
    assert unturned((90, 40, 100, 50), 180, 100, 50) == (0, 0, 10, 10)
    assert unturned((0, 90, 10, 100), 270, 100, 50) == (0, 0, 10, 10)
    assert unturned((1, 2, 3, 4), 0, 100, 50) == (1, 2, 3, 4)
