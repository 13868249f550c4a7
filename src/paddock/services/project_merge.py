"""New values into an old file: lines whose meaning does not change stay as the user wrote them, comments included.

A comment above an entry belongs to that entry and goes with it; a comment behind a value stays when the value changes.
Entries of a list are recognised by their ``name`` (or ``type``). The result is parsed again and compared, so that a file
which can't be changed piece by piece is written anew rather than wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from paddock.contracts.base import Json
from paddock.errors import ValidationFailed
from paddock.services.project_yaml import Alias, Parsed, dump, is_merge, parse, same

_COMMENT = re.compile(r"[ \t]+#.*\Z")
_ODD_BREAKS = re.compile("[\r\x85\u2028\u2029]")


def merge(old: Parsed, new: dict[str, Json]) -> str:
    """The text of `old` with the values of `new`. Raises ValidationFailed when `new` fits into no file."""
    if same(old.raw, new):
        return old.text
    text = _spliced(old, new)
    if text is None:
        text = _preamble(old) + dump(new)
        parse(text.encode())
    return text


def _spliced(old: Parsed, new: dict[str, Json]) -> str | None:
    if _ODD_BREAKS.search(old.text.replace("\r\n", "\n")) or not new:
        return None
    try:
        text = _Splicer(old.text.replace("\r\n", "\n")).document(old.root, old.raw, new)
        return text if same(parse(text.encode()).raw, new) else None
    except (_Whole, ValidationFailed):
        return None


def _preamble(old: Parsed) -> str:
    lines = old.text.splitlines()[: old.root.start_mark.line]
    return "".join(f"{line}\n" for line in lines if not line.strip() or line.lstrip().startswith("#"))


class _Whole(Exception):
    """This value can't be changed in parts."""


@dataclass
class _Entry:
    """Lines of one key or list item: what stands above it, itself, and what it means."""

    identity: str
    node: Any
    value: Json
    start: int
    end: int = 0
    leading: list[str] = field(default_factory=list)


class _Splicer:
    def __init__(self, text: str) -> None:
        self._lines = text.removesuffix("\n").split("\n")

    def document(self, root: MappingNode, old: dict[str, Json], new: dict[str, Json]) -> str:
        if not root.value or not self._splittable(root, new):
            raise _Whole
        start = root.value[0][0].start_mark.line
        footer = self._leading_from(len(self._lines), self._last_line(root) + 1, root.start_mark.column)
        body = self._collection(root, old, new, [], footer)
        return "\n".join([*self._lines[:start], *body, *self._lines[footer:]]) + "\n"

    def _splittable(self, node: Any, new: Json) -> bool:
        if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or node.anchor or not node.value:
            return False
        if isinstance(node, SequenceNode):
            return isinstance(new, list) and bool(new)
        plain = all(isinstance(key, ScalarNode) and not key.anchor and not is_merge(key) for key, _ in node.value)
        return isinstance(new, dict) and bool(new) and plain

    def _collection(self, node: Any, old: Any, new: Any, leading: list[str], end: int) -> list[str]:
        """The lines of the node from `leading`, which stands above its first entry, to the line before `end`."""
        entries = self._map_entries(node, old) if isinstance(node, MappingNode) else self._list_entries(node, old)
        entries[0].leading = leading
        column = self._column(node)
        self._cut(entries, column, end)
        prefix = self._lines[entries[0].start][:column]
        blank = " " * column
        if any(self._lines[entry.start][:column] != blank for entry in entries[1:]):
            raise _Whole
        out: list[str] = []
        for entry, body in self._chosen(node, entries, new, column):
            if out or not prefix.strip():
                out += entry.leading if entry else []
            elif entry and entry.leading:
                raise _Whole
            out += body if out else [prefix + body[0][column:], *body[1:]]
        return out

    def _chosen(self, node: Any, entries: list[_Entry], new: Any, column: int) -> list[tuple[_Entry | None, list[str]]]:
        if isinstance(node, MappingNode):
            kept = [(entry, new[entry.identity]) for entry in entries if entry.identity in new]
            known = {entry.identity for entry in entries}
            added = [{key: value} for key, value in new.items() if key not in known]
            chosen = [(entry, self._rewritten(entry, {entry.identity: value}, value, column)) for entry, value in kept]
            return [*chosen, *((None, _indented(item, column)) for item in added)]
        return [
            (entry, self._rewritten(entry, [value], value, column) if entry else _indented([value], column))
            for entry, value in _matched(entries, new)
        ]

    def _rewritten(self, entry: _Entry, alone: Json, value: Json, column: int) -> list[str]:
        lines = self._lines[entry.start : entry.end]
        if same(entry.value, value):
            return self._unprefixed(lines, column)
        if self._splittable(entry.node, value):
            first = self._first_line(entry.node)
            top = self._leading_from(first, min(entry.start + 1, first), self._column(entry.node))
            try:
                inner = self._collection(entry.node, entry.value, value, self._lines[top:first], entry.end)
                return self._unprefixed([*self._lines[entry.start : top], *inner], column)
            except _Whole:
                pass  # written anew as a whole
        written = _indented(alone, column)
        written[0] += self._comment_behind(entry.node)
        return written + self._lines[max(self._last_line(entry.node), entry.start) + 1 : entry.end]

    @staticmethod
    def _unprefixed(lines: list[str], column: int) -> list[str]:
        return [" " * column + lines[0][column:], *lines[1:]]

    def _map_entries(self, node: MappingNode, old: dict[str, Json]) -> list[_Entry]:
        return [_Entry(key.value, value, old[key.value], key.start_mark.line) for key, value in node.value]

    def _list_entries(self, node: SequenceNode, old: list[Json]) -> list[_Entry]:
        column = node.start_mark.column
        return [
            _Entry(_identity(value), item, value, self._dash(item, column))
            for item, value in zip(node.value, old, strict=True)
        ]

    def _dash(self, item: Any, column: int) -> int:
        line: int = item.start_mark.line
        while self._lines[line][column : column + 1] != "-":
            line -= 1
            if line < 0:
                raise _Whole
        return line

    def _column(self, node: Any) -> int:
        first = node.value[0][0] if isinstance(node, MappingNode) else node
        return int(first.start_mark.column)

    def _first_line(self, node: Any) -> int:
        if isinstance(node, MappingNode):
            return int(node.value[0][0].start_mark.line)
        return self._dash(node.value[0], node.start_mark.column)

    def _cut(self, entries: list[_Entry], column: int, end: int) -> None:
        for entry, following in zip(entries, [*entries[1:], None], strict=True):
            if following is None:
                entry.end = end
                break
            if following.start <= entry.start:
                raise _Whole
            floor = max(self._last_line(entry.node), entry.start) + 1
            entry.end = self._leading_from(following.start, floor, column)
            following.leading = self._lines[entry.end : following.start]

    def _leading_from(self, line: int, floor: int, column: int) -> int:
        """Go up from `line` over blank lines and comments that are not indented deeper than `column`."""
        while line > floor:
            text = self._lines[line - 1]
            stripped = text.lstrip()
            if stripped and (not stripped.startswith("#") or len(text) - len(stripped) > column):
                break
            line -= 1
        return line

    def _last_line(self, node: Any) -> int:
        if isinstance(node, ScalarNode | Alias) or node.flow_style or not node.value:
            block = isinstance(node, ScalarNode) and node.style in ("|", ">")
            return int(node.end_mark.line) - (1 if block and node.end_mark.column == 0 else 0)
        if isinstance(node, SequenceNode):
            return self._last_line(node.value[-1])
        key, value = node.value[-1]
        return max(int(key.end_mark.line), self._last_line(value))

    def _comment_behind(self, node: Any) -> str:
        simple = isinstance(node, Alias) or (isinstance(node, ScalarNode) and node.style not in ("|", ">"))
        if not simple and not (isinstance(node, MappingNode | SequenceNode) and node.flow_style):
            return ""
        if node.end_mark.line >= len(self._lines):  # nothing stands behind a key at the end of the file
            return ""
        rest = self._lines[node.end_mark.line][node.end_mark.column :]
        found = _COMMENT.match(rest)
        return found[0] if found else ""


def _indented(value: Json, column: int) -> list[str]:
    text = dump(value)
    if isinstance(value, list):
        text = "\n".join(line.removeprefix("  ") for line in text.split("\n"))
    return [" " * column + line if line else line for line in text.removesuffix("\n").split("\n")]


def _identity(value: Json) -> str:
    if not isinstance(value, dict):
        return ""
    return next((f"{key}:{value[key]}" for key in ("name", "type", "role") if isinstance(value.get(key), str)), "")


def _matched(entries: Sequence[_Entry], new: list[Json]) -> list[tuple[_Entry | None, Json]]:
    """Each new item with the old entry that it continues: the equal one, else the first with the same identity."""
    free = list(entries)
    found: list[_Entry | None] = [_take(free, [entry for entry in free if same(entry.value, value)]) for value in new]
    for at, value in enumerate(new):
        identity = _identity(value)
        if found[at] is None and identity:
            found[at] = _take(free, [entry for entry in free if entry.identity == identity])
    return list(zip(found, new, strict=True))


def _take(free: list[_Entry], candidates: list[_Entry]) -> _Entry | None:
    if not candidates:
        return None
    free.remove(candidates[0])
    return candidates[0]
