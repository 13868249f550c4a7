"""Rows to numbers: lists as they are, objects as their schema says."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.contracts.anomaly import Encoder, Row
from paddock.contracts.base import Json
from paddock.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np

MAX_COLUMNS = 100  # of a onehot feature
MAX_NUMBER = 1e30  # beyond it squares leave what float64 tells apart
TRUTHY = frozenset({"true", "yes", "1", "on", "t", "y"})
HASHES = 1_000_000


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: its encoder, and what that learnt: the known values (sorted), with `frequency` their shares too."""

    name: str
    encoder: Encoder = "numeric"
    values: list[str] = []
    shares: list[float] = []

    def columns(self) -> list[str]:
        """The names of its columns, one at least."""
        if self.encoder != "onehot":
            return [self.name]
        return [f"{self.name}={value}" for value in self.values] or [self.name]


def text_of(value: Json) -> str | None:
    """A value as a category: numbers that are whole look alike however they were written."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def number_of(value: Json) -> float:
    """A value as a number: what is none counts as 0."""
    if isinstance(value, bool | int | float | str):
        try:
            return float(value)
        except ValueError:
            return 0.0
        except OverflowError:
            return math.inf
    return 0.0


def learn(rows: Sequence[Mapping[str, Json]], schema: Mapping[str, Encoder]) -> list[Feature]:
    """Learn each feature of the schema from the training rows. Raises BadRequest for one that no row has."""
    if not schema:
        raise BadRequest("the schema is empty: name each feature with its encoder")
    absent = [name for name in schema if not any(name in row for row in rows)]
    if absent:
        raise BadRequest(f"no row has the feature {absent[0][:64]!r} of the schema: check its spelling")
    return [_learn(name, encoder, [row.get(name) for row in rows]) for name, encoder in schema.items()]


def _learn(name: str, encoder: Encoder, values: list[Json]) -> Feature:
    if encoder not in ("label", "onehot", "frequency"):
        return Feature(name=name, encoder=encoder)
    counts = Counter(text for text in map(text_of, values) if text is not None)
    known = sorted(counts)
    if encoder == "onehot":
        return Feature(name=name, encoder=encoder, values=known[:MAX_COLUMNS])
    shares = [counts[value] / len(values) for value in known] if encoder == "frequency" else []
    return Feature(name=name, encoder=encoder, values=known, shares=shares)


def _hashed(value: Json) -> float:
    text = text_of(value)
    if text is None:
        return 0.0
    return float(int(hashlib.md5(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()[:8], 16) % HASHES)


def _binary(value: Json) -> float:
    return float((text_of(value) or "").strip().lower() in TRUTHY)


def _label(feature: Feature) -> Callable[[Json], float]:
    places = {value: float(at) for at, value in enumerate(feature.values, 1)}
    return lambda value: places.get(text_of(value) or "", 0.0) if value is not None else 0.0


def _frequency(feature: Feature) -> Callable[[Json], float]:
    shares = dict(zip(feature.values, feature.shares, strict=True))
    unseen = min(feature.shares, default=0.0) / 2
    return lambda value: shares.get(text_of(value) or "", unseen) if value is not None else unseen


def _column(feature: Feature) -> Callable[[Json], float]:
    if feature.encoder == "label":
        return _label(feature)
    if feature.encoder == "frequency":
        return _frequency(feature)
    return {"numeric": number_of, "hash": _hashed, "binary": _binary}[feature.encoder]


def encode(rows: Sequence[Mapping[str, Json]], features: Sequence[Feature]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One row of numbers for each object. Raises BadRequest for one that has no feature of the schema."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    names = {feature.name for feature in features}
    for at, row in enumerate(rows):
        if names.isdisjoint(row):
            raise BadRequest(f"data[{at}] has none of the schema's features: {', '.join(sorted(names))[:200]}")
    matrix = np.zeros((len(rows), sum(len(feature.columns()) for feature in features)))
    at = 0
    for feature in features:
        width = len(feature.columns())
        values = [row.get(feature.name) for row in rows]
        if feature.encoder == "onehot":
            places = {value: number for number, value in enumerate(feature.values)}
            found = [
                (number, places.get(text_of(value) or "")) for number, value in enumerate(values) if value is not None
            ]
            for number, place in found:
                if place is not None:
                    matrix[number, at + place] = 1.0
        else:
            matrix[:, at] = list(map(_column(feature), values))
        at += width
    return matrix


def checked(matrix: np.ndarray[Any, np.dtype[np.float64]], names: Sequence[str]) -> None:
    """Raises BadRequest naming the first value that is not finite or too large."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    bad = np.argwhere(~(np.abs(matrix) <= MAX_NUMBER))
    if len(bad):
        row, column = bad[0]
        raise BadRequest(f"data[{row}], {names[column]}: a number must be finite and at most {MAX_NUMBER:g}")


def all_lists(rows: Sequence[Row]) -> bool:
    """Whether the rows are lists; False: objects. Raises BadRequest for a mixture."""
    lists = sum(isinstance(row, list) for row in rows)
    if lists not in (0, len(rows)):
        raise BadRequest("data mixes lists and objects: send all rows in one form")
    return lists > 0
