"""Running text, lists, tables and records cut into sentences that can be quoted on their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*")
_ITEM = re.compile(r"(?:[-*+\u2022\u2023\u2013]|\(?\d{1,3}[.)]|\(?[a-zA-Z][.)])\s+(.+)")
_ROW = re.compile(r"\|.*\|")
_RULE = re.compile(r"[\s|:+=_*-]+")
_PAIR = re.compile(r"[^\s:][^:.!?]{0,48}:\s+\S.*")
_CITATION = re.compile(r" ?\[\d{1,4}(?: ?[,-] ?\d{1,4}){0,20}\]")
_MARKUP = re.compile(r"(\*\*|__|`|\*)(?=\S)(.{1,200}?)(?<=\S)\1")
_LINK = re.compile(r"!?\[([^\]\[]{0,200})\]\([^)\s]{0,500}\)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u2028-\u202e]+")
# An end: its mark, closing quotes or brackets, then space and what may begin a sentence. Ideographic marks need no space.
_END = re.compile(
    r"(?<![.!?\u2026])[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s+[\"'\u201c\u2018(\[\u00bf\u00a1]*[A-Z0-9\u00c0-\u00de\u0391-\u03a9\u0410-\u042f])"
    r"|(?<![\u3002\uff01\uff1f])[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]*"
)
_LAST_WORD = re.compile(r"([\w.&-]+)\.$")
_INITIAL = re.compile(r"[A-Z]")
_SHORT = (
    "dr mr mrs ms prof st mt jr sr vs etc fig figs eq eqs no nos vol vols ch sec art pp ed eds al approx ca cf esp est inc ltd "
    "corp co bros dept univ gen col lt capt sgt rev hon gov sen rep jan feb mar apr jun jul aug sep sept oct nov dec mon tue "
    "wed thu fri sat sun min max avg temp bzw usw ggf evtl abb nr tel str i.e e.g a.m p.m u.s u.k z.b d.h"
)
_ABBREVIATIONS = frozenset(_SHORT.split())
_NUMBERED = frozenset({"no", "nos", "fig", "figs", "eq", "eqs", "vol", "ch", "sec", "art", "pp", "nr", "abb"})


class Sentence(msgspec.Struct, frozen=True):
    """A sentence and what stands above it (headings, a lead-in, the names of a table's columns), which tells what it is
    about. `words` are those that it has for itself where `text` repeats some of the context."""

    text: str
    context: str = ""
    words: str = ""


def sentences_of(text: str) -> list[Sentence]:
    """Cut a passage. Markdown marks, citations like [3] and control characters are taken out."""
    found: list[Sentence] = []
    headings: dict[int, str] = {}
    for block in re.split(r"\n\s*\n|(?m:^(?=#{1,6}\s))", text.replace("\r\n", "\n")):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if lines and (heading := _HEADING.fullmatch(lines[0])):
            level = len(heading[1])
            headings = {other: title for other, title in headings.items() if other < level} | {
                level: _plain(heading[2])
            }
            lines = lines[1:]
        lead = found[-1].text if found and found[-1].text.endswith(":") else ""
        found += [
            Sentence(sentence.text, " ".join([*headings.values(), sentence.context]).strip(), sentence.words)
            for sentence in _block(lines, lead)
            if any(character.isalnum() for character in sentence.text)
        ]
    return found


def _block(lines: Sequence[str], lead: str) -> Iterator[Sentence]:
    """One block without blank lines. `lead` is the line with a colon before it, which its list items go with."""
    if not lines:
        return
    if all(_ROW.fullmatch(line) for line in lines):
        yield from _table(lines)
    elif len(lines) > 1 and all(_PAIR.fullmatch(line) and not _ITEM.fullmatch(line) for line in lines):
        yield Sentence(_plain("; ".join(lines)))
    else:
        yield from _prose(lines, lead)


def _table(lines: Sequence[str]) -> Iterator[Sentence]:
    """Each row as ``column: value; …``."""
    rows = [[_plain(cell) for cell in line.strip("|").split("|")] for line in lines if not _RULE.fullmatch(line)]
    if len(rows) == 1:
        yield Sentence(", ".join(cell for cell in rows[0] if cell))
    for row in rows[1:]:
        cells = [f"{name}: {cell}" if name else cell for name, cell in zip(rows[0], row, strict=False) if cell]
        yield Sentence("; ".join(cells), " ".join(rows[0]), " ".join(row))


def _prose(lines: Sequence[str], lead: str) -> Iterator[Sentence]:
    """Wrapped lines joined and cut at the ends of sentences; list items stand alone, after their lead-in."""
    paragraph: list[str] = []
    for line in [*lines, ""]:
        item = _ITEM.fullmatch(line)
        if line and not item and not _ROW.fullmatch(line):
            paragraph.append(line)
            continue
        for text in split_sentences(_joined(paragraph)):
            yield Sentence(text)
            lead = text if text.endswith(":") else ""
        paragraph = []
        if item:
            # A wrapped item goes on in the next lines, which can't be told from new text: they become sentences.
            yield from (Sentence(_with_lead(lead, text), lead, text) for text in split_sentences(_plain(item[1])))


def _with_lead(lead: str, text: str) -> str:
    return f"{lead} {text}" if 0 < len(lead) <= 120 else text


def _joined(lines: Sequence[str]) -> str:
    parts: list[str] = []
    for line in lines:
        # A word that was hyphenated at the end of a line is one word again.
        if parts and parts[-1][-1:] == "-" and parts[-1][-2:-1].islower() and line[:1].islower():
            parts[-1] = parts[-1][:-1]
        elif parts:
            parts.append(" ")
        parts.append(line)
    return _plain("".join(parts))


def _plain(text: str) -> str:
    text = " ".join(_CONTROL.sub(" ", text).split())
    return _CITATION.sub("", _LINK.sub(r"\1", _MARKUP.sub(r"\2", text))).strip()


def split_sentences(text: str) -> Iterator[str]:
    """Cut running text at the ends of its sentences, but not after abbreviations, initials and ``No. 5``."""
    start = 0
    for end in _END.finditer(text):
        if not _is_abbreviation(text[max(start, end.end() - 20) : end.end()], text[end.end() : end.end() + 2].strip()):
            yield text[start : end.end()].strip()
            start = end.end()
    if text[start:].strip():
        yield text[start:].strip()


def _is_abbreviation(before: str, following: str) -> bool:
    word = _LAST_WORD.search(before)
    if word is None:
        return False
    name = word[1].lower()
    if name in _NUMBERED:
        return following.isdigit()
    return name in _ABBREVIATIONS or _INITIAL.fullmatch(word[1]) is not None
