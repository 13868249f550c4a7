"""Markdown: front matter, headings to sections, tables, code blocks and links."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from paddock.builtin.parsers.reading import (
    MAX_VALUES,
    ChunkOverlap,
    ChunkSize,
    Encoding,
    check_encoding,
    check_overlap,
    read_text,
    value,
)
from paddock.builtin.parsers.sections import Heading, close_sections
from paddock.builtin.parsers.text import tidy
from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Parser, Source, Table, TypeName

MAX_FRONT_MATTER = 64 * 1024

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([\w+#.-]*)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_LINK = re.compile(r"\]\(\s*<?([^\s()<>]{1,2000})>?|<(https?://[^\s<>]{1,2000})>")
_LONG_LINE = 10_000  # characters: nobody writes headings or tables that long


class MarkdownConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of MarkdownParser."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal[
        "sections", "headings", "paragraphs", "sentences", "characters", "tokens", "semantic", "full"
    ] = "sections"
    encoding: Encoding = "auto"
    extract_metadata: bool = True
    extract_code_blocks: bool = True
    extract_tables: bool = True
    extract_links: bool = True
    preserve_structure: bool = True


class MarkdownPythonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of MarkdownParser_Python."""

    chunk_size: ChunkSize = 1000
    chunk_strategy: Literal["sections", "paragraphs", "characters"] = "sections"
    extract_metadata: bool = True
    extract_code_blocks: bool = True
    extract_links: bool = True


class MarkdownLlamaIndexConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of MarkdownParser_LlamaIndex."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 100
    chunk_strategy: Literal["headings", "paragraphs", "sentences", "semantic"] = "headings"
    extract_metadata: bool = True
    extract_code_blocks: bool = True
    extract_tables: bool = True
    extract_links: bool = True
    preserve_structure: bool = True


class MarkdownParser(Parser):
    """Markdown as it is written; ``preserve_structure: false`` takes the markup away.

    Front matter leaves the text and becomes metadata (scalars and lists of scalars); links and code blocks are told in
    the metadata as ``links``, ``code_blocks`` (a count) and ``code_languages``.
    """

    types = (
        TypeName("MarkdownParser", MarkdownConfig),
        TypeName("MarkdownParser_Python", MarkdownPythonConfig),
        TypeName("MarkdownParser_LlamaIndex", MarkdownLlamaIndexConfig),
    )
    extensions = frozenset({".md", ".markdown", ".mdx", ".mdown", ".mkd"})
    mime_types = frozenset({"text/markdown", "text/x-markdown"})

    def parse(self, source: Source, config: Any) -> Document:
        text, _ = read_text(source, getattr(config, "encoding", "auto"))
        text, front, warnings = _front_matter(tidy(text), config.extract_metadata)
        reader = _Reader(keep_markup=getattr(config, "preserve_structure", True))
        for line in text.split("\n"):
            reader.line(line)
        reader.end()
        document = Document(text="".join(reader.parts).rstrip("\n"), metadata=front, warnings=warnings)
        document.sections = close_sections(reader.headings, len(document.text))
        if config.extract_metadata and "title" not in front and reader.headings:
            front["title"] = value(reader.headings[0].title)
        if config.extract_code_blocks and reader.code_blocks:
            front |= {"code_blocks": reader.code_blocks, "code_languages": value(sorted(reader.languages))}
        if config.extract_links and (links := _links(text)):
            front["links"] = links
        if getattr(config, "extract_tables", True):
            document.tables = reader.tables
        return document

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_encoding(getattr(config, "encoding", "auto"))
        if hasattr(config, "chunk_overlap"):
            check_overlap(config)
        return ()


class _Reader:
    """Walks over the lines once; a line's meaning depends on the line before and on open fences."""

    def __init__(self, *, keep_markup: bool) -> None:
        self.parts: list[str] = []
        self.headings: list[Heading] = []
        self.tables: list[Table] = []
        self.languages: set[str] = set()
        self.code_blocks = 0
        self._keep = keep_markup
        self._length = 0
        self._fence = ""
        self._before = ""  # the line before, "" after a blank or a heading
        self._before_at = 0
        self._rows: list[list[str]] = []

    def line(self, line: str) -> None:
        start = self._length
        kept = self._read(line, start)
        if kept is not None:
            self.parts.append(kept + "\n")
            self._length += len(kept) + 1

    def end(self) -> None:
        if len(self._rows) > 1:
            self.tables.append(Table(rows=self._rows))
        self._rows = []

    def _read(self, line: str, start: int) -> str | None:
        """What of the line goes to the text; None to drop it."""
        if len(line) > _LONG_LINE:
            self._before = ""
            return line
        if self._fence:
            return self._in_fence(line)
        if opening := _FENCE.match(line):
            self._fence, language = opening[1], opening[2]
            self.code_blocks += 1
            self.languages |= {language.lower()} if language else set()
            return line if self._keep else None
        if heading := _ATX.match(line):
            return self._heading(len(heading[1]), _without_closing(line[heading.end() :]), line, start)
        if self._before and (rule := _UNDERLINE.fullmatch(line)) and not self._rows:
            self.headings.append(Heading(1 if rule[1][0] == "=" else 2, self._before.strip(), self._before_at))
            self._before = ""
            return line if self._keep else None
        return self._plain(line, start)

    def _in_fence(self, line: str) -> str | None:
        stripped = line.strip()
        if stripped.startswith(self._fence) and not stripped.strip(self._fence[0]):
            self._fence = ""
            return line if self._keep else None
        return line

    def _heading(self, level: int, title: str, line: str, start: int) -> str:
        self.end()
        self._before = ""
        if title:
            self.headings.append(Heading(level, title, start))
        return line if self._keep else title

    def _plain(self, line: str, start: int) -> str | None:
        if "|" in line and self._rows:
            self._rows.append(cells(line))
        elif "|" in self._before and _is_rule(line):
            self._rows = [cells(self._before)]
            return line if self._keep else None
        else:
            self.end()
        self._before, self._before_at = line, start
        return line if self._keep else unmark(line)


def _without_closing(title: str) -> str:
    """A heading's text without the hashes that may close it."""
    bare = title.strip()
    opened = bare.rstrip("#")
    return opened.rstrip() if not opened or opened[-1] in " \t" else bare


def _is_rule(line: str) -> bool:
    """Whether the line is the rule below a table's header."""
    return "-" in line and not line.strip("|-: \t")


def cells(line: str) -> list[str]:
    """The cells of a table line, without the outer bars."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def unmark(line: str) -> str:
    """A line of prose without list marks, emphasis, code ticks and link targets."""
    line = re.sub(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]+|^[ \t]*>[ \t]?", "", line)
    line = re.sub(r"!?\[([^\[\]]{0,2000})\]\([^()]{0,2000}\)", r"\1", line)
    return re.sub(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)|`+", "", line)


def _links(text: str) -> list[str]:
    found: dict[str, None] = {}
    for match in _LINK.finditer(text):
        found[match[1] or match[2]] = None
        if len(found) == MAX_VALUES:
            break
    return list(found)


def _front_matter(text: str, wanted: bool) -> tuple[str, dict[str, Json], list[str]]:
    """The text without its front matter, the values, and what there is to warn about; text stays whole when unread."""
    block = _FRONT_MATTER.match(text[: MAX_FRONT_MATTER + 10])
    if block is None:
        return text, {}, []
    if not wanted:
        return text[block.end() :].lstrip("\n"), {}, []
    loaded = _yaml(block[1])
    if not isinstance(loaded, Mapping):
        return text, {}, ["the front matter is not valid YAML, so it was kept as text"]
    values = {str(key)[:100]: value(item) for key, item in list(loaded.items())[:MAX_VALUES]}
    return text[block.end() :].lstrip("\n"), {key: item for key, item in values.items() if item not in (None, [])}, []


def _yaml(text: str) -> object:
    from ruamel.yaml import YAML  # noqa: PLC0415  heavy: on first use
    from ruamel.yaml.error import YAMLError, YAMLStreamError, YAMLWarning  # noqa: PLC0415  heavy: on first use

    if text.count("[") + text.count("{") > MAX_VALUES * 2:
        return None  # deep nesting costs the YAML reader seconds
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, YAMLStreamError, YAMLWarning, ValueError, TypeError, RecursionError):
        return None  # the caller tells it as a warning
