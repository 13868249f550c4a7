"""Secrets of a project: hidden in what is shown, kept when they come back hidden, read from the environment at use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.errors import FieldError, ValidationFailed
from paddock.outgoing import host_port
from paddock.settings import Settings

MASK = "********"
_SECRET = re.compile(
    r"(^|[_-])(api_?-?key|access-?key|token|password|passwd|secret|authorization|cookie|credentials?)$"
)
_KEY = re.compile(r"[_-]key$")
_LOOSE = re.compile(r"key|token|secret|passw|auth|cookie|credential")
_LOOSE_INSIDE = ("headers", "env")  # maps of names that strangers chose
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_REFERENCE = re.compile(r"\$\{env:([^}]*)\}")
_ONLY_REFERENCE = re.compile(r"\s*(?:(?:Bearer|Basic|Token)\s+)?\$\{env:[A-Za-z_][A-Za-z0-9_]*\}\s*")
_DESTINATION = ("base_url", "url", "host", "port", "provider", "type", "command", "transport")


def is_secret(key: str, parent: str = "") -> bool:
    """Whether the text under this key is a secret; `parent` is the key of the mapping that holds it."""
    lower = key.lower()
    if parent in _LOOSE_INSIDE:
        return _LOOSE.search(lower) is not None
    return _SECRET.search(lower) is not None or _KEY.search(lower) is not None


def masked(value: Json, key: str = "", parent: str = "") -> Json:
    """A deep copy to show: secrets and credentials inside addresses as ``********``; ``${env:NAME}`` stays readable."""
    if isinstance(value, dict):
        return {name: masked(item, name, key) for name, item in value.items()}
    if isinstance(value, list):
        return [masked(item, key, parent) for item in value]
    if is_secret(key, parent) and isinstance(value, str | int | float) and not isinstance(value, bool):
        return value if not value or _ONLY_REFERENCE.fullmatch(str(value)) else MASK
    return _USERINFO.sub(MASK, value) if isinstance(value, str) and "@" in value else value


def restore(new: Json, old: Json) -> Json:
    """A copy of `new` in which every masked secret has its stored value again.

    Raises ValidationFailed for a mask where nothing is stored, and where the key would go to another place than before:
    a stored key never follows a changed address.
    """
    errors: list[FieldError] = []
    value = _restore(new, old, "", _Place("", "", moved=False), errors)
    if errors:
        raise ValidationFailed.of(errors)
    return value


class _Place(msgspec.Struct, frozen=True):
    """Key and parent key of a value, and whether an address beside or above it changed."""

    key: str
    parent: str
    moved: bool


def _restore(new: Json, old: Json, path: str, place: _Place, errors: list[FieldError]) -> Json:
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        moved = place.moved or (bool(before) and any(new.get(one) != before.get(one) for one in _DESTINATION))
        return {
            key: _restore(
                item, before.get(key), f"{path}.{key}" if path else key, _Place(key, place.key, moved), errors
            )
            for key, item in new.items()
        }
    if isinstance(new, list):
        pairs = _partners(new, old if isinstance(old, list) else [])
        return [_restore(item, mate, f"{path}[{at}]", place, errors) for at, (item, mate) in enumerate(pairs)]
    if not isinstance(new, str) or MASK not in new:
        return new
    return _unmask(new, old, path, place, errors)


def _unmask(new: str, old: Json, path: str, place: _Place, errors: list[FieldError]) -> Json:
    shown = masked(old, place.key, place.parent)
    if shown != new:
        if is_secret(place.key, place.parent) or f"://{MASK}@" in new:
            errors.append(FieldError(path, f"{MASK} stands for a stored secret, and none is stored here: write it out"))
        return new
    if place.moved and shown != old:
        errors.append(FieldError(path, "the address it goes to was changed: write the secret out again"))
    return old


def _partners(new: list[Json], old: list[Json]) -> Iterator[tuple[Json, Json]]:
    """Each new item with the stored one of the same name; without names, with the one at the same place."""
    named = {item["name"]: item for item in old if isinstance(item, dict) and isinstance(item.get("name"), str)}
    for at, item in enumerate(new):
        name = item.get("name") if isinstance(item, dict) else None
        if isinstance(name, str):
            yield item, named.get(name)
        else:
            yield item, old[at] if at < len(old) else None


def resolve_env(value: Json, settings: Settings, environ: Mapping[str, str] = os.environ) -> Any:
    """Replace every ``${env:NAME}`` in a text, or in all texts of a dict or list, for use; never show or write the result.

    Raises ValidationFailed for a name that the setting ``outgoing.env`` does not list, or that is not set.
    """
    if isinstance(value, dict):
        return {key: resolve_env(item, settings, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve_env(item, settings, environ) for item in value]
    if not isinstance(value, str) or "${env:" not in value:
        return value
    errors = [FieldError("${env:…}", reason) for reason in env_problems(value, settings, environ)]
    if errors:
        raise ValidationFailed.of(errors)
    return _REFERENCE.sub(lambda found: environ[found[1]], value)


def env_problems(text: str, settings: Settings, environ: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the references of a text; with `environ`, also which names are not set."""
    problems = []
    for found in _REFERENCE.finditer(text):
        name = found[1][:64]
        if name not in settings.outgoing.env:
            problems.append(f"the environment variable {name!r} may not be read: add it to the setting outgoing.env")
        elif environ is not None and name not in environ:
            problems.append(f"the environment variable {name} is not set: set it and start paddock again")
    return problems


def outgoing_allow(settings: Settings) -> tuple[str, ...]:
    """``outgoing.allow`` and the ``host:port`` of every base_url and endpoint in the settings, for `check_url`."""
    found = list(settings.outgoing.allow)
    for name, upstream in settings.gateway.upstreams.items():
        found.append(host_port(upstream.base_url, f"gateway.upstreams.{name}.base_url"))
    for section in settings.sections.values():
        for field in msgspec.structs.fields(section):
            value = getattr(section, field.name)
            if field.name.endswith(("base_url", "endpoint")) and isinstance(value, str) and value:
                found.append(host_port(value, field.name))
    return tuple(dict.fromkeys(found))
