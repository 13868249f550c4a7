"""Importing the installed plugins, and the settings sections that they declare."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from paddock.settings import CORE, Layers, Settings, plugin_settings

ENTRY_POINTS = "paddock"
BUILT_IN = "core"


class Loaded(msgspec.Struct):
    """An entry point after the attempt to import it. A plugin that fails later gets its `error` and loses `plugin`."""

    name: str
    version: str
    plugin: Any = None
    error: str | None = None

    @contextmanager
    def blamed(self, doing: str) -> Iterator[None]:
        """Whatever the plugin's own code raises inside is noted as its error; the others go on without it."""
        try:
            yield
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code may raise anything; it is reported by name
            self.error, self.plugin = f"{doing}: {type(error).__name__}: {error}", None


def discover(disabled: Iterable[str] = ()) -> list[Loaded]:
    """Import the installed plugins one by one; one that fails is named and takes no other with it."""
    skipped = set(disabled)
    found = []
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        if entry.name in skipped:
            continue
        item = Loaded(entry.name, entry.dist.version if entry.dist else "unknown")
        with item.blamed("import"):
            item.plugin = entry.load()
        found.append(item)
    return found


def load(
    config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Settings, list[Loaded]]:
    """The installed plugins, and the settings with their sections. Raises ValidationFailed naming the setting."""
    layers, loaded = prepare(config, overrides)
    return layers.load(), loaded


def prepare(
    config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Layers, list[Loaded]]:
    """The installed plugins, and what the settings are put together from."""
    disabled = plugin_settings(config).disabled
    loaded = discover(disabled)
    sections = settings_sections(loaded)
    absent = [*disabled, *(item.name for item in loaded if item.error)]
    return Layers(sections, config, os.environ, overrides or {}, absent), loaded


def settings_sections(loaded: Sequence[Loaded]) -> dict[str, type[msgspec.Struct]]:
    """The settings sections that the plugins declare. One whose declaration is wrong, or taken, gets its error."""
    sections: dict[str, type[msgspec.Struct]] = {}
    owners = dict.fromkeys(CORE, BUILT_IN)
    for item in loaded:
        with item.blamed("paddock_settings"):
            declared = section_of(item.plugin)
            if declared is None:
                continue
            name, kind = declared
            if name in owners:
                raise ValueError(f"the section {name} belongs to {owners[name]} already")
            sections[name], owners[name] = kind, item.name
    return sections


def section_of(plugin: object) -> tuple[str, type[msgspec.Struct]] | None:
    """The settings section that a plugin declares, or None. Raises TypeError for another form, and what it raises."""
    declare = getattr(plugin, "paddock_settings", None)
    if declare is None:
        return None
    match declare():
        case (str() as name, type() as kind) if issubclass(kind, msgspec.Struct):
            return name, kind
    raise TypeError("it returns a name and a msgspec struct")
