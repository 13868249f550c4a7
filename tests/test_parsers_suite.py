"""The suite for parsers finds each fault: proofs by fakes that are right but for one thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from paddock.contracts.providers import ChunkOptions, Document, Page, Parser, Source, TypeName
from paddock.errors import ValidationFailed
from paddock.testing.parser import Option, ParserSuite, Sample


class LooseConfig(msgspec.Struct, frozen=True):
    """Has an option that does nothing."""

    chunk_size: int = 1000
    idle: bool = False


class Fake(Parser):
    """A parser for ``.fake`` that is right unless told otherwise."""

    types = (TypeName("Fake", LooseConfig),)
    extensions = frozenset({".fake"})

    def __init__(self, spoil: Callable[[Source, Document], Document] = lambda source, document: document) -> None:
        self._spoil = spoil
        self.count = 0

    def parse(self, source: Source, config: Any) -> Document:
        self.count += 1
        return self._spoil(source, Document(text=source.path.read_text("utf-8", "replace"), metadata={}))

    def chunking(self, source: Source, config: Any) -> ChunkOptions:
        return ChunkOptions(strategy="paragraphs", size=config.chunk_size)


class FakeSuite(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {"one": Sample("a.fake", b"some words", ("words",))}
    options: ClassVar[Sequence[Option]] = (Option("chunk_size", 5, "one"),)


SPOILED: list[Callable[[Source, Document], Document]] = [
    lambda source, document: msgspec.structs.replace(document, text="other text"),
    lambda source, document: msgspec.structs.replace(document, text=document.text + "\x00"),
    lambda source, document: msgspec.structs.replace(document, text=document.text + "\ud800"),
    lambda source, document: msgspec.structs.replace(document, text=" "),
    lambda source, document: msgspec.structs.replace(document, pages=[Page(1, 0, 999)]),
    lambda source, document: msgspec.structs.replace(document, pages=[Page(1, 0, 5), Page(2, 3, 6)]),
    lambda source, document: msgspec.structs.replace(document, metadata={"a": (1, 2)}),
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_the_suite_finds_wrong_documents(tmp_path: Path, spoil: Callable[[Source, Document], Document]) -> None:
    with pytest.raises((AssertionError, UnicodeEncodeError)):
        FakeSuite().test_samples_are_read_under_every_type_name(Fake(spoil), tmp_path)


def test_the_suite_finds_options_without_effect(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"Fake\.idle: no Option shows any value at work"):
        FakeSuite().test_every_option_changes_the_outcome_or_warns(Fake(), tmp_path)

    class Claims(FakeSuite):
        options = (*FakeSuite.options, Option("idle", True, "one"))

    with pytest.raises(AssertionError, match="idle = True: changes nothing"):
        Claims().test_every_option_changes_the_outcome_or_warns(Fake(), tmp_path)


def test_the_suite_finds_parsers_that_take_anything(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception):
        FakeSuite().test_an_empty_file_is_refused_with_a_reason(Fake(), tmp_path, b"")
    with pytest.raises(pytest.fail.Exception):
        FakeSuite().test_random_bytes_are_refused_with_a_reason(Fake(), tmp_path, 1)


def test_the_suite_finds_reasons_that_show_paths(tmp_path: Path) -> None:
    def leak(source: Source, document: Document) -> Document:
        raise ValidationFailed(f"can't read {source.path}")

    with pytest.raises(AssertionError):
        FakeSuite().test_random_bytes_are_refused_with_a_reason(Fake(leak), tmp_path, 1)


def test_the_suite_finds_errors_of_libraries(tmp_path: Path) -> None:
    def crash(source: Source, document: Document) -> Document:
        raise KeyError("x")

    for check in (
        FakeSuite().test_a_cut_file_never_escapes_as_another_error,
        FakeSuite().test_samples_are_read_under_every_type_name,
    ):
        with pytest.raises(KeyError):
            check(Fake(crash), tmp_path)


def test_the_suite_finds_state(tmp_path: Path) -> None:
    fake = Fake(lambda source, document: msgspec.structs.replace(document, metadata={"count": fake.count}))
    with pytest.raises(AssertionError):
        FakeSuite().test_reading_twice_gives_the_same(fake, tmp_path)


def test_the_suite_finds_bad_declarations(tmp_path: Path) -> None:
    class Shouting(Fake):
        extensions = frozenset({".FAKE"})

        def chunking(self, source: Source, config: Any) -> ChunkOptions:
            return ChunkOptions(strategy="paragraphs", size=10, overlap=10)

        def warn(self, type_name: str, config: Any) -> list[str]:
            return ["idle: nothing"]

    with pytest.raises(AssertionError):
        FakeSuite().test_endings_and_mime_types_are_written_as_the_choice_expects(Shouting())
    with pytest.raises(AssertionError):
        FakeSuite().test_chunking_gives_what_a_chunker_takes(Shouting(), tmp_path)
    with pytest.raises(AssertionError):
        FakeSuite().test_defaults_of_every_type_are_valid(Shouting())
