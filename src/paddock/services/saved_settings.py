"""Which settings can be changed over HTTP, how they are shown, and the file that keeps them."""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.errors import BadRequest, FieldError, ValidationFailed
from paddock.services.project_secrets import MASK, masked
from paddock.settings import Layers, Raw, Settings

_SECRET = re.compile(r"(?:^|_)(?:keys?|password|secrets?|token|credentials?)$")
_SECTIONS = frozenset({"auth", "plugins"})
_TEXTS = frozenset({"projects.default_template", "tasks.queue"})  # names of what paddock has already
_SERVER = frozenset({"host", "port", "data_dir", "insecure", "allowed_hosts", "allowed_origins"})
_NUMBERS = (bool, int, float)


def settable(section: str, key: str, layers: Layers) -> None:
    """Raises BadRequest, naming the setting, for one that can't be changed here or whose change would have no effect."""
    name = f"{section}.{key}"[:140]
    if section in _SECTIONS or (section == "server" and key in _SERVER) or not _harmless(section, key, layers):
        raise BadRequest(
            f"{name} can't be set over HTTP, as no key, password, command, path, address, list or table can: use the "
            "settings file, the environment or the command line"
        )
    if (layer := layers.above(section, key)) is not None:
        raise BadRequest(f"{name} is fixed by {layer}: a change here would have no effect")


def _harmless(section: str, key: str, layers: Layers) -> bool:
    """Whether a setting is a number, a switch or one of some fixed words: texts name programs, files and addresses, and who
    sets those can do more than manage paddock. One that does not exist is left to those who tell its name."""
    hint = typing.get_type_hints(layers.known[section]).get(key) if section in layers.known else None
    if hint is None or f"{section}.{key}" in _TEXTS:
        return True
    return "command" not in key and not _SECRET.search(key) and all(map(_fixed, _alternatives(hint)))


def _alternatives(hint: Any) -> Sequence[Any]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _fixed(hint: Any) -> bool:
    return hint in (*_NUMBERS, type(None)) or typing.get_origin(hint) is typing.Literal


def changed(saved: Raw, given: Mapping[str, Mapping[str, Json]]) -> Raw:
    """What is saved with a change: null takes a setting out of it."""
    found = {section: dict(keys) for section, keys in saved.items()}
    for section, keys in given.items():
        for key, value in keys.items():
            found.setdefault(section, {})[key] = value
    kept = {
        section: {key: value for key, value in keys.items() if value is not None} for section, keys in found.items()
    }
    return {section: keys for section, keys in kept.items() if keys}


def toml(saved: Raw) -> str:
    """The settings file: numbers, booleans, texts and lists of these."""
    lines = ["# Written by PUT /api/config. Stronger than --config, weaker than the environment and the command line."]
    for section, keys in saved.items():
        lines += ["", f"[{section}]", *(f"{key} = {_value(f'{section}.{key}', value)}" for key, value in keys.items())]
    return "\n".join(lines) + "\n"


def _value(name: str, value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return f"[{', '.join(_value(name, one) for one in value)}]"
    if not isinstance(value, bool | int | float | str):
        raise ValidationFailed.of([FieldError(name, "is neither a text, a number, true or false, nor a list of these")])
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # but for this one, JSON's texts are TOML's


def shown(settings: Settings) -> dict[str, Json]:
    """The settings section by section, what is secret in them as ``********``."""
    found: dict[str, Any] = msgspec.to_builtins(settings)
    found |= found.pop("sections")
    return {
        section: {key: MASK if value and _SECRET.search(key) else masked(value, key) for key, value in keys.items()}
        for section, keys in found.items()
    }
