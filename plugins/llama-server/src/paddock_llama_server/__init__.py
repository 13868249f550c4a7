"""Managed llama-server instances and the router in front of them."""

from __future__ import annotations

import msgspec

from paddock.contracts.base import hookimpl
from paddock_llama_server.settings import LlamaServerSettings

__all__ = ["LlamaServerPlugin", "LlamaServerSettings", "plugin"]


class LlamaServerPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``llama_server``."""
        return "llama_server", LlamaServerSettings


plugin = LlamaServerPlugin()
