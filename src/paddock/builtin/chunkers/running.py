"""Chunkers of running text: characters, sentences, paragraphs, semantic units, tokens, code, the whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from paddock.builtin.chunkers import cut
from paddock.builtin.chunkers.cut import Span
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Chunker, ChunkOptions, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

if TYPE_CHECKING:
    from semantic_text_splitter import TextSplitter

PROSE = (cut.PARAGRAPHS, cut.SENTENCES, cut.LINES)
_WINDOW = 8_192  # characters; the splitter's time grows with the square of text that has no boundaries
_TOKEN_WINDOW = 65_536


class Region(NamedTuple):
    """A part of the text that no chunk leaves, with the metadata of its chunks; `whole` marks what must not be cut."""

    start: int
    end: int
    metadata: dict[str, Json] = {}  # noqa: RUF012  never changed


class TextChunker(Chunker):
    """Base of the chunkers of running text: regions, their spans, then overlap, offsets and page numbers.

    Spans are cut to size minus overlap, and each then reaches back over the one before: a chunk is never longer than the
    size, and overlap never crosses the border of a region.
    """

    indent = False  # whether the blanks before a chunk's first line are kept

    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        check(options)
        places = cut.Places([(page.number, page.start, page.end) for page in document.pages])
        chunks: list[Chunk] = []
        for region in self.regions(document, options):
            for start, end in self._overlapping(document.text, region, options):
                text = document.text[start:end]
                chunks.append(
                    Chunk(text=text, start=start, end=end, page=places.at(start), metadata=dict(region.metadata))
                )
        if options.extra.get("relations"):
            relate(chunks)
        return chunks

    def regions(self, document: Document, options: ChunkOptions) -> Iterable[Region]:  # noqa: ARG002  for subclasses
        """The parts of the text that chunks do not leave, in order."""
        return [Region(0, len(document.text))]

    @abstractmethod
    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        """Spans of the region in order, at most ``size - overlap`` long, without overlap; blanks around are allowed."""

    def _overlapping(self, text: str, region: Region, options: ChunkOptions) -> Iterator[Span]:
        whole = cut.trim(text, (region.start, region.end), indent=self.indent)
        if whole is None:
            return
        if self.fits(text, whole, options):
            yield whole
            return
        floor = whole[0]
        for span in self.spans(text, whole, options):
            bare = cut.trim(text, span, indent=self.indent)
            if bare is None:
                continue
            start = self.reach_back(text, bare[0], floor, options) if options.overlap else bare[0]
            full = cut.trim(text, (start, bare[1]), indent=self.indent)
            if full:
                floor = full[0] + 1
                yield full

    def fits(self, text: str, span: Span, options: ChunkOptions) -> bool:  # noqa: ARG002  for subclasses
        """Whether the span needs no cut."""
        return span[1] - span[0] <= options.size

    def reach_back(self, text: str, start: int, floor: int, options: ChunkOptions) -> int:
        """Where a chunk starts that repeats the overlap before `start`; not before `floor`."""
        return cut.reach_back(text, start, options.overlap, floor)


class CharacterChunker(TextChunker):
    """Pieces of equal length; a cut moves back to a blank when one stands in the last tenth."""

    types = (TypeName("characters"),)

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        begin, stop = region
        size = options.size - options.overlap
        while stop - begin > size:
            end = cut.word_cut(text, begin, begin + size, begin + size - size // 10)
            yield begin, end
            begin = end
        yield begin, stop


class SentenceChunker(TextChunker):
    """As many whole sentences as fit."""

    types = (TypeName("sentences"),)

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        return cut.pack(text, region, options.size - options.overlap, (cut.SENTENCES, cut.LINES))


class ParagraphChunker(TextChunker):
    """As many whole paragraphs as fit; a paragraph that is too long is cut between sentences."""

    types = (TypeName("paragraphs"),)

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        return cut.pack(text, region, options.size - options.overlap, PROSE)


class CodeChunker(TextChunker):
    """Whole top-level definitions: cuts stand before a line at the first column that follows an empty one.

    ``preserve_code_structure: false`` in the options fills chunks line by line.
    """

    types = (TypeName("code"),)
    indent = True

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        structured = options.extra.get("preserve_code_structure", True)
        levels = (cut.BLOCKS, cut.PARAGRAPHS, cut.LINES) if structured else (cut.LINES,)
        return cut.pack(text, region, options.size - options.overlap, levels)

    def reach_back(self, text: str, start: int, floor: int, options: ChunkOptions) -> int:
        """Overlap in whole lines, so that indents stay readable."""
        early = max(floor, start - options.overlap)
        if early == 0 or text[early - 1] == "\n":
            return early
        line = text.find("\n", early, start)
        return line + 1 if 0 <= line < start - 1 else start


class FullChunker(TextChunker):
    """The whole document as one chunk, whatever its length."""

    types = (TypeName("full"),)

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:  # noqa: ARG002  the base's
        yield region

    def fits(self, text: str, span: Span, options: ChunkOptions) -> bool:  # noqa: ARG002  the base's
        return True

    def chunk(self, document: Document, options: ChunkOptions) -> list[Chunk]:
        chunks = super().chunk(document, options)
        if not document.records:
            return chunks
        facts: dict[str, Json] = {
            "row_start": document.records[0].metadata.get("row"),
            "row_end": len(document.records),
        }
        return [Chunk(text=chunk.text, metadata=facts) for chunk in chunks]


class SemanticChunker(TextChunker):
    """The largest units of meaning that fit: paragraphs, sentences, words, found by semantic-text-splitter."""

    types = (TypeName("semantic"),)

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        from semantic_text_splitter import TextSplitter  # noqa: PLC0415  heavy: on first use

        size = options.size - options.overlap
        return split(TextSplitter(size), text, region, max(_WINDOW, 4 * size))


class TokenChunker(TextChunker):
    """Like semantic, but size and overlap count tokens of the option `token_model` (default gpt-3.5-turbo)."""

    types = (TypeName("tokens"),)

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        return split(_token_splitter(options, options.size - options.overlap), text, region, _TOKEN_WINDOW)

    def fits(self, text: str, span: Span, options: ChunkOptions) -> bool:  # noqa: ARG002  the base's signature
        return span[1] - span[0] <= options.size // 4  # a character has at most four bytes, a token at least one

    def reach_back(self, text: str, start: int, floor: int, options: ChunkOptions) -> int:
        """The last piece of what stands before, in tokens."""
        early = max(floor, start - 8 * options.overlap)
        pieces = _token_splitter(options, options.overlap).chunk_indices(text[early:start])
        return early + pieces[-1][0] if pieces else start


def split(splitter: TextSplitter, text: str, region: Span, window: int) -> Iterator[Span]:
    """What the splitter finds, asked in windows that end at a paragraph, a sentence or a word."""
    for start, end in cut.pack(text, region, window, PROSE):
        for offset, piece in splitter.chunk_indices(text[start:end]):
            yield start + offset, start + offset + len(piece)


def _token_splitter(options: ChunkOptions, capacity: int) -> TextSplitter:
    from semantic_text_splitter import TextSplitter  # noqa: PLC0415  heavy: on first use

    model = str(options.extra.get("token_model") or "gpt-3.5-turbo")
    try:
        return TextSplitter.from_tiktoken_model(model, capacity)
    except Exception as error:  # the library raises nothing narrower
        reason = f"no tokenizer is known for {model!r}: use an OpenAI model name such as gpt-3.5-turbo or gpt-4o"
        raise ValidationFailed.of([FieldError("token_model", reason)]) from error


def check(options: ChunkOptions) -> None:
    """Raises ValidationFailed when nothing could be cut."""
    if options.size < 1 or not 0 <= options.overlap < options.size:
        reason = f"must be at least 0 and smaller than the chunk size ({options.size})"
        raise ValidationFailed.of([FieldError("chunk_overlap", reason)])


def relate(chunks: list[Chunk]) -> None:
    """Note in each chunk's metadata the index of the one before and the one after (counted from 0)."""
    for index, chunk in enumerate(chunks):
        if index:
            chunk.metadata["prev_chunk"] = index - 1
        if index + 1 < len(chunks):
            chunk.metadata["next_chunk"] = index + 1
