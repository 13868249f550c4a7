"""Settings: defaults, then ``--config FILE``, then ``{data}/settings.toml`` (what PUT /api/config saved), then the
environment, then the command line; one frozen struct at the end.

Environment: ``PADDOCK_SECTION__KEY`` (lists comma-separated, tables as JSON), and the two short names ``PADDOCK_DATA_DIR``
and ``LF_DATA_DIR``; weaker than the file are the hub's own HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE.
A key that no struct knows is refused by name. A plugin declares its own section with the hook ``paddock_settings``.
"""

from paddock.settings.layers import SAVED, Layers, load_settings, plugin_settings
from paddock.settings.sections import (
    CORE,
    Auth,
    Chat,
    Count,
    Events,
    Files,
    Gateway,
    Log,
    Models,
    Outgoing,
    Plugins,
    Positive,
    Projects,
    RateLimit,
    Seconds,
    Section,
    Server,
    Settings,
    System,
    Tasks,
    Uploads,
    Upstream,
)
from paddock.settings.sources import HUB_NAMES, PREFIX, SHIPPED, Raw, raw_layers, read_settings

__all__ = [
    "CORE", "HUB_NAMES", "PREFIX", "SAVED", "SHIPPED", "Auth", "Chat", "Count", "Events", "Files", "Gateway", "Layers",
    "Log", "Models", "Outgoing", "Plugins", "Positive", "Projects", "RateLimit", "Raw", "Seconds", "Section", "Server",
    "Settings", "System", "Tasks", "Uploads", "Upstream", "load_settings", "plugin_settings", "raw_layers", "read_settings",
]  # fmt: skip
