"""Secrets of an instance: hidden in what is shown, kept when they come back hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from paddock.contracts.base import Json
from paddock.errors import BadRequest
from paddock_llama_server.options import read_argument
from paddock_llama_server.spec import Spec
from paddock_llama_server.table import SECRETS

MASK = "********"
_SECRET_NAME = re.compile(r"key|token|secret|passw|auth|cookie|credential", re.IGNORECASE)


def masked(spec: Spec) -> Spec:
    """The spec as it may be shown."""
    hidden = dict(_secret_places(spec.extra_args))
    return replace(
        spec,
        options={name: MASK if name in SECRETS and value else value for name, value in spec.options.items()},
        environment={
            name: MASK if value and _SECRET_NAME.search(name) else value for name, value in spec.environment.items()
        },
        extra_args=tuple(_hidden(text) if at in hidden else text for at, text in enumerate(spec.extra_args)),
    )


def restored(new: Spec, old: Spec) -> Spec:
    """`new` with every mask replaced by what `old` holds there. Raises BadRequest for a mask where nothing is stored."""
    stored = {name: old.extra_args[at] for at, name in _secret_places(old.extra_args)}
    arguments = list(new.extra_args)
    for at, name in _secret_places(arguments):
        if _hidden(arguments[at]) == arguments[at]:
            arguments[at] = _kept(f"extra_args: {name}", stored.get(name))
    return replace(
        new,
        options=_unmasked(new.options, old.options, ""),
        environment=_unmasked(new.environment, old.environment, "environment."),
        extra_args=tuple(arguments),
    )


def _unmasked(new: Mapping[str, Json], old: Mapping[str, Json], where: str) -> dict[str, Json]:
    return {name: _kept(where + name, old.get(name)) if value == MASK else value for name, value in new.items()}


def _kept(where: str, stored: Json) -> str:
    if not isinstance(stored, str):
        raise BadRequest(f"{where}: {MASK} stands for a stored secret, and none is stored here: write it out")
    return stored


def _hidden(text: str) -> str:
    head, equals, _ = text.partition("=")
    return f"{head}={MASK}" if equals and head.startswith("-") else MASK


def _secret_places(arguments: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Where secrets stand: the index of the argument, and the option it belongs to."""
    for at, text in enumerate(arguments):
        head, equals, _ = text.partition("=")
        name = read_argument(head) if head.startswith("-") else None
        if name in SECRETS and (equals or at + 1 < len(arguments)):
            yield (at if equals else at + 1), str(name)
