"""Chunkers that follow a document's structure: headings, sections, pages, the parts of an e-mail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from paddock.builtin.chunkers import cut
from paddock.builtin.chunkers.cut import Span
from paddock.builtin.chunkers.running import PROSE, Region, TextChunker
from paddock.contracts.base import Json
from paddock.contracts.providers import ChunkOptions, Document, Section, TypeName

_LONGEST_TITLE = 1000  # characters of a region that may be nothing but a heading
_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)
_QUOTED = re.compile(
    r"^(?:-{2,10} ?(?:Original Message|Forwarded message|Urspr\wngliche Nachricht) ?-{2,10}.*$|On [^\n]{1,200} wrote:$"
    r"|Am [^\n]{1,200} schrieb [^\n]{1,100}:$|>)",
    re.MULTILINE | re.IGNORECASE,
)
_HEADER = re.compile(r"(?:[A-Za-z][A-Za-z-]{1,40}:[^\n]*\n(?:[ \t][^\n]*\n)*)+")
_MAIL = re.compile(r"^(?:From|To|Subject|Date|Von|An|Betreff|Datum):", re.MULTILINE | re.IGNORECASE)


class StructureChunker(TextChunker):
    """Base: inside a region, whole paragraphs."""

    def spans(self, text: str, region: Span, options: ChunkOptions) -> Iterator[Span]:
        return cut.pack(text, region, options.size - options.overlap, PROSE)


class PageChunker(StructureChunker):
    """A chunk for each page, more for a long one; documents without pages are cut as paragraphs."""

    types = (TypeName("pages"),)

    def regions(self, document: Document, options: ChunkOptions) -> Iterable[Region]:
        if not document.pages:
            return super().regions(document, options)
        return [Region(page.start, page.end) for page in document.pages]


class HeadingChunker(StructureChunker):
    """A chunk for each heading with its own text, without its subsections; more for a long one.

    Metadata: `section` (the title) and `section_path` (the titles above it too). A heading without text of its own joins
    the next one. Documents without headings are cut as paragraphs.
    """

    types = (TypeName("headings"),)

    def regions(self, document: Document, options: ChunkOptions) -> Iterable[Region]:
        nodes = outline(document)
        if not nodes:
            return super().regions(document, options)
        own = (Region(node.start, node.own_end, _named(node)) for node in nodes)
        return _joined(document.text, [_preamble(nodes), *own])


class SectionChunker(StructureChunker):
    """A chunk for each section with all its subsections while that fits, else for its parts.

    Metadata as with headings. Documents without headings are cut as paragraphs.
    """

    types = (TypeName("sections"),)

    def regions(self, document: Document, options: ChunkOptions) -> Iterable[Region]:
        nodes = outline(document)
        if not nodes:
            return super().regions(document, options)
        regions = [_preamble(nodes)]
        done = 0
        for node in nodes:
            if node.start < done:
                continue
            whole = node.end - node.start <= options.size
            regions.append(Region(node.start, node.end if whole else node.own_end, _named(node)))
            done = regions[-1].end
        return _joined(document.text, regions)


class EmailChunker(StructureChunker):
    """The parts of an e-mail each for itself: header, body, quoted text, signature, attachments.

    Metadata `section` says which. The sections that the parser found come first; plain text is read by its marks
    ("-- ", ">", "On … wrote:").
    """

    types = (TypeName("email_sections"),)

    def regions(self, document: Document, options: ChunkOptions) -> Iterable[Region]:  # noqa: ARG002  the base's
        nodes = outline(document)
        text = document.text
        first = nodes[0].start if nodes else len(text)
        regions = list(_message(text, (0, first)))
        for node in nodes:
            if node.title.lower() == "body":
                regions.extend(_message(text, (node.start, node.own_end)))
            else:
                regions.append(Region(node.start, node.own_end, {"section": node.title}))
        return regions


class Node(NamedTuple):
    """A section with the titles above it, and the end of its own text (where the next heading begins)."""

    title: str
    path: str
    start: int
    own_end: int
    end: int


def outline(document: Document) -> list[Node]:
    """The sections in order, inside the text and without doubles: parsers of plugins may be careless."""
    length = len(document.text)
    sections: list[Section] = []
    for section in sorted(document.sections, key=lambda item: item.start):
        if 0 <= section.start < length and (not sections or section.start > sections[-1].start):
            sections.append(section)
    nodes: list[Node] = []
    above: list[Section] = []
    starts = [*(section.start for section in sections[1:]), length]
    for section, own_end in zip(sections, starts, strict=False):  # one more start when there is no section
        while above and above[-1].level >= section.level:
            above.pop()
        above.append(section)
        path = " > ".join([item.title for item in above])
        nodes.append(Node(section.title, path, section.start, own_end, min(length, max(own_end, section.end))))
    return nodes


def _preamble(nodes: Sequence[Node]) -> Region:
    return Region(0, nodes[0].start)


def _named(node: Node) -> dict[str, Json]:
    return {"section": node.title, "section_path": node.path}


def _joined(text: str, regions: Sequence[Region]) -> Iterator[Region]:
    """The regions, those that hold only a heading joined with the one that follows."""
    held: Region | None = None
    for region in regions:
        start = held.start if held else region.start
        joined = Region(start, region.end, region.metadata)
        bare = bool(region.metadata) and _only_title(text, region)
        held = joined if bare else None
        if not bare and joined.end > joined.start:
            yield joined
    if held:
        yield held


def _only_title(text: str, region: Region) -> bool:
    if region.end - region.start > _LONGEST_TITLE:
        return False
    first, _, rest = text[region.start : region.end].strip().partition("\n")
    return bool(first) and not rest.strip("=- \n")


def _message(text: str, region: Span) -> Iterator[Region]:
    """Header, body, quoted text and signature of one message."""
    start, stop = region
    header = _HEADER.match(text, start, stop)
    if header and text.startswith("\n", header.end()) and _MAIL.search(header[0]):
        yield Region(start, header.end(), {"section": "header"})
        start = header.end()
    quoted = _QUOTED.search(text, start, stop)
    signature = _SIGNATURE.search(text, start, quoted.start() if quoted else stop)
    marks = [(start, "body")]
    marks += [(signature.start(), "signature")] if signature else []
    marks += [(quoted.start(), "quoted")] if quoted else []
    for (begin, name), (end, _) in zip(marks, [*marks[1:], (stop, "")], strict=True):
        yield Region(begin, end, {"section": name})
