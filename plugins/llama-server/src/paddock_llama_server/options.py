"""llama-server's options: read from JSON by name, turned into an argument list. What is absent stays apart from 0 and false."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paddock.contracts.base import Json
from paddock.errors import BadRequest
from paddock_llama_server.table import ALIASES, FILES, FLAGS, KINDS, NEGATIVES, REFUSED, Kind

__all__ = ["argv", "canonical", "file_values", "flag", "read_argument", "read_arguments", "read_options"]

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_FLAG = re.compile(r"--?[A-Za-z][A-Za-z0-9._-]*")
_SWITCH = {True: "on", False: "off"}


def canonical(name: str) -> str | None:
    """The canonical name of an option under any of its names, or None."""
    return name if name in KINDS else ALIASES.get(name)


def flag(name: str) -> str:
    """The flag of a canonical name."""
    return FLAGS.get(name) or "--" + name.replace("_", "-")


def read_options(given: Mapping[str, Json], where: str = "") -> dict[str, Json]:
    """Options by their canonical names, checked; null stays null, the wish to remove. `where` stands before names in errors.

    A canonical name takes its own type only, another spelling also a number as text. Raises BadRequest for an unknown option
    (with near names), a wrong type, a refused option, and an option that is given twice.
    """
    found: dict[str, Json] = {}
    for key, value in given.items():
        name = canonical(key)
        if name is None:
            raise BadRequest(f"{where}{key[:64]}: llama-server has no such option{_near(key)}")
        if name in found:
            raise BadRequest(f"{where}{key}: {name} is given twice, under two names: leave one out")
        found[name] = None if value is None else _checked(f"{where}{key}", name, value, lenient=key != name)
    return found


def _near(key: str) -> str:
    near = difflib.get_close_matches(key.replace("-", "_"), [*KINDS, *ALIASES], 3)
    return f"; did you mean {' or '.join(near)}?" if near else ": GET /api/v1/server/help lists them"


def _checked(shown: str, name: str, value: Json, *, lenient: bool) -> Json:
    if name in REFUSED and value is not False:
        raise BadRequest(f"{shown} can't be set: {REFUSED[name]}")
    if lenient:
        value = _lenient(KINDS[name], value)
    problem = _problem(KINDS[name], value)
    if problem is not None:
        raise BadRequest(f"{shown} must be {problem}")
    return _SWITCH[value] if KINDS[name] == "switch" and isinstance(value, bool) else value


def _lenient(kind: Kind, value: Json) -> Json:
    """What another spelling may also be: a number as text, a single text for a list."""
    if kind == "list" and isinstance(value, str):
        return [value]
    if not isinstance(value, str):
        return value
    if kind in ("int", "layers") and _NUMBER.fullmatch(value):
        return int(value)
    if kind == "float":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _problem(kind: Kind, value: Json) -> str | None:
    """What the value should be, or None when it is."""
    match kind:
        case "flag":
            return None if isinstance(value, bool) else "true or false"
        case "int":
            return None if _whole(value) else "a whole number"
        case "float":
            good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            return None if good else "a number"
        case "layers":
            return None if _whole(value) or value in ("auto", "all") else 'a whole number, "auto" or "all"'
        case "switch":
            return None if isinstance(value, bool) or value in ("on", "off", "auto") else '"on", "off" or "auto"'
        case "list":
            return None if isinstance(value, list) and all(map(_printable, value)) else "a list of texts"
        case "text":
            return None if _printable(value) else "a text without a NUL"


def _whole(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _printable(value: Json) -> bool:
    """Whether it can be an argument of a process at all."""
    return isinstance(value, str) and "\x00" not in value and not any("\ud800" <= one <= "\udfff" for one in value)


def read_arguments(given: Json, where: str = "extra_args") -> tuple[str, ...]:
    """`extra_args` as an ordered list: given as a list of texts, or as llamactl's map of option to value (an empty value, null
    or true is a bare flag).

    What the table refuses is refused here too. Raises BadRequest.
    """
    if isinstance(given, Mapping):
        given = [part for key, value in given.items() for part in _pair(key, value, where)]
    if not isinstance(given, list | tuple) or not all(map(_printable, given)):
        raise BadRequest(f"{where} must be a list of texts, or a map of options to texts")
    for name, _ in _flags(given):
        if name in REFUSED:
            raise BadRequest(f"{where}: {flag(name)} can't be set: {REFUSED[name]}")
    return tuple(given)


def _pair(key: str, value: Json, where: str) -> list[str]:
    name = key if key.startswith("-") else f"--{key}"
    if value is None or value is True or value == "":
        return [name]
    if isinstance(value, str) or _whole(value) or (isinstance(value, float) and math.isfinite(value)):
        return [name, value if isinstance(value, str) else _number(value)]
    raise BadRequest(f"{where}.{key[:64]} must be a text")


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """The known options in an argument list by their canonical names, each with the argument that follows it."""
    for at, text in enumerate(arguments):
        head, equals, value = text.partition("=")
        name = read_argument(head) if _FLAG.fullmatch(head) else None
        if name is not None:
            yield name, value if equals else (arguments[at + 1] if at + 1 < len(arguments) else None)


def read_argument(text: str) -> str | None:
    """The canonical name of a flag of the command line, or None: ``-c`` and ``--ctx-size`` are ctx_size."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    return canonical(text.lstrip("-").replace("-", "_"))


_SPECIAL = {text: name for name, text in FLAGS.items()}


def file_values(options: Mapping[str, Json], extra_args: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Every path that the options or arguments name, with the option's canonical name."""
    for name in FILES:
        value = options.get(name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str):
                yield from ((name, path) for path in _paths(name, one))
    for name, following in _flags(extra_args):
        if name in FILES and following is not None:
            yield from ((name, path) for path in _paths(name, following))


def _paths(name: str, value: str) -> Iterator[str]:
    """The paths in one value: lists of adapters are separated by commas, scaled ones end in ``:NUMBER``."""
    many = name in ("lora", "lora_scaled", "control_vector", "control_vector_scaled")
    for part in value.split(",") if many else (value,):
        yield re.sub(r":[^:/]*$", "", part) if FILES[name] == "scaled" else part


def argv(options: Mapping[str, Any], extra_args: Sequence[str] = ()) -> list[str]:
    """The argument list for stored options: in the order of the table, lists as the flag repeated, `extra_args` last."""
    found: list[str] = []
    for name in KINDS:
        if options.get(name) is not None:
            found += _arguments(name, options[name])
    return [*found, *extra_args]


def _arguments(name: str, value: Json) -> list[str]:
    if value is True:
        return [flag(name)]
    if value is False:
        return [flag(NEGATIVES[name])] if name in NEGATIVES else []
    if isinstance(value, list | tuple):
        return [part for one in value for part in (flag(name), one)]
    return [flag(name), value if isinstance(value, str) else _number(value)]


def _number(value: float) -> str:
    """A number without an exponent, which llama-server's own parser would cut."""
    if isinstance(value, int):
        return str(value)
    text = repr(value)
    return f"{value:.20f}".rstrip("0").rstrip(".") if "e" in text else text.removesuffix(".0")
