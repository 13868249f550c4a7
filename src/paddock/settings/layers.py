"""Putting the layers together: the weaker first, the later over the earlier."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from paddock.settings.checking import build_section, check_keys
from paddock.settings.sections import CORE, Plugins, Server, Settings
from paddock.settings.sources import HUB_NAMES, SHIPPED, Raw, raw_layers, read_settings

SAVED = "settings.toml"  # in the data folder


def load_settings(
    sections: Mapping[str, type[msgspec.Struct]],
    *,
    config: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    absent: Iterable[str] = (),
) -> Settings:
    """Put the layers together. `sections` are the plugins' own; `absent` are plugins that are disabled or did not load,
    whose sections (by the plugin's name) are passed over. Raises ValidationFailed naming the key and its layer."""
    return Layers(sections, config, environ, overrides or {}, list(absent)).load()


class Layers(msgspec.Struct, frozen=True):
    """What settings are put together from, so that it can be done again: see `load_settings`."""

    sections: Mapping[str, type[msgspec.Struct]] = {}
    config: Path | None = None
    environ: Mapping[str, str] = {}
    overrides: Mapping[str, Mapping[str, Any]] = {}
    absent: Sequence[str] = ()

    @property
    def known(self) -> dict[str, type[msgspec.Struct]]:
        """Every section by name."""
        return {**CORE, **self.sections}

    def load(self, saved: Raw | None = None) -> Settings:
        """Put the layers together, with `saved` in the place of the saved file if given. Raises ValidationFailed naming the
        key and its layer."""
        layers = self.raw()
        if saved is None:
            saved = _read_saved(_merged(layers, self.known, self.absent).get("server", {}))
        merged = _merged([*layers[:-2], (SAVED, saved), *layers[-2:]], self.known, self.absent)
        built = {name: build_section(name, merged.get(name, {}), kind) for name, kind in self.known.items()}
        core: dict[str, Any] = {name: built.pop(name) for name in CORE}
        return Settings(**core, sections=built)

    def raw(self) -> list[tuple[str, Raw]]:
        """The layers but the saved one, weakest first; the last two are the environment and the command line."""
        return raw_layers(self.config, self.environ, self.overrides)

    def above(self, section: str, key: str) -> str | None:
        """The layer that fixes a setting whatever is saved, or None."""
        return next((name for name, values in self.raw()[-2:] if key in values.get(section, {})), None)


def _read_saved(server: Mapping[str, Any]) -> Raw:
    folder = Path(str(server.get("data_dir", Server().data_dir))).expanduser()
    return read_settings(folder / SAVED) if (folder / SAVED).is_file() else {}


def _merged(layers: Iterable[tuple[str, Raw]], known: Mapping[str, type[msgspec.Struct]], absent: Iterable[str]) -> Raw:
    passed = {name.replace("-", "_") for name in absent} - set(known)
    merged: Raw = {}
    for layer, given in layers:
        # The shipped file and the hub's variables also set the sections of plugins that may not be installed here.
        general = layer in (SHIPPED, HUB_NAMES)
        values = {name: keys for name, keys in given.items() if name in known or not (general or name in passed)}
        check_keys(layer, values, known)
        for section, keys in values.items():
            merged.setdefault(section, {}).update(keys)
    return merged


def plugin_settings(config: Path | None, environ: Mapping[str, str] = os.environ) -> Plugins:
    """Only the section `plugins`: needed before the plugins, and with them all other sections, are known."""
    merged: dict[str, Any] = {}
    for _, values in raw_layers(config, environ, None):
        merged.update(values.get("plugins", {}))
    built = build_section("plugins", merged, Plugins)
    assert isinstance(built, Plugins)
    return built
