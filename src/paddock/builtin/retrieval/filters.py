"""Metadata filters in Python: joining two, and testing a hit. They mean what they mean to a vector store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paddock.contracts.providers import Filters, Hit
from paddock.errors import FieldError, ValidationFailed

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gte": lambda have, wanted: bool(have >= wanted),
    "lte": lambda have, wanted: bool(have <= wanted),
    "gt": lambda have, wanted: bool(have > wanted),
    "lt": lambda have, wanted: bool(have < wanted),
    "ne": lambda have, wanted: bool(have != wanted),
}
_TIGHTER: Mapping[str, Callable[[Any, Any], Any]] = {"gte": max, "gt": max, "lte": min, "lt": min}


def both(one: Filters, other: Filters) -> dict[str, Any]:
    """Filters that let through what both let through. Raises ValidationFailed where no single filter can say it."""
    return {
        key: _join(key, one[key], other[key]) if key in one and key in other else {**one, **other}[key]
        for key in {**one, **other}
    }


def _join(key: str, one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        joined = dict(one)
        for name, value in other.items():
            joined[name] = value if name not in joined else _tighter(key, name, joined[name], value)
        return joined
    if isinstance(one, Mapping):
        one, other = other, one
    values = _values(one)
    return [value for value in values if _passes(key, value, other)]


def _tighter(key: str, name: str, one: Any, other: Any) -> Any:
    if one == other:
        return one
    if name not in _TIGHTER or not _comparable(one, other):
        raise ValidationFailed.of(
            [FieldError(f"filters.{key[:64]}", f"the query and the strategy both filter by {str(name)[:32]}: use one")]
        )
    return _TIGHTER[name](one, other)


def matches(hit: Hit, filters: Filters) -> bool:
    """Whether a hit passes. Raises ValidationFailed for an unknown operator."""
    return all(_passes(key, _value_of(hit, key), wanted) for key, wanted in filters.items())


def _value_of(hit: Hit, key: str) -> Any:
    return hit.document_id if key == "file_hash" else hit.metadata.get(key)


def _passes(key: str, have: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return all(_compares(key, have, name, value) for name, value in wanted.items())
    return any(_comparable(have, value) and have == value for value in _values(wanted))


def _compares(key: str, have: Any, name: Any, wanted: Any) -> bool:
    if name not in _OPERATORS:
        known = ", ".join(_OPERATORS)
        raise ValidationFailed.of(
            [FieldError(f"filters.{key[:64]}", f"unknown operator {str(name)[:32]!r}; known: {known}")]
        )
    if not _comparable(have, wanted):
        return bool(name == "ne")
    return _OPERATORS[name](have, wanted)


def _comparable(have: Any, wanted: Any) -> bool:
    """Text with text, numbers with numbers, nothing with nothing."""
    return any(isinstance(have, kind) and isinstance(wanted, kind) for kind in (str, (int, float), type(None)))


def _values(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
