"""Metadata filters as SQL. Every key and every value is a bound parameter; nothing from outside becomes SQL text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec

from paddock.contracts.providers import Filters
from paddock.errors import FieldError, ValidationFailed

# Keys that name columns, not metadata. `f` is the file, `c` the chunk.
COLUMNS: Mapping[str, str] = {
    "file_hash": "f.file_hash",
    "dataset": "f.dataset",
    "filename": "f.filename",
    "page": "c.page",
    "chunk_index": "c.position",
}
COMPARISONS: Mapping[str, str] = {"gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}
MAX_KEY = 256
MAX_LIST = 10_000
MAX_FILTERS = 64
Value = str | int | float | bool | None


class Where(msgspec.Struct, frozen=True):
    """A condition over ``files f`` and ``chunks c`` with its parameters; an empty one allows everything."""

    sql: str = ""
    values: tuple[Value, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sql)

    def ids(self) -> str:
        """A subquery that selects the ids of the allowed chunks. Files come first, so that their ranges of ids help."""
        own_range = "c.id BETWEEN f.first AND f.first + f.chunk_count - 1"
        return f"SELECT c.id FROM files f CROSS JOIN chunks c ON {own_range} WHERE {self.sql or 'true'}"  # noqa: S608  our own words; values are bound


class Operand(msgspec.Struct, frozen=True):
    """What is compared: an SQL expression, its JSON type's expression, and the parameters each of the two takes."""

    value: str
    kind: str
    values: tuple[Value, ...]


def compile_filters(filters: Filters | None) -> Where:
    """Translate. Raises ValidationFailed for an unknown operator, a malformed key or a value that can't be compared."""
    if not filters:
        return Where()
    if len(filters) > MAX_FILTERS:
        raise ValidationFailed(f"{len(filters)} filters are too many: use at most {MAX_FILTERS}")
    parts = [_one(key, wanted) for key, wanted in filters.items()]
    return Where(" AND ".join(part.sql for part in parts), tuple(value for part in parts for value in part.values))


def _one(key: Any, wanted: Any) -> Where:
    operand = _operand(key)
    if isinstance(wanted, Mapping):
        if not wanted:
            _refuse(key, "an empty object compares nothing; use gte, lte, gt, lt or ne")
        parts = [_operation(key, operand, name, value) for name, value in wanted.items()]
        return Where(" AND ".join(part.sql for part in parts), tuple(value for part in parts for value in part.values))
    if isinstance(wanted, list | tuple | set | frozenset):
        return _any_of(key, operand, list(wanted))
    return _equal(operand, _value(key, wanted))


def _operand(key: Any) -> Operand:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY or not key.isprintable():
        shown = str(key)[:64].encode("ascii", "backslashreplace").decode()
        _refuse(shown, f"a metadata key is 1 to {MAX_KEY} printable characters")
    column = COLUMNS.get(key)
    if column:
        return Operand(column, f"typeof({column})", ())
    if '"' in key or "\\" in key:  # a JSON path has no way to write these
        row = "FROM json_each(c.metadata) WHERE key = ?"
        return Operand(f"(SELECT value {row})", f"(SELECT type {row})", (key,))
    return Operand("json_extract(c.metadata, ?)", "json_type(c.metadata, ?)", (f'$."{key}"',))


def _equal(operand: Operand, value: Value) -> Where:
    if value is None:
        return Where(f"{operand.value} IS NULL", operand.values)
    return Where(f"({operand.value} = ? AND {operand.kind} {_kinds(value)})", (*operand.values, value, *operand.values))


def _kinds(value: Value) -> str:
    """Text equals only text and numbers only numbers, whatever SQLite thinks; JSON arrays look like text to it."""
    return "= 'text'" if isinstance(value, str) else "IN ('integer', 'real', 'true', 'false')"


def _any_of(key: str, operand: Operand, wanted: list[Any]) -> Where:
    if len(wanted) > MAX_LIST:
        _refuse(key, f"a list of {len(wanted)} values is too long: use at most {MAX_LIST}")
    values = [_value(key, value) for value in wanted]
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float)]
    parts = [Where(f"{operand.value} IS NULL", operand.values)] if None in values else []
    for group in (texts, numbers):
        if group:
            encoded = msgspec.json.encode(group).decode()
            parts.append(
                Where(
                    f"({operand.value} IN (SELECT value FROM json_each(?)) AND {operand.kind} {_kinds(group[0])})",  # noqa: S608  our own words; values are bound
                    (*operand.values, encoded, *operand.values),
                )
            )
    if not parts:
        return Where("false")
    return Where(
        f"({' OR '.join(part.sql for part in parts)})", tuple(value for part in parts for value in part.values)
    )


def _operation(key: str, operand: Operand, name: Any, wanted: Any) -> Where:
    value = _value(key, wanted)
    if name == "ne":
        equal = _equal(operand, value)
        return Where(f"({equal.sql}) IS NOT TRUE", equal.values)
    if name not in COMPARISONS:
        _refuse(key, f"unknown operator {str(name)[:32]!r}; known: gte, lte, gt, lt, ne")
    if value is None:
        _refuse(key, f"{name} needs a number or a text")
    return Where(
        f"({operand.value} {COMPARISONS[name]} ? AND {operand.kind} {_kinds(value)})",
        (*operand.values, value, *operand.values),
    )


def _value(key: str, value: Any) -> Value:
    """A scalar that SQLite can hold exactly."""
    checks: list[tuple[Callable[[], bool], str]] = [
        (
            lambda: value is None or isinstance(value, str | int | float),
            "a value is a text, a number, true, false or null",
        ),
        (lambda: not isinstance(value, float) or math.isfinite(value), "NaN and infinity can't be compared"),
        (lambda: not isinstance(value, int) or -(2**63) <= value < 2**63, "the number does not fit into 64 bits"),
        (lambda: not isinstance(value, str) or _is_unicode(value), "the text is not valid Unicode"),
    ]
    for holds, reason in checks:
        if not holds():
            _refuse(key, reason)
    checked: Value = value
    return checked


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(key: str, reason: str) -> NoReturn:
    raise ValidationFailed.of([FieldError(f"filters.{key}", reason)])
