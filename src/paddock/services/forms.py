"""Reading the plain fields of a form: everything arrives as text."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from paddock.errors import BadRequest

_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def only(fields: Mapping[str, str], *names: str) -> None:
    """Raise BadRequest for a field of another name: none is taken and not looked at."""
    for name in fields:
        if name not in names:
            shown = name[:64].encode("ascii", "backslashreplace").decode()
            raise BadRequest(f"{shown}: unknown form field: leave it out; there are {', '.join(names)}")


def flag(fields: Mapping[str, str], name: str, default: bool) -> bool:
    """A yes or no. Raises BadRequest for anything else."""
    text = fields.get(name, "").strip().lower()
    if not text:
        return default
    if text not in _FLAGS:
        raise BadRequest(f"{name} is true or false")
    return _FLAGS[text]


def number(fields: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    """A whole number within bounds, both included. Raises BadRequest."""
    text = fields.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise BadRequest(f"{name} is a whole number")
    return within(name, int(text), bounds)


def within(name: str, value: int, bounds: tuple[int, int]) -> int:
    """The value if it lies within the bounds. Raises BadRequest naming them."""
    low, high = bounds
    if not low <= value <= high:
        raise BadRequest(f"{name} lies between {low} and {high}")
    return value


def listed(fields: Mapping[str, str], name: str) -> list[str] | None:
    """A list of texts: a JSON array, or separated by commas; None when the field is empty. Raises BadRequest."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    if not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()] or None
    try:
        return msgspec.json.decode(text, type=list[str])
    except (msgspec.DecodeError, RecursionError) as error:
        cut = "" if text.endswith("]") else "; curl's -F ends a value at a semicolon, --form-string takes it whole"
        raise BadRequest(f"{name} is no JSON array of texts: {error}{cut}") from error
