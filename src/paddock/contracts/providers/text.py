"""Text models besides embedders and rerankers: classifiers, recognisers of entities; and what takes models in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from paddock.contracts.providers.base import Provider
from paddock.contracts.providers.chat import Progress

Aggregation = Literal["simple", "first", "average", "max"]


class Classified(msgspec.Struct, frozen=True, kw_only=True):
    """What a text was found to be. `all_scores` has every label of the model, in its order; they add up to 1 unless the labels
    do not exclude each other. `label` is the best one, `labels` are those that hold (only that one, or all of at least 0.5)."""

    label: str
    score: float
    all_scores: dict[str, float]
    labels: list[str]


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """A name found in a text: ``text[start:end]``, in characters."""

    text: str
    label: str
    start: int
    end: int
    score: float


class TextClassifier(Provider):
    """Sorts texts by models that were trained for that."""

    @abstractmethod
    async def classify(self, model: str, texts: Sequence[str], max_length: int | None = None) -> list[Classified]:
        """One result for each text, in order; of each at most `max_length` tokens count. Raises ModelNotFound, BadRequest
        (the model does something else; too long a `max_length`), TooLarge, ProviderUnavailable."""


class EntityRecogniser(Provider):
    """Finds the names in texts."""

    @abstractmethod
    async def entities(
        self, model: str, texts: Sequence[str], max_length: int | None = None, strategy: Aggregation = "simple"
    ) -> list[list[Entity]]:
        """The entities of each text, in the order of the text; without `max_length` all of the text is read. Raises as
        `TextClassifier.classify`."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was taken into the cache: its id, where it is, its bytes, what it does, and what to do next."""

    model: str
    folder: Path
    size: int
    task: str
    hint: str


class ModelImporter(Provider):
    """Takes a model folder of this machine into the model cache."""

    def fits(self, folder: Path) -> bool:  # noqa: ARG002  for importers of certain models
        """Whether this is a folder for this importer rather than for one of all others. Quick; never raises."""
        return False

    @abstractmethod
    def run(self, folder: Path, name: str | None, quantize: str | None, told: Callable[[Progress], None]) -> Imported:
        """Import, blocking; `told` hears how far it is, in steps. The model is stored under `name`, or one made from the
        folder's. It is there whole or not at all. Raises ValidationFailed (the folder is not fit), BadName, BadRequest."""
