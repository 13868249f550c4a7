"""Proof that the conformance suite of extractors can fail: each broken fake fails the tests that are meant for it."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import msgspec
import pytest

from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Configured, Document, Extractor, TypeName
from paddock.testing.extractor import ExtractorSuite, Option, sample
from paddock.testing.proof import parameters_of


class CountConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the fakes."""

    twice: bool = False


class Count(Extractor):
    """A whole extractor that keeps the contract."""

    types = (TypeName("CountExtractor", CountConfig),)

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        return {"letters": len(chunk.text) * (1 + config.twice)}


class Deaf(Count):
    """Ignores its option."""

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        return {"letters": len(chunk.text)}


class Lenient(Count):
    """Takes any option."""

    def configure(self, type_name: str, raw: Any) -> Configured:
        return super().configure(type_name, {key: value for key, value in (raw or {}).items() if key == "twice"})


class Nested(Count):
    """Metadata inside metadata."""

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        return {"counts": {"letters": len(chunk.text) * (1 + config.twice)}}


class Hoarder(Count):
    """Puts the whole text into the metadata, surrogates and all."""

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        return {"text": chunk.text * (1 + config.twice)}


class Writer(Count):
    """Writes into the chunk."""

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        chunk.metadata["letters"] = len(chunk.text)
        return super().extract(chunk, document, config)


class Remembering(Count):
    """Counts its calls."""

    calls = 0

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        self.calls += 1
        return super().extract(chunk, document, config) | {"calls": self.calls}


class Silent(Count):
    """Finds nothing."""

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        return {}


class CountSuite(ExtractorSuite):
    """The suite as an author would fill it for `Count`."""

    samples: ClassVar = {"word": sample("word", "4")}
    options: ClassVar = [Option("twice", True, "word")]


class Forgetful(CountSuite):
    """The option is not shown."""

    options: ClassVar = []


class TestCount(CountSuite):
    """The suite passes for an extractor that keeps the contract."""

    @pytest.fixture
    def extractor(self) -> Extractor:
        return Count()


def failures(suite: ExtractorSuite, extractor: Extractor) -> set[str]:
    failed = set()
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if name.startswith("test_"):
            for given in parameters_of(test):
                try:
                    test(extractor=extractor, **given)
                except (Exception, pytest.fail.Exception):  # noqa: BLE001  any failure counts
                    failed.add(name.removeprefix("test_"))
    return failed


IDLE = "every_option_changes_the_outcome_or_is_told"
SMALL = "hostile_text_gives_small_clean_metadata"
FOUND = "samples_give_what_they_must"


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (Deaf(), {IDLE}),
        (Lenient(), {"an_unknown_option_is_named"}),
        (Nested(), {FOUND, SMALL}),
        (Hoarder(), {FOUND, SMALL}),
        (Writer(), {"nothing_is_changed"}),
        (Remembering(), {"extracting_again_gives_the_same_in_any_thread"}),
        (Silent(), {FOUND, IDLE}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Extractor) else "",
)
def test_a_broken_extractor_fails_what_is_meant_for_it(broken: Extractor, expected: set[str]) -> None:
    assert expected <= failures(CountSuite(), broken)


def test_an_option_that_nothing_shows_fails_the_suite() -> None:
    assert failures(Forgetful(), Count()) == {IDLE}


def test_the_suite_passes_for_a_sound_extractor() -> None:
    assert failures(CountSuite(), Count()) == set()
