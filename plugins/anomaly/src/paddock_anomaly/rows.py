"""Rows as they come: within the bounds of the settings, all of one form and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paddock.contracts.anomaly import Row
from paddock.contracts.base import Json
from paddock.errors import BadRequest, TooLarge
from paddock_anomaly import encoders
from paddock_anomaly.settings import AnomalySettings

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]


def limit_rows(count: int, settings: AnomalySettings) -> None:
    """Raises TooLarge naming the setting."""
    if count > settings.max_rows:
        raise TooLarge(
            f"{count} rows are more than {settings.max_rows}, the setting anomaly.max_rows: send fewer at once"
        )


def limit_texts(rows: Sequence[Row], settings: AnomalySettings) -> None:
    """Raises TooLarge naming the setting, BadRequest for a value that is neither number nor text."""
    for at, row in enumerate(rows):
        for name, value in row.items() if isinstance(row, dict) else ():
            if isinstance(value, str) and len(value) > settings.max_text:
                raise TooLarge(f"data[{at}]: a text is longer than {settings.max_text}, the setting anomaly.max_text")
            if isinstance(value, dict | list):
                raise BadRequest(f"data[{at}], {name[:64]!r}: a value is a number, a text, true, false or null")


def limit_columns(count: int, settings: AnomalySettings) -> None:
    """Raises TooLarge naming the setting."""
    if count > settings.max_features:
        raise TooLarge(
            f"rows have {count} columns, more than {settings.max_features}, the setting anomaly.max_features: "
            "leave some out, or encode them as label or hash instead of onehot"
        )


def objects(rows: Sequence[Row]) -> list[dict[str, Json]]:
    """The rows that are objects."""
    return [row for row in rows if isinstance(row, dict)]


def lists_matrix(rows: Sequence[Row], width: int | None, settings: AnomalySettings) -> Floats:
    """Rows that are lists, as a matrix. Raises as `limit_width`, and BadRequest for a number that is not finite."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    expected = limit_width(rows, width, settings)
    matrix = np.array(rows, dtype=np.float64)
    encoders.checked(matrix, [f"feature {at}" for at in range(expected)])
    return matrix


def limit_width(rows: Sequence[Row], width: int | None, settings: AnomalySettings) -> int:
    """How many features each row has. Raises BadRequest for another number of them than `width` (that of the first row
    when it is None), TooLarge."""
    expected = len(rows[0]) if width is None else width
    for at, row in enumerate(rows):
        if len(row) != expected:
            raise BadRequest(f"data[{at}] has {len(row)} features instead of {expected}")
    if expected == 0:
        raise BadRequest("data[0] is empty: a row has one feature or more")
    limit_columns(expected, settings)
    return expected
