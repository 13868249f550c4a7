"""Versions of a model: ``NAME_YYYYmmdd_HHMMSS``, and ``NAME-latest`` for the newest of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterable, Sequence
from datetime import datetime, timedelta

from paddock.errors import BadName
from paddock.storage import check_name

LATEST = "-latest"
_VERSION = re.compile(r"(.+)_(\d{8}_\d{6})")
_STAMP = "%Y%m%d_%H%M%S"
_LONGEST = 48  # characters of a name that gets a version's 16 behind it


def is_version(name: str) -> bool:
    """Whether the name ends like a version's."""
    return _VERSION.fullmatch(name) is not None


def base_name(name: str) -> str:
    """The name without its version."""
    found = _VERSION.fullmatch(name)
    return found[1] if found else name


def new_version(name: str, taken: Container[str], now: datetime) -> str:
    """A version of `name` at this local time, or the next free second after it. Raises BadName."""
    check_name(name, "model")
    if name.endswith(LATEST):
        raise BadName(f"model {name!r} ends in {LATEST}, which stands for the newest version: choose another name")
    if len(name) > _LONGEST:
        raise BadName(f"model {name!r} is too long for a version: use {_LONGEST} characters, or overwrite=true")
    version = f"{name}_{now.strftime(_STAMP)}"
    while version in taken:
        now += timedelta(seconds=1)
        version = f"{name}_{now.strftime(_STAMP)}"
    return version


def newest(name: str, known: Iterable[str]) -> str:
    """What ``NAME-latest`` stands for among the known names: the newest version, else NAME itself when it is known.

    Any other name, and one that really ends so, stands for itself.
    """
    names = set(known)
    if not name.endswith(LATEST) or name in names:
        return name
    wanted = name.removesuffix(LATEST)
    versions = [one for one in names if is_version(one) and base_name(one) == wanted]
    if versions:
        return max(versions)  # the stamps sort as they were made
    return wanted if wanted in names else name


def choices(name: str, known: Sequence[str]) -> str:
    """The end of the sentence about a model that is not there: near names, else some of those that are."""
    near = difflib.get_close_matches(name, known, 3)
    if near:
        return f"near names: {', '.join(near)}"
    more = "" if len(known) <= 5 else f" and {len(known) - 5} more"
    return f"there are {', '.join(known[:5])}{more}" if known else "none is saved: fit one first"
