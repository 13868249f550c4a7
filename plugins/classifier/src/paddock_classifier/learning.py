"""Learning: a linear map by contrast, a logistic regression on it, a temperature that makes its scores honest.

Measured on banking77 (tests/benchmarks/classifier.py). All of it blocks and is deterministic.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.errors import ProviderUnavailable

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]
    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Labels = np.ndarray[Any, np.dtype[np.int64]]
SEED = 0
RATE = 1e-4  # Adam's step; the map begins as the identity and stays near it
SHARPNESS = 10.0  # of the contrast: cosines are multiplied by it
INVERSE_PENALTY = 30.0  # C of the logistic regression
FOLDS = 3
HELD_OUT = 2  # of the folds: the third would tell hardly more, and cost as much time as each
FEW = 3000  # examples up to which the temperature comes from all of these; beyond, one tells enough
BELIEF = 2.0  # the temperature before any held-out example: the best was 1.4 to 4 wherever examples were few
DOUBT = 20.0  # held-out examples that weigh as much as the belief
SHARPEST, FLATTEST = 10.0, 0.1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit may choose. `stopped` is asked between iterations."""

    num_iterations: int = 20
    batch_size: int = 16
    stopped: Callable[[], bool] = bool


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """All that was learnt: ``softmax(unit(x @ map) @ weights + bias)``."""

    map: Any
    weights: Any
    bias: Any

    def logits(self, vectors: Matrix) -> Floats:
        """One row of logits for each vector."""
        logits: Floats = unit(vectors @ self.map) @ self.weights + self.bias
        return logits


def unit(vectors: Any) -> Any:
    """The vectors at length 1."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def learn(vectors: Matrix, labels: Labels, options: Options) -> Head:
    """Learn from unit vectors and labels 0 to k - 1, each of which occurs. Raises ProviderUnavailable when stopped."""
    head = _head(vectors, labels, options)
    temperature = _temperature(vectors, labels, options)
    return Head(map=head.map, weights=head.weights * temperature, bias=head.bias * temperature)


def _head(vectors: Matrix, labels: Labels, options: Options) -> Head:
    import numpy as np  # noqa: PLC0415  heavy: on first use
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  as above

    # One example of a label is what few-shot learning begins with, no mistake to be told of in the server's output.
    warnings.filterwarnings("ignore", "The number of unique classes", UserWarning, "sklearn")
    linear = contrastive_map(vectors, labels, options)
    mapped = unit(vectors @ linear)
    model = LogisticRegression(C=INVERSE_PENALTY, class_weight="balanced", max_iter=5000).fit(mapped, labels)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # two labels share one logit
        weights, bias = np.hstack([-weights, weights]) / 2, np.hstack([-bias, bias]) / 2
    return Head(map=linear, weights=weights, bias=bias)


class Pairs:
    """Draws examples with a partner of the same label, every label as often as another where their numbers differ."""

    def __init__(self, labels: Labels) -> None:
        import numpy as np  # noqa: PLC0415  heavy: on first use

        self._random = np.random.default_rng(SEED)
        self._labels = labels
        self._by_label = np.argsort(labels, kind="stable")
        self._counts = np.bincount(labels)
        self._starts = np.cumsum(self._counts) - self._counts
        self._even = bool((self._counts == self._counts[0]).all())

    def batches(self, size: int) -> Iterator[tuple[Labels, Labels]]:
        """One round: as many examples as there are, with their partners; an example alone is its own."""
        count = len(self._labels)
        if self._even:
            order = self._random.permutation(count)
        else:
            order = self._partners(self._random.integers(len(self._counts), size=count))
        for at in range(0, count, size):
            examples = order[at : at + size]
            yield examples, self._partners(self._labels[examples])

    def _partners(self, labels: Labels) -> Labels:
        """An example of each label."""
        places = (self._random.random(len(labels)) * self._counts[labels]).astype(int)
        partners: Labels = self._by_label[self._starts[labels] + places]
        return partners


class Adam:
    """Adam's steps on one matrix, in place."""

    def __init__(self, weights: Matrix) -> None:
        import numpy as np  # noqa: PLC0415  heavy: on first use

        self._weights = weights
        self._mean, self._square, self._step = np.zeros_like(weights), np.zeros_like(weights), np.empty_like(weights)
        self._count = 0

    def move(self, gradient: Matrix) -> None:
        """One step against the gradient, which is used up.

        The means are kept as plain sums, 1/(1 - 0.9) and 1/(1 - 0.999) times too large; the constants make up for it, and
        each pass over the matrix that is saved counts: they take most of a fit's time.
        """
        import numpy as np  # noqa: PLC0415  heavy: on first use

        self._count += 1
        first = 0.1 / (1 - 0.9**self._count)
        second = (0.001 / (1 - 0.999**self._count)) ** 0.5
        self._mean *= 0.9
        self._mean += gradient
        gradient *= gradient
        self._square *= 0.999
        self._square += gradient
        np.sqrt(self._square, out=self._step)
        self._step += 1e-8 / second
        np.divide(self._mean, self._step, out=self._step)
        self._step *= RATE * first / second
        self._weights -= self._step


def contrastive_map(vectors: Matrix, labels: Labels, options: Options) -> Matrix:
    """A square matrix under which texts of one label lie closer together, and others farther apart, than before."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    vectors = np.asarray(vectors, dtype=np.float32)
    linear = np.eye(vectors.shape[1], dtype=np.float32)
    adam, pairs = Adam(linear), Pairs(labels)
    for _ in range(options.num_iterations):
        if options.stopped():
            raise ProviderUnavailable("the server is stopping: fit again when it is back")
        for examples, partners in pairs.batches(options.batch_size):
            adam.move(_gradient(linear, vectors, labels, examples, partners))
    return linear


def _gradient(linear: Matrix, vectors: Matrix, labels: Labels, examples: Labels, partners: Labels) -> Matrix:
    """Of the cross entropy with which each example finds the partners of its label among those of the batch."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    count = len(examples)
    both = vectors[np.concatenate([examples, partners])]
    mapped = both @ linear
    lengths = np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)
    units = mapped / lengths
    first, second = units[:count], units[count:]
    same = labels[examples][:, None] == labels[partners][None, :]
    error = softmax(SHARPNESS * (first @ second.T)) - same / same.sum(axis=1, keepdims=True)
    error *= SHARPNESS / count
    back = np.concatenate([error @ second, error.T @ first])
    back = (back - (back * units).sum(axis=1, keepdims=True) * units) / lengths
    gradient: Matrix = both.T @ back.astype(np.float32)
    return gradient


def softmax(logits: Any) -> Any:
    """Probabilities by row."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


# --- calibration -------------------------------------------------------------------------------------------------------


def folds(labels: Labels) -> list[Labels]:
    """The examples to hold out in turn: of each label with two examples or more a part, so that one stays to learn from."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    order = np.argsort(np.random.default_rng(SEED).random(len(labels)))
    counts = np.bincount(labels)
    seen, number = np.zeros(len(counts), dtype=int), np.empty(len(labels), dtype=int)
    for at in order:
        number[at] = seen[labels[at]]
        seen[labels[at]] += 1
    parts = min(FOLDS, max(counts.tolist()))
    found = [np.flatnonzero((number % parts == part) & (counts[labels] > 1)) for part in range(parts)]
    used = [part for part in found if len(part)]
    return used[: HELD_OUT if len(labels) <= FEW else 1]


def _temperature(vectors: Matrix, labels: Labels, options: Options) -> float:
    """What to multiply logits with, from examples that a head learnt without them did not see; the belief while they are few."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    logits, truth = [], []
    for held in folds(labels):
        rest = np.setdiff1d(np.arange(len(labels)), held)
        logits.append(_head(vectors[rest], labels[rest], options).logits(vectors[held]))
        truth.append(labels[held])
    if not truth:
        return BELIEF
    return fitted_temperature(np.concatenate(logits), np.concatenate(truth))


def fitted_temperature(logits: Floats, truth: Labels) -> float:
    """The factor with the least cross entropy, drawn towards `BELIEF` by `DOUBT`."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    factors = np.geomspace(FLATTEST, SHARPEST, 81)
    rows = np.arange(len(truth))
    losses = [-np.log(softmax(logits * factor)[rows, truth] + 1e-12).mean() for factor in factors]
    best = float(factors[int(np.argmin(losses))])
    trust = len(truth) / (len(truth) + DOUBT)
    return float(best**trust * BELIEF ** (1 - trust))
