"""Conformance suites for parsers and chunkers.

A test file of a parser is one class::

    class TestMine(ParserSuite):
        samples = {"plain": Sample("a.mine", b"…", words=("hello",))}
        options = [Option("chunk_strategy", "sentences", "plain")]

        @pytest.fixture
        def parser(self) -> Parser:
            return MyParser()
"""

from __future__ import annotations

import hashlib
import random
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from paddock.builtin.chunkers import builtin_chunkers
from paddock.contracts.base import Json
from paddock.contracts.providers import (
    Chunk,
    Chunker,
    ChunkOptions,
    Document,
    Page,
    PageText,
    Parser,
    Reading,
    Record,
    Section,
    Source,
    Table,
    TextReader,
    TypeName,
)
from paddock.errors import ValidationFailed


class Sample(msgspec.Struct, frozen=True):
    """A file that the parser must read: its name, bytes, words that its text must hold, and its mime type."""

    filename: str
    data: bytes
    words: tuple[str, ...] = ()
    mime: str = "application/octet-stream"


class Option(msgspec.Struct, frozen=True):
    """A value of a config field that must change the outcome for the sample, or be warned about (`warns`).

    `given` is the config on both sides. Without `types` it counts for every type name whose config has the field and
    takes the value.
    """

    field: str
    value: Json
    sample: str = ""
    given: Mapping[str, Json] = {}
    warns: bool = False
    types: tuple[str, ...] = ()


class WrittenReader(TextReader):
    """OCR that reads twenty lines from every page: its number, and how it was asked."""

    def pages(self, path: Path, numbers: Sequence[int] | None, reading: Reading) -> dict[int, PageText]:
        """See `TextReader.pages`."""
        if not path.read_bytes().startswith((b"%PDF", b"\x89PNG")):
            raise ValidationFailed("the file is no picture")
        asked = f"in {' and '.join(reading.languages)} by {reading.engine or 'any engine'}"
        return {
            number: PageText(
                text=" ".join(f"Line {line} is read from page {number} {asked}." for line in range(20)),
                confidence=0.9,
                lines=[],
            )
            for number in numbers or [1]
        }


def store(folder: Path, sample: Sample) -> Source:
    """Write a sample the way that uploads are stored: under its hash, without an ending. Its OCR is a `WrittenReader`."""
    name = hashlib.sha256(sample.data).hexdigest()
    path = folder / name
    path.write_bytes(sample.data)
    return Source(
        path=path, filename=sample.filename, mime=sample.mime, size=len(sample.data), sha256=name, ocr=WrittenReader()
    )


def check_document(document: Document) -> None:
    """What every parsed document keeps: clean text, spans inside it, metadata that is JSON."""
    assert document.text.strip() or document.records, "a document without text must be refused with a reason"
    document.text.encode()  # no lone surrogates
    assert "\x00" not in document.text, "NUL characters break stores"
    end = 0
    for page in document.pages:
        assert 0 <= page.start <= page.end <= len(document.text), f"page {page.number} lies outside the text"
        assert page.start >= end, f"page {page.number} overlaps the one before"
        end = page.end
    assert [page.number for page in document.pages] == sorted({page.number for page in document.pages}), "page numbers"
    for section in document.sections:
        assert 0 <= section.start <= section.end <= len(document.text), (
            f"section {section.title!r} lies outside the text"
        )
        assert 1 <= section.level <= 6, f"section {section.title!r} has level {section.level}"
    assert all(record.text.strip() for record in document.records), "a record without text"
    assert all(isinstance(cell, str) for table in document.tables for row in table.rows for cell in row)
    assert msgspec.json.decode(msgspec.json.encode(document.metadata)) == document.metadata, (
        "metadata must be plain JSON"
    )


class ParserSuite:
    """What holds for every parser. Override the fixture `parser`; fill `samples` and `options`."""

    samples: ClassVar[Mapping[str, Sample]] = {}
    options: ClassVar[Sequence[Option]] = ()

    @pytest.fixture
    def parser(self) -> Parser:
        """The parser under test."""
        raise NotImplementedError("override the fixture `parser`")

    def test_defaults_of_every_type_are_valid(self, parser: Parser) -> None:
        """Fails when `configure` warns about, or refuses, a config without any key."""
        for declared in parser.types:
            assert parser.configure(declared.name, {}).warnings == (), declared.name

    def test_an_unknown_option_is_named(self, parser: Parser) -> None:
        """Fails when the config struct accepts what it does not know."""
        for declared in parser.types:
            with pytest.raises(ValidationFailed, match="no_such_option"):
                parser.configure(declared.name, {"no_such_option": 1})

    def test_endings_and_mime_types_are_written_as_the_choice_expects(self, parser: Parser) -> None:
        """Fails for ``PDF`` or ``.PDF`` in place of ``.pdf``, and for mime types with parameters."""
        assert all(ending.startswith(".") and ending == ending.lower() for ending in parser.extensions)
        assert all("/" in mime and ";" not in mime and mime == mime.lower() for mime in parser.mime_types)

    def test_samples_are_read_under_every_type_name(self, parser: Parser, tmp_path: Path) -> None:
        """Fails when words are lost, spans lie outside the text, or metadata isn't JSON."""
        assert self.samples, "give at least one sample"
        for declared in parser.types:
            for name, sample in self.samples.items():
                document = parser.parse(store(tmp_path, sample), declared.config())
                check_document(document)
                missing = [word for word in sample.words if word not in document.text]
                assert not missing, f"{declared.name} lost {missing} of the sample {name}"

    def test_reading_twice_gives_the_same(self, parser: Parser, tmp_path: Path) -> None:
        """Fails for parsers that keep state: ingest runs them again after a crash."""
        for sample in self.samples.values():
            source, config = store(tmp_path, sample), parser.types[0].config()
            assert parser.parse(source, config) == parser.parse(source, config)

    @pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf"], ids=["nothing", "blanks", "bom"])
    def test_an_empty_file_is_refused_with_a_reason(self, parser: Parser, tmp_path: Path, data: bytes) -> None:
        """Fails when an empty file becomes an empty document: nobody would notice."""
        self._refused(parser, tmp_path, data)

    @pytest.mark.parametrize("seed", [1, 2, 3])
    def test_random_bytes_are_refused_with_a_reason(self, parser: Parser, tmp_path: Path, seed: int) -> None:
        """Fails when garbage raises anything but ValidationFailed, or when the reason shows the server's paths."""
        self._refused(parser, tmp_path, random.Random(seed).randbytes(20_000))  # noqa: S311  not for secrets

    def test_a_cut_file_never_escapes_as_another_error(self, parser: Parser, tmp_path: Path) -> None:
        """Fails when half a file raises a library's own error."""
        for sample in self.samples.values():
            half = msgspec.structs.replace(sample, data=sample.data[: len(sample.data) // 2])
            with suppress(ValidationFailed):
                check_document(parser.parse(store(tmp_path, half), parser.types[0].config()))

    def test_chunking_gives_what_a_chunker_takes(self, parser: Parser, tmp_path: Path) -> None:
        """Fails when the default config asks for a strategy that no chunker has, or for an overlap without room."""
        for declared in parser.types:
            for sample in self.samples.values():
                options = parser.chunking(store(tmp_path, sample), declared.config())
                assert _chunker(options.strategy), options.strategy
                assert 0 <= options.overlap < options.size

    def test_every_option_changes_the_outcome_or_warns(self, parser: Parser, tmp_path: Path) -> None:
        """Fails for a config field, or a listed value of one, that is accepted and has no effect and no warning.

        Add an `Option` for each field (and for each value of an enumeration); if none can show a difference, the parser
        must warn about the value.
        """
        problems = [problem for declared in parser.types for problem in self._idle_options(parser, declared, tmp_path)]
        assert not problems, "\n".join(problems)

    def _refused(self, parser: Parser, folder: Path, data: bytes) -> None:
        for declared in parser.types:
            for filename in sorted({sample.filename for sample in self.samples.values()}):
                source = store(folder, Sample(filename, data))
                with pytest.raises(ValidationFailed) as caught:
                    parser.parse(source, declared.config())
                assert str(folder) not in caught.value.message

    def _idle_options(self, parser: Parser, declared: TypeName, folder: Path) -> Iterator[str]:
        for field in msgspec.structs.fields(declared.config):
            shown: list[Json] = []
            for option in self.options:
                if option.field == field.name and _takes(declared, option):
                    shown.append(option.value)
                    if problem := self._try(parser, declared, option, folder):
                        yield f"{declared.name}.{field.name} = {option.value!r}: {problem}"
            default = getattr(declared.config(), field.name)
            wanted = [value for value in _values(field.type) if value != default]
            missing = [value for value in wanted if value not in shown] if wanted else ["any value"] * (not shown)
            if missing:
                yield f"{declared.name}.{field.name}: no Option shows {', '.join(missing)} at work"

    def _try(self, parser: Parser, declared: TypeName, option: Option, folder: Path) -> str | None:
        given = {key: value for key, value in option.given.items() if key in declared.config.__struct_fields__}
        changed = parser.configure(declared.name, {**given, option.field: option.value})
        warned = any(warning.startswith(f"{option.field}:") for warning in changed.warnings)
        if option.warns:
            return None if warned else "gives no warning"
        usual = parser.configure(declared.name, given)
        source = store(folder, self.samples[option.sample])
        before, after = _outcome(parser, source, usual.config), _outcome(parser, source, changed.config)
        return "changes nothing" if before == after else None


def _takes(declared: TypeName, option: Option) -> bool:
    if option.types and declared.name not in option.types:
        return False
    if option.value == getattr(declared.config(), option.field):
        return False
    field = next(item for item in msgspec.structs.fields(declared.config) if item.name == option.field)
    values = _values(field.type)
    return not values or option.value in values


def _values(kind: Any) -> tuple[str, ...]:
    """The strings of a Literal, none for other types."""
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _chunker(strategy: str) -> Chunker:
    return next(
        chunker for chunker in builtin_chunkers() if any(declared.name == strategy for declared in chunker.types)
    )


def _outcome(parser: Parser, source: Source, config: Any) -> object:
    try:
        document = parser.parse(source, config)
        options = parser.chunking(source, config)
    except ValidationFailed as error:
        return error.message
    return document, _chunker(options.strategy).chunk(document, options)


PROSE = (
    "First words of the text. A second sentence follows it! Does a third one? Yes.\n\n"
    "Another paragraph begins here, written by Dr. Smith of St. Ives. It has ümläuts, 漢字 and an emoji 👩‍🚀 inside.\n\n"
)


class ChunkerSuite:
    """What holds for every chunker. Override the fixture `chunker`; `strategies` are those of its type names to try.

    `counts_characters` is false for strategies whose size counts something else (rows, tokens) or nothing.
    """

    counts_characters = True

    @pytest.fixture
    def chunker(self) -> Chunker:
        """The chunker under test."""
        raise NotImplementedError("override the fixture `chunker`")

    def document(self) -> Document:
        """A text of five pages and five sections that any strategy can cut."""
        part = "Heading\n\n" + PROSE * 6
        spans = [(at * len(part), (at + 1) * len(part)) for at in range(5)]
        return Document(
            text=part * 5,
            pages=[Page(at, start, end) for at, (start, end) in enumerate(spans, 1)],
            sections=[
                Section(level=1 + at % 2, title=f"Heading {at}", start=start, end=end)
                for at, (start, end) in enumerate(spans)
            ],
        )

    def table(self) -> Document:
        """A table of 250 rows."""
        rows = [[str(number), f"name {number}", "blue" if number % 2 else "red"] for number in range(250)]
        records = [
            Record(text=f"id: {row[0]}\nname: {row[1]}\ncolour: {row[2]}", metadata={"row": at})
            for at, row in enumerate(rows, 1)
        ]
        text = "\n\n".join(record.text for record in records)
        return Document(text=text, records=records, tables=[Table(rows=[["id", "name", "colour"], *rows])])

    def _all(self, chunker: Chunker, document: Document, size: int, overlap: int) -> list[list[Chunk]]:
        return [
            chunker.chunk(document, ChunkOptions(strategy=declared.name, size=size, overlap=overlap))
            for declared in chunker.types
        ]

    @pytest.mark.parametrize(("size", "overlap"), [(100, 0), (100, 30), (400, 50), (1000, 100), (50_000, 0)])
    def test_every_chunk_has_text_and_says_where_it_stands(self, chunker: Chunker, size: int, overlap: int) -> None:
        """Fails for empty chunks, wrong offsets (bytes in place of characters?) and wrong pages."""
        document = self.document()
        for chunks in self._all(chunker, document, size, overlap):
            assert chunks
            for chunk in chunks:
                assert chunk.text.strip()
                assert chunk.start is not None
                assert document.text[chunk.start : chunk.end] == chunk.text
                assert chunk.page == document.page_at(chunk.start)
                if self.counts_characters:
                    assert len(chunk.text) <= size

    @pytest.mark.parametrize("size", [100, 1000])
    def test_nothing_of_the_text_is_lost(self, chunker: Chunker, size: int) -> None:
        """Fails when characters other than blanks stand in no chunk, or when chunks go backwards."""
        document = self.document()
        for chunks in self._all(chunker, document, size, 20):
            end = 0
            for chunk in chunks:
                assert chunk.start is not None
                assert not document.text[end : max(end, chunk.start)].strip()
                assert chunk.end is not None
                assert chunk.end > end
                end = chunk.end
            assert not document.text[end:].strip()

    def test_a_document_of_one_short_line_is_one_chunk(self, chunker: Chunker) -> None:
        """Fails when short files get lost or cut."""
        for chunks in self._all(chunker, Document(text="  One line.\n"), 1000, 100):
            assert [chunk.text.strip() for chunk in chunks] == ["One line."]

    def test_a_text_of_blanks_gives_no_chunk(self, chunker: Chunker) -> None:
        """Fails for chunks without a word."""
        assert not any(self._all(chunker, Document(text=" \n\n \t" * 5000), 100, 10))

    @pytest.mark.parametrize(
        "text", ["x" * 30_000, "x " * 15_000, "\n\n".join("x" * 15_000), "漢" * 30_000, "👩‍🚀" * 9000]
    )
    def test_odd_texts_are_cut(self, chunker: Chunker, text: str) -> None:
        """Fails for loops without end, chunks over the size and lost characters in text without boundaries."""
        for chunks in self._all(chunker, Document(text=text), 500, 50):
            assert all(not self.counts_characters or len(chunk.text) <= 500 for chunk in chunks)
            assert sum(len(chunk.text) for chunk in chunks) >= len(text.replace(" ", "").replace("\n", ""))

    def test_a_table_is_cut_into_chunks_with_text(self, chunker: Chunker) -> None:
        """Fails when a table's records get lost."""
        document = self.table()
        for chunks in self._all(chunker, document, 100, 0):
            assert chunks
            whole = "\n".join(chunk.text for chunk in chunks)
            assert all(word in whole for word in ("name 0", "name 137", "name 249", "colour"))

    def test_an_overlap_without_room_is_refused(self, chunker: Chunker) -> None:
        """Fails for a chunker that would never come to an end."""
        for declared in chunker.types:
            with pytest.raises(ValidationFailed, match="overlap"):
                chunker.chunk(self.document(), ChunkOptions(strategy=declared.name, size=100, overlap=100))
