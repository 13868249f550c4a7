"""Ollama behind the gateway: requests pass to its /v1 as they are."""

from __future__ import annotations

from typing import ClassVar

from paddock.builtin.serving import WireServer
from paddock.contracts.providers import HttpClient, TypeName
from paddock_ollama.settings import OllamaSettings


class OllamaServer(WireServer):
    """``ollama/MODEL``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("ollama"),)
    operations = frozenset({"chat/completions", "completions", "embeddings"})

    def __init__(self, http: HttpClient, settings: OllamaSettings) -> None:
        super().__init__(http, settings.wire())
