"""Putting ranked lists together."""

import msgspec
import pytest

from paddock.contracts.providers import Hit
from paddock.contracts.providers.fusion import DEFAULT_ALPHA, average, depth, fuse, highest, reciprocal_rank, relative
from paddock.errors import ValidationFailed


def hits(**scores: float) -> list[Hit]:
    return [
        Hit(chunk_id=name, document_id="d", content=name, score=score, metadata={}) for name, score in scores.items()
    ]


def scores(found: list[Hit]) -> dict[str, float]:
    return {hit.chunk_id: round(hit.score, 6) for hit in found}


NEAR, SAID = hits(a=0.9, b=0.5, c=0.1), hits(b=0.8, d=0.4)


def test_scores_are_added_by_weight() -> None:
    assert scores(fuse(NEAR, SAID, 0.5, 10)) == {"b": 0.65, "a": 0.45, "d": 0.25, "c": 0.05}


def test_a_hit_that_the_vectors_did_not_find_has_their_last_score() -> None:
    assert scores(fuse(hits(a=0.9, b=0.8), hits(z=0.5), 0.4, 10))["z"] == pytest.approx(0.4 * 0.8 + 0.6 * 0.5)


def test_the_greatest_possible_score_is_one() -> None:
    for alpha in (0.0, 0.3, 1.0):
        assert scores(fuse(hits(a=1.0), hits(a=1.0), alpha, 10)) == {"a": 1.0}


def test_alpha_one_is_vectors_alone_and_zero_words_alone() -> None:
    assert scores(fuse(NEAR, SAID, 1, 2)) == {"a": 0.9, "b": 0.5}
    assert scores(fuse(NEAR, SAID, 0, 1)) == {"b": 0.8}


@pytest.mark.parametrize("alpha", [-0.1, 1.01, float("nan")])
def test_an_alpha_out_of_range_is_refused_by_its_name(alpha: float) -> None:
    with pytest.raises(ValidationFailed) as caught:
        fuse(NEAR, SAID, alpha, 2)
    assert caught.value.errors[0].field == "hybrid_alpha"


def test_the_default_gives_vectors_a_say() -> None:
    assert DEFAULT_ALPHA >= 0.2


def test_one_list_may_be_empty() -> None:
    assert scores(fuse([], SAID, 0.5, 10)) == {"b": 0.4, "d": 0.2}
    assert scores(fuse(NEAR, [], 0.5, 10)) == {"a": 0.45, "b": 0.25, "c": 0.05}
    assert fuse([], [], 0.5, 10) == []


@pytest.mark.parametrize("combine", [average, relative, reciprocal_rank, highest])
def test_the_lists_given_stay_as_they_are(combine: object) -> None:
    before = msgspec.json.encode([NEAR, SAID])
    combine([NEAR, SAID], 3)  # type: ignore[operator]  # all four take lists and k
    fuse(NEAR, SAID, 0.5, 3)
    assert msgspec.json.encode([NEAR, SAID]) == before


def test_equal_scores_keep_the_order_of_appearance() -> None:
    assert list(scores(average([hits(b=0.5, a=0.5), hits(c=0.5)], 10))) == ["b", "a", "c"]


def test_the_average_counts_a_missing_hit_as_nothing() -> None:
    assert scores(average([NEAR, SAID], 10, [3, 1])) == {"a": 0.675, "b": 0.575, "d": 0.1, "c": 0.075}


def test_relative_scores_are_over_the_best_of_each_list() -> None:
    assert scores(relative([hits(a=0.1, b=0.05), hits(a=0.9)], 10)) == {"a": 1.0, "b": 0.25}


def test_the_highest_score_of_a_hit_counts() -> None:
    assert scores(highest([NEAR, SAID], 2)) == {"a": 0.9, "b": 0.8}


def test_reciprocal_ranks_look_at_ranks_alone() -> None:
    assert scores(reciprocal_rank([hits(a=0.9, b=0.1), hits(a=0.2, b=0.1)], 10, constant=1)) == {
        "a": 1.0,
        "b": round(2 / 3, 6),
    }
    assert list(scores(reciprocal_rank([NEAR, SAID], 10))) == ["b", "a", "d", "c"]


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    for combine in (average, relative, reciprocal_rank):
        with pytest.raises(ValidationFailed):
            combine([NEAR, SAID], 3, weights)


def test_no_lists_make_no_hits() -> None:
    assert average([], 3) == highest([], 3) == reciprocal_rank([], 3) == []


def test_a_hit_twice_in_a_list_counts_once() -> None:
    twice = [*hits(a=0.9), *hits(a=0.2)]
    assert scores(average([twice], 3)) == scores(highest([twice], 3)) == {"a": 0.9}
    assert scores(reciprocal_rank([twice], 3)) == {"a": 1.0}


def test_enough_hits_are_fetched_to_choose_from() -> None:
    assert depth(1) == depth(10) == 100
    assert depth(200) == 600
