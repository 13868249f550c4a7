"""Plugins: loading them, the registries of what they provide, and the typed facade in front of pluggy."""

from paddock.plugins.facade import Plugins
from paddock.plugins.loading import (
    BUILT_IN,
    ENTRY_POINTS,
    Loaded,
    discover,
    load,
    prepare,
    section_of,
    settings_sections,
)
from paddock.plugins.looking import PluginInfo, look_at
from paddock.plugins.registry import ELSEWHERE, Registry

__all__ = [
    "BUILT_IN", "ELSEWHERE", "ENTRY_POINTS", "Loaded", "PluginInfo", "Plugins", "Registry", "discover", "load", "look_at",
    "prepare", "section_of", "settings_sections",
]  # fmt: skip
