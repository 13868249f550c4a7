"""EntityExtractor: the kit's suite on a tiny model, and through a server."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from onnx_kit import imported, lexicon
from paddock_onnx.extractor import MODEL, EntityConfig, EntityExtractor
from paddock_onnx.residency import Residency
from paddock_onnx.settings import OnnxSettings

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.providers import Chunk, Document, Extractor
from paddock.errors import ModelNotFound, ProviderUnavailable
from paddock.testing.extractor import ExtractorSuite, Option, sample

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
NAMES = {"cow": "B-PER", "milk": "I-PER", "harbour": "B-LOC"}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop of a server, in a thread of its own."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture
def found(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> EntityExtractor:
    imported(tmp_path / "hub", lexicon(tmp_path / "source", "ner", TAGS, NAMES), MODEL)
    residency = Residency(HubCache(tmp_path / "hub"), OnnxSettings())
    residency.loop = loop
    return EntityExtractor(residency)


class TestEntityExtractor(ExtractorSuite):
    """A model that knows three words."""

    samples: ClassVar = {
        "names": sample("The cow milk met a cow in the harbour, and the cow left.", expects="harbour"),
        "addresses": sample("write to a@example.org", expects="EMAIL", config={"model": "org/none"}),
    }
    options: ClassVar = [
        Option("model", "org/none", "names"),
        Option("model", "en_core_web_sm", warns=True),
        Option("entity_types", ["GPE"], "names"),
        Option("use_fallback", False, "addresses", given={"model": "org/none"}),
        Option("min_entity_length", 5, "names"),
        Option("merge_entities", False, "names"),
        Option("confidence_threshold", 1.0, "names"),
    ]

    @pytest.fixture
    def extractor(self, found: EntityExtractor) -> Extractor:
        return found


def test_names_are_found_with_their_labels(found: EntityExtractor) -> None:
    text = "The cow milk met a cow in the harbour, and the cow left."
    assert found.extract(Chunk(text=text), Document(text=text), EntityConfig()) == {
        "entities": ["cow milk", "cow", "harbour"],
        "entity_labels": ["PERSON", "PERSON", "LOC"],
        "entities_person": ["cow milk", "cow"],
        "entities_loc": ["harbour"],
        "entity_count": 3,
        "entity_model": MODEL,
    }
    only = found.extract(Chunk(text=text), Document(text=text), EntityConfig(entity_types=["LOCATION"]))
    assert only["entities"] == ["harbour"]


def test_without_the_model_and_the_fallback_the_command_is_named(found: EntityExtractor) -> None:
    config = EntityConfig(model="org/none", use_fallback=False)
    with pytest.raises(ModelNotFound, match="paddock models download org/none"):
        found.extract(Chunk(text="a"), Document(text="a"), config)


def test_it_needs_a_server(tmp_path: Path) -> None:
    extractor = EntityExtractor(Residency(HubCache(tmp_path), OnnxSettings()))
    with pytest.raises(ProviderUnavailable):
        extractor.extract(Chunk(text="a"), Document(text="a"), EntityConfig())
