"""EntityExtractor: the names in a chunk as its metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from paddock.builtin.extractors.common import MAX_ITEMS, MAX_VALUE, TextExtractor
from paddock.builtin.extractors.predefined import PREDEFINED
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, Entity, TypeName
from paddock.errors import ModelNotFound, ProviderUnavailable
from paddock_onnx.entities import OnnxRecogniser
from paddock_onnx.residency import Residency

MODEL = "dslim/bert-base-NER"
SPACY = ("en_core_web_sm", "en_core_web_md", "en_core_web_lg", "en_core_web_trf")  # LlamaFarm's names
PATTERNS = {"email": "EMAIL", "phone": "PHONE", "url": "URL", "date": "DATE"}
SAME = {"PER": "PERSON", "ORGANIZATION": "ORG", "GPE": "LOC", "LOCATION": "LOC"}  # one label under several names
PATIENCE = 600.0  # seconds for some chunks, the loading of the model included


class EntityConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of EntityExtractor. `entity_types` null: all that the model knows; PER and PERSON, GPE, LOC and LOCATION, ORG
    and ORGANIZATION are the same. `min_entity_length` in characters. `merge_entities`: the same name counts once.
    `use_fallback`: without the model, addresses, telephone numbers and dates are found by patterns."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = MODEL
    entity_types: list[str] | None = None
    use_fallback: bool = True
    min_entity_length: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 2
    merge_entities: bool = True
    confidence_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.7


class EntityExtractor(TextExtractor):
    """``entities`` in the order of the text, ``entity_labels`` beside them, ``entities_person`` and the like for each label,
    ``entity_count``, and ``entity_model``: the model that found them, or ``patterns``. At most 50."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("EntityExtractor", EntityConfig),)
    limit = 8000
    together = 64

    def __init__(self, residency: Residency) -> None:
        self._residency = residency
        self._recogniser = OnnxRecogniser(residency)

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """Names of spaCy's models stand for another one here."""
        return [f"model: {config.model} is spaCy's; {MODEL} stands in for it"] if config.model in SPACY else []

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  as above
        """See `TextExtractor.find`. Raises ModelNotFound without `use_fallback`, ProviderUnavailable."""
        return self._all([text], config)[0]

    def extract_several(self, chunks: Sequence[Chunk], document: Document, config: Any) -> list[dict[str, Json]]:  # noqa: ARG002  as above
        """See `Extractor.extract_several`: the model reads the texts of all chunks in full batches."""
        found = self._all([self.seen(chunk) for chunk in chunks], config)
        return [self.told(one, chunk) for one, chunk in zip(found, chunks, strict=True)]

    def _all(self, texts: Sequence[str], config: EntityConfig) -> list[dict[str, Json]]:
        model = MODEL if config.model in SPACY else config.model
        try:
            found = self._asked(model, texts)
        except ModelNotFound:
            if not config.use_fallback:
                raise
            model, found = "patterns", [by_pattern(text) for text in texts]
        return [metadata(chosen(one, config), model) for one in found]

    def _asked(self, model: str, texts: Sequence[str]) -> list[list[Entity]]:
        loop = self._residency.loop
        if loop is None or loop.is_closed():
            raise ProviderUnavailable("entities are found while the server runs")
        return asyncio.run_coroutine_threadsafe(self._recogniser.entities(model, texts), loop).result(PATIENCE)


def by_pattern(text: str) -> list[Entity]:
    """What patterns alone can find."""
    found = [
        Entity(text=text[start:end], label=label, start=start, end=end, score=1.0)
        for name, label in PATTERNS.items()
        for start, end in PREDEFINED[name](text)
    ]
    return sorted(found, key=lambda one: one.start)


def chosen(found: Iterable[Entity], config: EntityConfig) -> list[Entity]:
    """The entities that the config wants."""
    wanted = None if config.entity_types is None else {label_of(name) for name in config.entity_types}
    kept: list[Entity] = []
    seen: set[tuple[str, str]] = set()
    for one in found:
        label = label_of(one.label)
        fits = len(one.text) >= config.min_entity_length and one.score >= config.confidence_threshold
        known = config.merge_entities and (one.text.casefold(), label) in seen
        if fits and not known and (wanted is None or label in wanted):
            seen.add((one.text.casefold(), label))
            kept.append(msgspec.structs.replace(one, label=label))
    return kept


def label_of(name: str) -> str:
    """A label under the one name that is used here."""
    return SAME.get(name.upper(), name.upper())


def metadata(found: Sequence[Entity], model: str) -> dict[str, Json]:
    """Flat metadata of bounded size; nothing for nothing."""
    if not found:
        return {}
    shown = [(one.text[:MAX_VALUE], one.label) for one in found[:MAX_ITEMS]]
    made: dict[str, Json] = {
        "entities": [text for text, _ in shown],
        "entity_labels": [label for _, label in shown],
        "entity_count": len(found),
        "entity_model": model,
    }
    for text, label in shown:
        key = "".join(char if char.isascii() and char.isalnum() else "_" for char in label.lower())[:60]
        made.setdefault(f"entities_{key}", []).append(text)
    return made
