"""Plain values into the structs of sections; what does not fit is refused by name."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from paddock.errors import FieldError, ValidationFailed, field_error
from paddock.settings.sources import Raw

S = TypeVar("S", bound=msgspec.Struct)


def check_keys(layer: str, values: Raw, known: Mapping[str, type[msgspec.Struct]]) -> None:
    """Raises ValidationFailed naming every section and key of a layer that nobody knows."""
    errors = []
    for section, keys in values.items():
        if section not in known:
            errors.append(FieldError(section, f"{layer} names an unknown section{_nearest(section, known)}"))
            continue
        fields = {field.name for field in msgspec.structs.fields(known[section])}
        errors += [
            FieldError(f"{section}.{key}", f"{layer} names an unknown setting{_nearest(key, fields)}")
            for key in keys
            if key not in fields
        ]
    if errors:
        raise ValidationFailed.of(errors)


def _nearest(name: str, known: Mapping[str, Any] | set[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"


def build_section(name: str, values: Mapping[str, Any], kind: type[S]) -> S:
    """A section from plain values, texts of the environment among them. Raises ValidationFailed naming the key."""
    hints = typing.get_type_hints(kind)
    ready = {
        key: _from_text(f"{name}.{key}", value, hints[key]) if isinstance(value, str) else value
        for key, value in values.items()
    }
    try:
        return msgspec.convert(ready, kind, strict=False)
    except msgspec.ValidationError as error:
        found = field_error(error, kind=kind)
        field = f"{name}.{found.field}" if found.field else name
        raise ValidationFailed.of([FieldError(field, found.reason)]) from error


def _from_text(field: str, value: str, hint: Any) -> Any:
    """A value of the environment, which has only text: a list is split at commas, a table is JSON."""
    kind = typing.get_origin(hint)
    if kind in (tuple, list):
        return [part.strip() for part in value.split(",") if part.strip()]
    if kind is not dict:
        return value
    try:
        return msgspec.json.decode(value or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValidationFailed.of([FieldError(field, f"write this table as a JSON object: {error}")]) from error
