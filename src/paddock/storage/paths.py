"""The one place where names from outside become paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

from paddock.errors import BadName

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
HASH = re.compile(r"[0-9a-f]{64}")
_RESERVED = {".", ".."}


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it may become one path component, else raise BadName (its text shows no more than 64 characters)."""
    if NAME.fullmatch(name) and name not in _RESERVED:
        return name
    shown = ascii(name[:64]) + "…" * (len(name) > 64)
    raise BadName(f"{what} {shown} is not allowed: use 1 to 64 letters, digits, dots, underscores or hyphens")


def is_hash(text: str) -> bool:
    """Whether this is a sha256 in lower-case hexadecimal."""
    return HASH.fullmatch(text) is not None


def inside(root: Path, *names: str) -> Path:
    """``root/names…`` with every name checked and no symbolic link followed out of `root`.

    Raises BadName for a name that is not allowed and for a link that leads elsewhere.
    """
    path = os.fspath(root)
    linked = False
    for name in names:
        path = os.path.join(path, check_name(name))  # noqa: PTH118  every request of a project comes through here
        linked = linked or os.path.islink(path)  # noqa: PTH114  as above
    if linked and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise BadName(f"{'/'.join(names)} leads out of the data folder through a symbolic link: remove the link")
    return Path(path)
