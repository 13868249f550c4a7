"""The conformance suite of metadata extractors. Needs the package pytest.

A test file of an extractor is one class::

    class TestMine(ExtractorSuite):
        samples = {"plain": sample("Some text with 3 findings.", expects="findings")}
        options = [Option("max_findings", 1, "plain")]

        @pytest.fixture
        def extractor(self) -> Extractor:
            return MyExtractor()
"""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, Extractor, Table, TypeName
from paddock.errors import PaddockError, ValidationFailed

MAX_BYTES = 64 * 1024  # of one chunk's metadata as JSON: twenty kilobytes each of tables, contexts and lists have room

HOSTILE = (
    "",
    " \n\t ",
    "\x00\x1b[31m\x07",
    "\ud800 lone \udfff surrogates",
    "a" * 300_000,
    "a " * 150_000,
    "." * 300_000,
    "1" * 300_000,
    "1,2.3/4-5:6 " * 25_000,
    "(" * 100_000 + ")" * 100_000,
    "|" * 100_000,
    "| a " * 1000 + "\n" + "|---" * 1000 + "\n" + ("| b " * 1000 + "\n") * 20,
    " " * 200_000 + "|",
    "\n" * 200_000,
    "#" * 100_000 + " x",
    "# heading\n" * 20_000,
    "a@" * 100_000,
    "a@b." * 50_000,
    "http://" * 40_000,
    "see http://example.org/" + "a/" * 100_000,
    "/a" * 100_000,
    "C:\\" + "a\\" * 100_000,
    "../" * 100_000,
    "1:" * 100_000,
    "-".join("word" for _ in range(60_000)),
    "5 May " * 40_000,
    "in 3 days and 9 years ago " * 10_000,
    "99999 years ago, in 99999 years, 31 February 2026, 99/99/9999, 0000-00-00",
    "mr. " * 70_000,
    "日本語" * 60_000,
    "İ" * 100_000,
    "🐄" * 60_000,
)


class Sample(msgspec.Struct, frozen=True):
    """A chunk with its document, and a text that must occur in what is extracted from it with the default config."""

    chunk: Chunk
    document: Document
    expects: str = ""
    config: Mapping[str, Json] = {}


class Option(msgspec.Struct, frozen=True):
    """A value of a config field that must change the outcome for the sample; or be warned about, or refused.

    `given` is the config on both sides. Without `types` it counts for every type name whose config has the field.
    """

    field: str
    value: Json
    sample: str = ""
    given: Mapping[str, Json] = {}
    warns: bool = False
    refused: bool = False
    types: tuple[str, ...] = ()


def sample(text: str, expects: str = "", config: Mapping[str, Json] | None = None, **document: Any) -> Sample:
    """A sample whose chunk is the whole document."""
    return Sample(Chunk(text=text, start=0, end=len(text)), Document(text=text, **document), expects, config or {})


class ExtractorSuite:
    """What holds for every extractor. Override the fixture `extractor`; fill `samples` and `options`."""

    samples: ClassVar[Mapping[str, Sample]] = {}
    options: ClassVar[Sequence[Option]] = ()

    @pytest.fixture
    def extractor(self) -> Extractor:
        """The extractor under test."""
        raise NotImplementedError("override the fixture `extractor`")

    def test_an_unknown_option_is_named(self, extractor: Extractor) -> None:
        """Fails when the config struct accepts what it does not know."""
        for declared in extractor.types:
            with pytest.raises(ValidationFailed, match="no_such_option"):
                extractor.configure(declared.name, {"no_such_option": 1})

    def test_samples_give_what_they_must(self, extractor: Extractor) -> None:
        """Fails when nothing is found, or metadata is not flat JSON with readable keys."""
        assert self.samples, "give at least one sample"
        for declared in extractor.types:
            for name, given in copy.deepcopy(dict(self.samples)).items():
                config = extractor.configure(declared.name, given.config).config
                found = extractor.extract(given.chunk, given.document, config)
                check_metadata(found)
                text = msgspec.json.encode(found).decode()
                assert found if not given.expects else given.expects in text, f"{declared.name}, sample {name}: {text}"

    def test_nothing_is_changed(self, extractor: Extractor) -> None:
        """Fails when an extractor writes into the chunk or the document instead of returning what it found."""
        for given in self.samples.values():
            chunk, document = copy.deepcopy(given.chunk), copy.deepcopy(given.document)
            config = extractor.configure(extractor.name, given.config).config
            extractor.extract(chunk, document, config)
            assert (chunk, document) == (given.chunk, given.document)

    def test_extracting_again_gives_the_same_in_any_thread(self, extractor: Extractor) -> None:
        """Fails when something of one chunk or document is left over for the next, or threads disturb each other."""
        samples = copy.deepcopy(dict(self.samples)).values()
        jobs = [(given, extractor.configure(extractor.name, given.config).config) for given in samples]
        alone = [extractor.extract(given.chunk, given.document, config) for given, config in jobs]
        with ThreadPoolExecutor(4) as pool:
            futures = [
                pool.submit(extractor.extract, given.chunk, given.document, config)
                for _ in range(10)
                for given, config in jobs
            ]
            assert [future.result() for future in futures] == alone * 10

    def test_several_chunks_at_once_get_what_each_gets_alone(self, extractor: Extractor) -> None:
        """Fails when `extract_several` loses, adds or confuses chunks, or finds something else than `extract`."""
        for given in self.samples.values():
            config = extractor.configure(extractor.name, given.config).config
            chunks = [copy.deepcopy(given.chunk), Chunk(text="Nothing."), Chunk(text=""), copy.deepcopy(given.chunk)]
            alone = [extractor.extract(chunk, given.document, config) for chunk in chunks]
            assert extractor.extract_several(chunks, given.document, config) == alone

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_hostile_text_gives_small_clean_metadata(self, extractor: Extractor, text: str) -> None:
        """Fails for an error, for metadata that grows with the text, for lone surrogates; hangs for a bad pattern."""
        document = Document(text=text, tables=[Table(rows=[["a"] * 100] * 100)])
        chunk = Chunk(text=text, start=0, end=len(text))
        for given in [{}, *(one.config for one in self.samples.values() if one.config)]:
            check_metadata(extractor.extract(chunk, document, extractor.configure(extractor.name, given).config))

    def test_every_option_changes_the_outcome_or_is_told(self, extractor: Extractor) -> None:
        """Fails for a config field, or a listed value of one, that is accepted and has no effect and no warning.

        Add an `Option` for each field, and for each value of an enumeration.
        """
        problems = [problem for declared in extractor.types for problem in self._idle(extractor, declared)]
        assert not problems, "\n".join(problems)

    def _idle(self, extractor: Extractor, declared: TypeName) -> Iterator[str]:
        for field in msgspec.structs.fields(declared.config):
            shown: list[Json] = []
            for option in self.options:
                if option.field == field.name and declared.name in (option.types or (declared.name,)):
                    shown.append(option.value)
                    if problem := self._try(extractor, declared, option):
                        yield f"{declared.name}.{field.name} = {option.value!r}: {problem}"
            default = getattr(declared.config(), field.name)
            wanted = [value for value in _values(field.type) if value != default]
            missing = [value for value in wanted if value not in shown] if wanted else ["any value"] * (not shown)
            if missing:
                yield f"{declared.name}.{field.name}: no Option shows {', '.join(missing)} at work"

    def _try(self, extractor: Extractor, declared: TypeName, option: Option) -> str | None:
        raw = {**option.given, option.field: option.value}
        if option.refused:
            try:
                extractor.configure(declared.name, raw)
            except ValidationFailed as error:
                return (
                    None if any(item.field.startswith(option.field) for item in error.errors) else "refused, not named"
                )
            return "is not refused"
        changed = extractor.configure(declared.name, raw)
        if option.warns:
            return None if any(text.startswith(f"{option.field}:") for text in changed.warnings) else "gives no warning"
        given = copy.deepcopy(self.samples[option.sample])
        usual = extractor.configure(declared.name, option.given)
        before, after = (_outcome(extractor, given, config) for config in (usual.config, changed.config))
        return "changes nothing" if before == after else None


def _outcome(extractor: Extractor, given: Sample, config: Any) -> Json:
    """What is extracted, or the error that reaches people as a warning of the task."""
    try:
        return extractor.extract(given.chunk, given.document, config)
    except PaddockError as error:
        return error.message


def check_metadata(found: Mapping[str, Json]) -> None:
    """What every extractor's answer keeps: readable keys, scalars or lists of scalars, a bounded size, valid JSON."""
    for key, value in found.items():
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,79}", key), f"key {key!r}"
        for item in value if isinstance(value, list) else [value]:
            assert item is None or isinstance(item, str | int | float | bool), f"{key} is not flat: {item!r}"
            assert not isinstance(item, float) or abs(item) < 1e300, f"{key} is not a finite number"
    encoded = msgspec.json.encode(dict(found))
    assert msgspec.json.decode(encoded) == found, "does not survive JSON"
    assert len(encoded) <= MAX_BYTES, f"{len(encoded)} bytes of metadata"


def _values(kind: Any) -> tuple[str, ...]:
    """The strings of a Literal, none for other types."""
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
