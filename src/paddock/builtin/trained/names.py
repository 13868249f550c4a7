"""Versions of a model: ``NAME_YYYYmmdd_HHMMSS``, and ``NAME-latest`` for the newest of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Container, Iterable, Iterator, Sequence
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


def stored_name(name: str, taken: Container[str], *, overwrite: bool) -> str:
    """The name that a fit under ``/v1/ml`` stores: a new version unless it overwrites. Raises BadName."""
    check_name(name, "model")
    if name.endswith(LATEST):
        raise BadName(f"model {name!r} ends in {LATEST}, which stands for the newest version: choose another name")
    return name if overwrite else new_version(name, taken, datetime.now().astimezone())


def new_version(name: str, taken: Container[str], now: datetime) -> str:
    """A version of `name` at this local time, or the next free second after it. Raises BadName."""
    if len(name) > _LONGEST:
        raise BadName(f"model {name!r} is too long for a version: use {_LONGEST} characters, or overwrite=true")
    version = f"{name}_{now.strftime(_STAMP)}"
    while version in taken:
        now += timedelta(seconds=1)
        version = f"{name}_{now.strftime(_STAMP)}"
    return version


def meanings(name: str, known: Iterable[str]) -> Iterator[str]:
    """What a name may stand for under ``/v1/ml``, the best first: itself, and for ``NAME-latest`` the versions of NAME that
    are known, the newest first, and NAME."""
    yield name
    wanted = name.removesuffix(LATEST)
    if wanted and wanted != name:
        versions = (one for one in sorted(known, reverse=True) if one.startswith(wanted))  # as the stamps were made
        yield from (one for one in versions if is_version(one) and base_name(one) == wanted)
        yield wanted


def not_there(what: str, name: str, known: Sequence[str], shown: str | None = None) -> str:
    """The sentence about a model that is not there: what stands for the name under ``/v1/ml``, else near names, else some of
    those that are. `shown` is what was asked for, where that is more than the name."""
    text = f"no {what} {(shown or name)[:64]!r}"
    wanted = name.removesuffix(LATEST)
    meant = next((one for one in meanings(wanted + LATEST, known) if one in known), None)
    if meant and name.endswith(LATEST):
        return f"{text}; under /v1/ml it stands for {meant}"
    if meant:
        return f"{text}; its newest version is {meant}, which {wanted[:64]}{LATEST} under /v1/ml stands for"
    near = _near(wanted, known)
    if near:
        return f"{text}; near names: {', '.join(near)}"
    more = "" if len(known) <= 5 else f" and {len(known) - 5} more"
    return f"{text}; " + (f"there are {', '.join(known[:5])}{more}" if known else "none is saved: fit one first")


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Up to three names like this one, with or without their versions (the newest of each), in small or large letters."""
    forms: dict[str, str] = {}
    for one in sorted(known, reverse=True):
        for form in (one, base_name(one)):
            forms.setdefault(form.lower(), one)
    return list(dict.fromkeys(forms[form] for form in difflib.get_close_matches(name.lower(), forms, 6)))[:3]
