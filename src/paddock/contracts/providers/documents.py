"""Parsers, chunkers and metadata extractors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers.base import Provider
from paddock.contracts.providers.vision import TextReader


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A stored file: its bytes at `path`, the name and type that the uploader gave (hostile), size in bytes. `ocr` reads text
    in pictures; None where a parser runs outside of a server."""

    path: Path
    filename: str
    mime: str
    size: int
    sha256: str
    ocr: TextReader | None = None


class Page(msgspec.Struct, frozen=True):
    """One page: number from 1, and its span in `Document.text` in characters."""

    number: int
    start: int
    end: int


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table: rows of cells, the first row being the header where there is one."""

    rows: list[list[str]]
    page: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One row of tabular data as text (``name: value`` lines) with its metadata (row number from 1, sheet)."""

    text: str
    metadata: dict[str, Json] = {}


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A heading: level 1 to 6, its title, and the span of heading plus body in `Document.text` in characters."""

    level: int
    title: str
    start: int
    end: int


class Document(msgspec.Struct, kw_only=True):
    """A parsed file. `records` is set for tabular files (then chunk sizes count rows); `warnings` reach the task."""

    text: str
    pages: list[Page] = []
    sections: list[Section] = []
    tables: list[Table] = []
    records: list[Record] = []
    metadata: dict[str, Json] = {}
    warnings: list[str] = []

    def page_at(self, offset: int) -> int | None:
        """The number of the page that holds the character `offset`, or None for files without pages."""
        return next((page.number for page in self.pages if page.start <= offset < page.end), None)


class Chunk(msgspec.Struct, kw_only=True):
    """A piece of a document: text, its span in `Document.text` (None for records), page and metadata."""

    text: str
    start: int | None = None
    end: int | None = None
    page: int | None = None
    metadata: dict[str, Json] = {}


class ChunkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to cut: size and overlap in characters, or in rows for records; `extra` holds options of one strategy."""

    strategy: str
    size: int
    overlap: int = 0
    extra: Mapping[str, Json] = {}


class Parser(Provider):
    """A file to text. Called in a worker thread: may block, must not touch the event loop."""

    extensions: ClassVar[frozenset[str]] = frozenset()  # ".pdf": lower case with the dot
    mime_types: ClassVar[frozenset[str]] = frozenset()
    usual_strategy: ClassVar[str] = "paragraphs"  # of configs without chunk_strategy

    @abstractmethod
    def parse(self, source: Source, config: Any) -> Document:
        """Read the file. Raises ValidationFailed with a reason for people: corrupt, encrypted, no text layer, empty."""

    def chunking(self, source: Source, config: Any) -> ChunkOptions:  # noqa: ARG002  for parsers that look at the file
        """How the document is to be cut: the config's chunk_strategy, chunk_size and chunk_overlap, as far as it has them.

        Override it where more than these decides.
        """
        return ChunkOptions(
            strategy=getattr(config, "chunk_strategy", self.usual_strategy),
            size=getattr(config, "chunk_size", 1000),
            overlap=getattr(config, "chunk_overlap", 0),
        )


class Chunker(Provider):
    """Cuts a document. `types` are the names of chunk strategies (sentences, paragraphs, rows …). Called in a thread."""

    @abstractmethod
    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        """Cut; every chunk has text. Chunks of running text carry start, end and page."""


class Extractor(Provider):
    """Adds metadata to a chunk; never changes text. Called in a worker thread. Where asking for many chunks at once is quicker,
    override `together` and `extract_several`."""

    together: ClassVar[int] = 1  # how many chunks of a document `extract_several` gets at most

    @abstractmethod
    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        """Metadata to merge into the chunk's: flat, JSON values only."""

    def extract_several(self, chunks: Sequence[Chunk], document: Document, config: Any) -> list[dict[str, Json]]:
        """What `extract` gives for each chunk. When it raises, they are asked for one by one, so that only a bad one fails."""
        return [self.extract(chunk, document, config) for chunk in chunks]
