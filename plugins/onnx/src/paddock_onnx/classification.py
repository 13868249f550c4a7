"""Texts sorted into a model's labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from paddock.contracts.providers import Classified, Health, TextClassifier, TypeName
from paddock_onnx.facts import Facts
from paddock_onnx.residency import Residency

if TYPE_CHECKING:
    from paddock_onnx.model import Array

HOLDS = 0.5  # from here on a label of a multi-label model holds


class OnnxClassifier(TextClassifier):
    """Type ``onnx``: models for sequence classification."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("onnx"),)

    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    async def classify(self, model: str, texts: Sequence[str], max_length: int | None = None) -> list[Classified]:
        """See `TextClassifier.classify`."""
        async with self._residency.using(model) as loaded:
            loaded.must("classification")
            rows = await loaded.run(await loaded.tokens(texts, loaded.cut(max_length)))
            return await loaded.aside(lambda: [classified(row, loaded.facts) for row in rows])

    async def health(self) -> Health:
        """The classifiers in memory."""
        loaded = [one.id for one in self._residency.loaded() if one.facts.task == "classification"]
        return Health(message=f"{len(loaded)} classifiers loaded", details={"loaded": loaded})


def classified(row: Array, facts: Facts) -> Classified:
    """A text's result from the model's outputs."""
    values = sigmoids(row) if facts.multi_label else softmax(row)
    scores = {label: float(value) for label, value in zip(facts.labels, values, strict=True)}
    best = max(scores, key=scores.__getitem__)
    labels = [label for label, score in scores.items() if score >= HOLDS] if facts.multi_label else [best]
    return Classified(label=best, score=scores[best], all_scores=scores, labels=labels)


def softmax(rows: Array) -> Array:
    """Scores over the last axis that add up to 1."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    grown = np.exp(rows - rows.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def sigmoids(rows: Array) -> Array:
    """Scores of labels that do not exclude each other."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return np.asarray(1 / (1 + np.exp(-np.clip(rows, -80, 80))))
