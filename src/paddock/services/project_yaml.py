"""llamafarm.yaml between text and plain data: strict on reading, so that no file can hurt the server.

Only what JSON can say gets through: mappings with text keys, lists, text, numbers, booleans and null. Tags are refused,
so nothing is ever constructed; dates stay the text they are; aliases and merge keys are expanded within a bound.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import SafeRepresenter

from paddock.contracts.base import Json
from paddock.errors import FieldError, ValidationFailed

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 20_000  # written in the file, keys included
MAX_EXPANDED = 50_000  # after aliases and merge keys
MAX_ALIASES = 200
_INTEGERS = range(-(2**63), 2**64)  # what JSON parsers of other languages can still read
FILE = "llamafarm.yaml"


@dataclass(frozen=True)
class Parsed:
    """A file's text, its nodes with their positions, and what it says."""

    text: str
    root: MappingNode
    raw: dict[str, Json]


class Alias:
    """Where the file says ``*name``: keeps the position of the alias beside the node it stands for."""

    id = "alias"
    anchor = None

    def __init__(self, target: Node, event: AliasEvent) -> None:
        self.target = target
        self.start_mark = event.start_mark
        self.end_mark = event.end_mark


class _Refused(YAMLError):
    """YAML that is well formed and still not wanted."""


class _Composer(Composer):
    """Counts as it goes, so that a bomb is refused before it is in memory."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False
        self._nodes = self._aliases = self._level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        line = event.start_mark.line + 1
        if isinstance(event, AliasEvent):
            self._aliases += 1
            _refuse(self._aliases > MAX_ALIASES, line, f"more than {MAX_ALIASES} aliases")
            return super().compose_node(parent, index) if event.anchor not in self.anchors else self._alias(event)
        self._nodes += 1
        _refuse(self._nodes > MAX_NODES, line, f"more than {MAX_NODES} values")
        _refuse(event.ctag is not None, line, "tags (!name) are not allowed: remove it")
        _refuse(self._level >= MAX_DEPTH, line, f"nested more than {MAX_DEPTH} levels deep")
        self._level += 1
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def _alias(self, event: AliasEvent) -> Alias:
        self.parser.get_event()
        return Alias(self.anchors[event.anchor], event)


def _refuse(condition: bool, line: int, reason: str) -> None:
    if condition:
        raise _Refused(f"line {line}: {reason}")


def failed(reason: str) -> ValidationFailed:
    """An error about the file as a whole."""
    return ValidationFailed.of([FieldError(FILE, reason)])


def parse(data: bytes) -> Parsed:
    """Read a file. Raises ValidationFailed with the line, or with the path of every key that can't stay as it is."""
    if len(data) > MAX_BYTES:
        raise failed(f"larger than {MAX_BYTES} bytes: move documents out of it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise failed(f"not UTF-8 at byte {error.start}: save it as UTF-8") from error
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _Composer
    root = _compose(yaml, text)
    if not isinstance(root, MappingNode):
        raise failed("not a mapping of keys to values" if root is not None else "empty")
    builder = _Builder(yaml)
    raw = builder.mapping(root, "", 0)
    if builder.errors:
        raise ValidationFailed.of(builder.errors)
    return Parsed(text, root, raw)


def _compose(yaml: YAML, text: str) -> Node | None:
    try:
        node: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise failed(f"not YAML: {where}{error.problem or error.context}") from error
    except YAMLError as error:
        raise failed(" ".join(str(error).split())[:300]) from error
    except (ValueError, AttributeError, AssertionError, IndexError, KeyError, TypeError) as error:
        # The parser trips over some malformed directives and documents instead of naming them.
        raise failed("not YAML: the parser gives up on it; look for stray % directives and --- lines") from error
    return node


class _Builder:
    """Nodes to plain data; notes every error with its path."""

    def __init__(self, yaml: YAML) -> None:
        self.errors: list[FieldError] = []
        self._constructor = yaml.constructor
        self._count = 0

    def value(self, node: Any, path: str, level: int) -> Json:
        if isinstance(node, Alias):
            node = node.target
        self._count += 1
        if self._count > MAX_EXPANDED or level > MAX_DEPTH:
            raise failed(f"{path[:100]}: its aliases expand to too much: write the values out")
        if isinstance(node, MappingNode):
            return self.mapping(node, path, level)
        if isinstance(node, SequenceNode):
            return [self.value(item, f"{path}[{at}]", level + 1) for at, item in enumerate(node.value)]
        return self._scalar(node, path)

    def mapping(self, node: MappingNode, path: str, level: int) -> dict[str, Json]:
        found: dict[str, Json] = {}
        lines: dict[str, int] = {}
        merged: list[dict[str, Json]] = []
        for key, value in node.value:
            name, where = self._key(key, path)
            if name is None:
                continue
            if is_merge(key):
                merged += self._merged(value, where, level)
                continue
            if name in found:
                first, second = lines[name], key.start_mark.line + 1
                self.errors.append(FieldError(where, f"defined twice, in the lines {first} and {second}"))
            lines.setdefault(name, key.start_mark.line + 1)
            found[name] = self.value(value, where, level + 1)
        for extra in merged:
            found = {**extra, **found}
        return found

    def _key(self, key: Any, path: str) -> tuple[str | None, str]:
        target = key.target if isinstance(key, Alias) else key
        if not isinstance(target, ScalarNode):
            self.errors.append(
                FieldError(path or FILE, f"line {key.start_mark.line + 1}: a key is text, not a collection")
            )
            return None, path
        name = self._text(target, path)
        return name, f"{path}.{name}" if path else name

    def _merged(self, node: Any, path: str, level: int) -> Iterator[dict[str, Json]]:
        value = self.value(node, path, level + 1)
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                yield part
            else:
                self.errors.append(FieldError(path, "only mappings can be merged"))

    def _scalar(self, node: ScalarNode, path: str) -> Json:
        kind = str(node.tag).rpartition(":")[2]
        if kind == "null":
            return None
        if kind == "bool":
            return bool(self._constructor.construct_yaml_bool(node))
        if kind in ("int", "float"):
            return self._number(node, kind, path)
        return self._text(node, path)

    def _text(self, node: ScalarNode, path: str) -> str:
        text = str(node.value)
        if _half_pair(text):
            self.errors.append(FieldError(path or FILE, "a text holds half of a surrogate pair: remove that character"))
            return "?"
        return text

    def _number(self, node: ScalarNode, kind: str, path: str) -> int | float:
        try:
            if kind == "int":
                whole = int(self._constructor.construct_yaml_int(node))
                if whole in _INTEGERS:
                    return whole
            else:
                number = float(self._constructor.construct_yaml_float(node))
                if math.isfinite(number):
                    return number
        except (ValueError, OverflowError):
            pass  # reported below like a number that is too large
        self.errors.append(FieldError(path, "not a number that JSON can hold: quote it if it is text"))
        return 0


def _half_pair(text: str) -> bool:
    """Whether a text holds a code point that UTF-8 and JSON can't."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def is_merge(key: Any) -> bool:
    """Whether this is the key ``<<``, unquoted."""
    return isinstance(key, ScalarNode) and str(key.tag).endswith(":merge")


def check_plain(value: Json) -> None:
    """Refuse data that came as JSON and would not fit into a file. Raises ValidationFailed. Never recurses."""
    waiting: list[tuple[Json, int]] = [(value, 0)]
    count = 0
    while waiting:
        item, level = waiting.pop()
        count += 1
        if level > MAX_DEPTH:
            raise failed(f"nested more than {MAX_DEPTH} levels deep")
        if count > MAX_NODES:
            raise failed(f"more than {MAX_NODES} values")
        if isinstance(item, str) and _half_pair(item):
            raise failed("a text holds half of a surrogate pair: remove that character")
        if isinstance(item, dict):
            waiting += [(one, level + 1) for pair in item.items() for one in pair]
        elif isinstance(item, list):
            waiting += [(one, level + 1) for one in item]
        elif isinstance(item, int) and not isinstance(item, bool) and item not in _INTEGERS:
            raise failed("a whole number does not fit into 64 bits")


def same(left: Json, right: Json) -> bool:
    """Whether two plain values are equal as JSON: true is not 1, 1 is not 1.0."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(value, right[key]) for key, value in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(one, two) for one, two in zip(left, right, strict=True))
    return type(left) is type(right) and bool(left == right)


class _Representer(SafeRepresenter):
    """Repeats what occurs twice instead of naming it, writes text of several lines as a block."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Representer.add_representer(str, _Representer.text)


def dump(value: Json) -> str:
    """Plain data as YAML text with a line break at its end."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel declares it as None
    yaml.width = 1_000_000_000  # no folding: lines stay what the user sent
    yaml.allow_unicode = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue()
