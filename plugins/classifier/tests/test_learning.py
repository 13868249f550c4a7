"""What is learnt: the map, the head, the temperature, and the exported graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from paddock_classifier.graph import Scorer, head_graph
from paddock_classifier.learning import (
    BELIEF,
    Options,
    Pairs,
    contrastive_map,
    fitted_temperature,
    folds,
    learn,
    softmax,
    unit,
)

from paddock.builtin.trained import Damaged
from paddock.errors import ProviderUnavailable

DIMENSION = 24


def clusters(counts: list[int], seed: int = 0, spread: float = 0.6) -> tuple[Any, Any]:
    """Unit vectors around one direction for each label, and the labels."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(len(counts), DIMENSION))
    labels = np.repeat(np.arange(len(counts)), counts)
    vectors = unit(centres[labels] + random.normal(size=(len(labels), DIMENSION)) * spread)
    return vectors.astype(np.float32), labels


def cosines(vectors: Any, labels: Any) -> tuple[float, float]:
    """The mean cosine of texts of one label, and of different labels."""
    all_pairs = unit(vectors) @ unit(vectors).T
    same = labels[:, None] == labels[None, :]
    off = ~np.eye(len(labels), dtype=bool)
    return float(all_pairs[same & off].mean()), float(all_pairs[~same].mean())


def test_the_map_brings_texts_of_one_label_together_and_others_apart() -> None:
    vectors, labels = clusters([10] * 4, spread=1.0)
    before, after = cosines(vectors, labels), cosines(vectors @ contrastive_map(vectors, labels, Options()), labels)
    assert after[0] - after[1] > before[0] - before[1]


def test_iterations_and_batch_size_change_the_map_and_a_fit_is_deterministic() -> None:
    vectors, labels = clusters([8] * 3)
    maps = [
        contrastive_map(vectors, labels, options)
        for options in (
            Options(),
            Options(),
            Options(num_iterations=1),
            Options(batch_size=4),
        )
    ]
    assert (maps[0] == maps[1]).all()
    moved = [float(np.linalg.norm(one - np.eye(DIMENSION))) for one in maps]
    assert moved[0] > 3 * moved[2] > 0
    assert float(np.abs(maps[0] - maps[3]).max()) > 1e-4


def test_every_label_is_drawn_as_often_where_their_numbers_differ() -> None:
    labels = np.repeat([0, 1], [95, 5])
    drawn = np.concatenate([labels[examples] for _ in range(50) for examples, _ in Pairs(labels).batches(16)])
    assert np.bincount(drawn)[1] / len(drawn) == pytest.approx(0.5, abs=0.15)


def test_partners_have_the_same_label_and_an_even_round_shows_every_example_once() -> None:
    labels = np.repeat([0, 1, 2], 7)
    seen = []
    for examples, partners in Pairs(labels).batches(4):
        assert (labels[examples] == labels[partners]).all()
        seen += examples.tolist()
    assert sorted(seen) == list(range(21))


def test_a_few_examples_are_classified_right() -> None:
    head = learn(*clusters([8] * 5), Options())
    test, truth = clusters([40] * 5, seed=1)
    assert (head.logits(test).argmax(axis=1) == truth).mean() > 0.95


def test_imbalance_does_not_drown_the_rare_label() -> None:
    head = learn(*clusters([200, 4], spread=1.0), Options())
    test, truth = clusters([100, 100], seed=1, spread=1.0)
    right = head.logits(test).argmax(axis=1) == truth
    assert right[truth == 1].mean() > 0.8
    assert right[truth == 0].mean() > 0.8


def test_scores_are_honest() -> None:
    """Among the predictions made with about this confidence about this share is right."""
    head = learn(*clusters([20] * 6, spread=2.2), Options())
    test, truth = clusters([300] * 6, seed=1, spread=2.2)
    scores = softmax(head.logits(test))
    accuracy, confidence = (scores.argmax(axis=1) == truth).mean(), scores.max(axis=1).mean()
    assert 0.4 < accuracy < 0.99
    assert confidence == pytest.approx(accuracy, abs=0.1)


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1], [2, 1], [3, 3], [1, 50], [1] * 30])
def test_tiny_samples_are_learnt(counts: list[int]) -> None:
    vectors, labels = clusters(counts)
    scores = softmax(learn(vectors, labels, Options()).logits(vectors))
    assert np.isfinite(scores).all()
    assert (scores.argmax(axis=1) == labels).all()


@pytest.mark.parametrize("same", [True, False])
def test_texts_without_a_difference_give_even_scores(same: bool) -> None:
    vectors = np.zeros((4, DIMENSION), dtype=np.float32)
    vectors[:, 0] = 1.0 if same else 0.0
    scores = softmax(learn(vectors, np.array([0, 0, 1, 1]), Options()).logits(vectors))
    assert scores == pytest.approx(0.5, abs=0.01)


def test_a_label_keeps_an_example_to_learn_from_in_every_fold() -> None:
    labels = np.repeat(np.arange(5), [1, 2, 3, 4, 50])
    held = folds(labels)
    assert len(held) == 2
    for part in held:
        assert set(np.delete(labels, part)) == set(range(5))
    assert folds(np.arange(5)) == []
    assert len(folds(np.repeat(np.arange(2), 2000))) == 1


def test_few_held_out_examples_hardly_move_the_temperature() -> None:
    logits, truth = np.array([[0.1, 0.0]]), np.array([0])
    assert fitted_temperature(logits, truth) == pytest.approx(10 ** (1 / 21) * BELIEF ** (20 / 21), rel=1e-6)
    many = fitted_temperature(np.repeat(logits, 1000, axis=0), np.repeat(truth, 1000))
    assert many > 9


def test_the_graph_scores_as_the_head() -> None:
    vectors, labels = clusters([5, 5])
    head = learn(vectors, labels, Options())
    scorer = Scorer("m", head_graph(head), 2, 1)
    scores = scorer.scores(vectors)
    assert scorer.dimension == DIMENSION
    assert np.abs(scores - softmax(head.logits(vectors))).max() < 1e-5
    assert scores.sum(axis=1) == pytest.approx(1, abs=1e-5)
    with pytest.raises(Damaged, match="do not fit"):
        Scorer("m", head_graph(head), 3, 1)


def test_a_fit_ends_when_the_server_stops() -> None:
    with pytest.raises(ProviderUnavailable, match="stopping"):
        learn(*clusters([3, 3]), Options(stopped=lambda: True))
