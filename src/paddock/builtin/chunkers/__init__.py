"""Chunkers of the core, one for each chunk strategy."""

from paddock.builtin.chunkers.running import (
    CharacterChunker,
    CodeChunker,
    FullChunker,
    ParagraphChunker,
    SentenceChunker,
    TokenChunker,
)
from paddock.builtin.chunkers.structured import EmailChunker, HeadingChunker, PageChunker, SectionChunker
from paddock.builtin.chunkers.tabular import ColumnChunker, RowChunker, SemanticRowChunker
from paddock.contracts.providers import Chunker

__all__ = ["builtin_chunkers"]


def builtin_chunkers() -> list[Chunker]:
    """The core's chunkers: characters, sentences, paragraphs, sections, headings, pages, rows, columns, full, semantic,
    tokens, code, email_sections."""
    return [
        CharacterChunker(),
        SentenceChunker(),
        ParagraphChunker(),
        SectionChunker(),
        HeadingChunker(),
        PageChunker(),
        RowChunker(),
        ColumnChunker(),
        FullChunker(),
        SemanticRowChunker(),
        TokenChunker(),
        CodeChunker(),
        EmailChunker(),
    ]
