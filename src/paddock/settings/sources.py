"""Where settings come from: files, the environment, the hub's variables; each as sections of plain values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paddock.errors import ValidationFailed
from paddock.resources import conf_folder

PREFIX = "PADDOCK_"
SHIPPED = "paddock.toml"
HUB_NAMES = "the hub's environment"
Raw = dict[str, dict[str, Any]]


def raw_layers(
    config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, Mapping[str, Any]] | None
) -> list[tuple[str, Raw]]:
    """The layers but the saved file, weakest first, each with a name for messages."""
    layers: list[tuple[str, Raw]] = [(SHIPPED, read_settings(conf_folder() / SHIPPED)), (HUB_NAMES, _from_hub(environ))]
    if config is not None:
        if not config.is_file():
            raise ValidationFailed(f"the settings file {config} does not exist: check --config")
        layers.append((str(config), read_settings(config)))
    layers.append(("the environment", _from_environment(environ)))
    layers.append(("the command line", {name: dict(values) for name, values in (overrides or {}).items()}))
    return layers


def read_settings(path: Path) -> Raw:
    """A settings file's sections. Raises ValidationFailed for one that can't be read."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValidationFailed(f"the settings file {path} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValidationFailed(f"{path.name} is not TOML: {error}") from error
    for name, section in values.items():
        if not isinstance(section, dict):
            raise ValidationFailed(f"{path.name}: {name} stands outside of a [section]")
    return values


def _from_environment(environ: Mapping[str, str]) -> Raw:
    found: Raw = {}
    data_dir = environ.get("PADDOCK_DATA_DIR") or environ.get("LF_DATA_DIR")
    if data_dir:
        found["server"] = {"data_dir": data_dir}
    for name, value in environ.items():
        if name.startswith(PREFIX) and "__" in name:
            section, _, key = name.removeprefix(PREFIX).lower().partition("__")
            found.setdefault(section, {})[key] = value
    return found


def _from_hub(environ: Mapping[str, str]) -> Raw:
    """The variables that every tool of the Hugging Face hub reads; any setting of paddock's own is stronger."""
    home = environ.get("HF_HOME")
    offline = environ.get("HF_HUB_OFFLINE", "").lower()
    given = {
        ("models", "cache_dir"): environ.get("HF_HUB_CACHE") or (f"{home}/hub" if home else None),
        ("hub", "endpoint"): environ.get("HF_ENDPOINT"),
        ("hub", "token"): environ.get("HF_TOKEN"),
        ("hub", "offline"): "true" if offline in ("1", "on", "yes", "true") else None,
    }
    found: Raw = {}
    for (section, key), value in given.items():
        if value:
            found.setdefault(section, {})[key] = value
    return found
