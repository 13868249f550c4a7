"""Training examples: checked, and each pair of text and label once."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.contracts.classifiers import Example
from paddock.errors import BadRequest, TooLarge
from paddock_classifier.settings import ClassifierSettings


def limit_texts(texts: Sequence[str], what: str, settings: ClassifierSettings) -> None:
    """Raises TooLarge naming the setting, BadRequest for a text without a character."""
    if len(texts) > settings.max_texts:
        raise TooLarge(
            f"{len(texts)} texts are more than {settings.max_texts}, the setting classifier.max_texts: send fewer at once"
        )
    for at, text in enumerate(texts):
        if len(text) > settings.max_text:
            raise TooLarge(f"{what}[{at}] is longer than {settings.max_text}, the setting classifier.max_text: cut it")
        if not text.strip():
            raise BadRequest(f"{what}[{at}] has an empty text: leave it out")


def limit_scores(texts: int, labels: int, settings: ClassifierSettings) -> None:
    """Raises TooLarge naming the setting."""
    if texts * labels > settings.max_scores:
        raise TooLarge(
            f"{texts} texts of {labels} labels each are more scores than {settings.max_scores}, the setting "
            "classifier.max_scores: send fewer texts at once"
        )


def prepared(examples: Sequence[Example], settings: ClassifierSettings) -> tuple[list[str], list[int], list[str]]:
    """The texts, the number of each one's label, and the sorted labels. An example given twice counts once.

    Raises BadRequest for fewer than two labels, TooLarge.
    """
    limit_texts([example.text for example in examples], "training_data", settings)
    for at, example in enumerate(examples):
        if len(example.label) > settings.max_label:
            raise TooLarge(f"training_data[{at}]: a label is longer than {settings.max_label}, classifier.max_label")
        if not example.label.strip():
            raise BadRequest(f"training_data[{at}] has an empty label: name it, or leave the example out")
    labels = sorted({example.label for example in examples})
    if len(labels) < 2:
        raise BadRequest(
            f"training_data has {len(labels)} label{'s' * (not labels)}: a classifier tells two or more apart"
        )
    if len(labels) > settings.max_classes:
        raise TooLarge(f"{len(labels)} labels are more than {settings.max_classes}, the setting classifier.max_classes")
    places = {label: at for at, label in enumerate(labels)}
    pairs = dict.fromkeys((example.text, places[example.label]) for example in examples)
    return [text for text, _ in pairs], [place for _, place in pairs], labels
