"""The section ``ollama`` of the settings, and how its address is read."""

from __future__ import annotations

from typing import Annotated

import msgspec

from paddock.builtin.openai_wire import Target

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class OllamaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Ollama listens, with or without ``/v1``. `api_key` (for an Ollama behind a proxy that wants one) is sent to
    `base_url` only. Times in seconds:
    `pull_timeout` bounds a whole pull, the others one reply."""

    base_url: str = "http://127.0.0.1:11434"
    api_key: str = ""
    first_byte_timeout: Seconds = 300
    timeout: Seconds = 3600
    pull_timeout: Seconds = 24 * 3600

    def target(self, base_url: str | None = None, api_key: str | None = None) -> Target:
        """Ollama's own address, without ``/v1``; `api_key` belongs to `base_url`."""
        own = Target(
            base_url=root(self.base_url),
            api_key=self.api_key or None,
            timeout=self.timeout,
            first_byte_timeout=self.first_byte_timeout,
        )
        return own.at(root(base_url) if base_url else None, api_key)

    def wire(self, base_url: str | None = None, api_key: str | None = None) -> Target:
        """The OpenAI-compatible side of the same server."""
        target = self.target(base_url, api_key)
        return msgspec.structs.replace(target, base_url=f"{target.base_url}/v1")


def root(base_url: str) -> str:
    """``http://host:port`` of any of the forms that people write."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/")
