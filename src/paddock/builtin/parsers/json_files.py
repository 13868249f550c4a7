"""JSON and JSON Lines: every value becomes a line ``path: value``; the parts of the top level are paragraphs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec

from paddock.builtin.parsers.reading import (
    MAX_BYTES,
    ChunkOverlap,
    ChunkSize,
    Encoding,
    check_encoding,
    check_overlap,
    clean,
    read_text,
    refuse,
    value,
)
from paddock.contracts.base import Json
from paddock.contracts.providers import Document, Parser, Source, TypeName

MAX_DEPTH = 100
MAX_KEY = 200  # characters of a key in a path


class JsonConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of JSONParser; sizes in characters."""

    chunk_size: ChunkSize = 1000
    chunk_overlap: ChunkOverlap = 0
    chunk_strategy: Literal["paragraphs", "sentences", "characters", "tokens", "semantic", "full"] = "paragraphs"
    encoding: Encoding = "auto"
    extract_metadata: bool = True


class JSONParser(Parser):
    """JSON files; ``.jsonl`` and ``.ndjson`` hold one document in each line. At most 100 levels deep."""

    types = (TypeName("JSONParser", JsonConfig),)
    extensions = frozenset({".json", ".jsonl", ".ndjson", ".geojson"})
    mime_types = frozenset({"application/json", "application/x-ndjson", "application/jsonl", "application/geo+json"})

    def parse(self, source: Source, config: Any) -> Document:
        text, encoding = read_text(source, config.encoding)
        lines = PurePosixPath(source.filename).suffix.lower() in (".jsonl", ".ndjson") or "ndjson" in source.mime
        data = list(_lines(text)) if lines else _load(text, "")
        parts = _parts(data)
        document = Document(text="\n\n".join(parts))
        if not document.text.strip():
            raise refuse("holds no value")
        if config.extract_metadata:
            document.metadata = _shape(data) | {"encoding": encoding}
        return document

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        check_encoding(config.encoding)
        check_overlap(config)
        return ()


def _load(text: str, where: str) -> Json:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise refuse(f"is nested more than {MAX_DEPTH} levels deep{where}") from error
    except json.JSONDecodeError as error:
        raise refuse(f"is not valid JSON{where}: {error.msg} at line {error.lineno} column {error.colno}") from error
    except ValueError as error:  # a number of thousands of digits
        raise refuse(f"is not valid JSON{where}: a number is too long") from error


def _lines(text: str) -> Iterator[Json]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _load(line, f" (line {number} of JSON Lines)")


def _parts(data: Json) -> list[str]:
    """The text of each part: an item of the list; an inner object or list; the scalars between those together."""
    room = MAX_BYTES  # paths repeat: without a bound a small file could become a huge text
    parts: list[list[str]] = []
    for own, path, item in _top(data):
        lines = list[str]()
        for line in flatten(item, path):
            room -= len(line) + 1
            if room < 0:
                raise refuse(f"gives more than {MAX_BYTES // 1024**2} MiB of text: split it")
            lines.append(line)
        if lines and (own or not parts):
            parts.append(lines)
        elif lines:
            parts[-1].extend(lines)
    return [clean("\n".join(lines)) for lines in parts]


def _top(data: Json) -> Iterator[tuple[bool, str, Json]]:
    """The items of the top level: whether each begins a part, its path, its value."""
    if isinstance(data, list):
        yield from ((True, "", item) for item in data)
    elif isinstance(data, dict):
        nested = True
        for key, item in data.items():
            before, nested = nested, isinstance(item, (dict, list))
            yield nested or before, key[:MAX_KEY], item
    else:
        yield True, "", data


def flatten(data: Json, path: str = "") -> Iterator[str]:
    """``a.b[2]: value`` for each scalar, in the order of the file. Raises ValidationFailed beyond 100 levels."""
    stack = [iter([(path, data)])]
    while stack:
        where, item = next(stack[-1], (None, None))
        if where is None:
            stack.pop()
        elif isinstance(item, (dict, list)):
            if len(stack) > MAX_DEPTH:
                raise refuse(f"is nested more than {MAX_DEPTH} levels deep")
            stack.append(_children(where, item))
        elif item not in (None, ""):
            shown = item if isinstance(item, str) else json.dumps(item)
            yield f"{where}: {shown}" if where else shown


def _children(path: str, item: dict[str, Json] | list[Json]) -> Iterator[tuple[str, Json]]:
    if isinstance(item, list):
        return ((f"{path}[{at}]", child) for at, child in enumerate(item))
    prefix = f"{path}." if path else ""
    return ((f"{prefix}{key[:MAX_KEY]}", child) for key, child in item.items())


def _shape(data: Json) -> dict[str, Json]:
    if isinstance(data, list):
        return {"item_count": len(data)}
    if isinstance(data, dict):
        return {"keys": value(list(data))}
    return {}
