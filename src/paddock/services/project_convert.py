"""Plain data into the structs of `paddock.contracts.config`, collecting every error with its path.

msgspec's own `convert` stops at the first error; a person who edits a file by hand wants all of them.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from paddock.contracts.base import Json
from paddock.errors import FieldError

S = TypeVar("S", bound=msgspec.Struct)
_UNIONS = (typing.Union, types.UnionType)
_BAD = object()  # what a value that can't be converted becomes


class Converter:
    """Converts and remembers: `errors`, and where in the file each struct came from."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self._made: dict[int, tuple[str, msgspec.Struct]] = {}  # the struct too: its id is good while it lives

    def path(self, struct: msgspec.Struct) -> str:
        """Where a struct that this converter made came from."""
        return self._made[id(struct)][0]

    def struct(self, kind: type[S], value: Json, path: str) -> S | None:
        """The struct, with defaults in place of fields that are wrong; None when a required field is."""
        if not isinstance(value, dict):
            self._fail(path, f"expected a mapping, got {_shown(value)}")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind) if field.name != "extra"}
        given: dict[str, Any] = {}
        for name, field in fields.items():
            where = f"{path}.{name}" if path else name
            if name not in value and field.required:
                self._fail(where, "is required")
            if value.get(name) is None and (name not in value or not field.required):
                continue  # an empty value is an absent one
            converted = self._value(field.type, value[name], where)
            if converted is not _BAD:
                given[field.name] = converted
        unknown = {key: item for key, item in value.items() if key not in fields}
        if any(field.name == "extra" for field in msgspec.structs.fields(kind)):
            given["extra"] = unknown
        else:
            self._unknown(unknown, list(fields), path)
        if any(field.required and field.name not in given for field in fields.values()):
            return None
        built = kind(**given)
        self._made[id(built)] = (path, built)
        return built

    def _fail(self, path: str, reason: str) -> object:
        self.errors.append(FieldError(path, reason))
        return _BAD

    def _unknown(self, unknown: Iterable[str], known: list[str], path: str) -> None:
        for key in unknown:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
            self._fail(f"{path}.{key[:64]}", f"unknown key; {hint}")

    def _value(self, kind: Any, value: Json, path: str) -> Any:
        base = _inner(kind)
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            built = self.struct(base, value, path)
            return _BAD if built is None else built
        item = _inner(typing.get_args(base)[0]) if typing.get_origin(base) is list else None
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            return self._list(kind, item, value, path)
        return self._leaf(kind, value, path)

    def _list(self, kind: Any, item: type[msgspec.Struct], value: Json, path: str) -> Any:
        if not isinstance(value, list):
            return self._fail(path, f"expected a list, got {_shown(value)}")
        metas = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]
        if any((meta.min_length or 0) > len(value) for meta in metas):
            self._fail(path, "needs at least one entry")
        found = (self.struct(item, one, f"{path}[{at}]") for at, one in enumerate(value))
        return [one for one in found if one is not None]

    def _leaf(self, kind: Any, value: Json, path: str) -> Any:
        try:
            return msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError as error:
            reason, _, where = str(error).partition(" - at `$")
            inner = "" if where.startswith("[...]") else where.rstrip("`")
            return self._fail(f"{path}{inner}", _plainly(kind, value, reason))


def _inner(kind: Any) -> Any:
    """The type without Annotated and without None."""
    if hasattr(kind, "__metadata__"):
        return _inner(kind.__origin__)
    if typing.get_origin(kind) in _UNIONS:
        rest = [one for one in typing.get_args(kind) if one is not type(None)]
        return _inner(rest[0]) if len(rest) == 1 else kind
    return kind


def _plainly(kind: Any, value: Json, reason: str) -> str:
    base = _inner(kind)
    if typing.get_origin(base) is typing.Literal:
        return f"expected one of {', '.join(map(str, typing.get_args(base)))}, got {_shown(value)}"
    return reason[:1].lower() + reason[1:].replace("`", "")


def _shown(value: Json) -> str:
    """A value in a message: short, printable, and never more than a glimpse."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return repr(value)[:40].encode("ascii", "backslashreplace").decode()
