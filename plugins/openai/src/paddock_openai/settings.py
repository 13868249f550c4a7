"""The section ``openai`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

from paddock.builtin.openai_wire import Target

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class OpenAISettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where models without a base_url of their own live. `api_key` and `organization` are sent to `base_url` only,
    `lemonade_api_key` to `lemonade_base_url` only. Times in seconds: for the whole reply, and for its first byte
    (which, without streaming, comes when the whole answer is ready)."""

    base_url: str = "https://api.openai.com/v1"
    api_key: str = ""
    organization: str = ""
    lemonade_base_url: str = "http://127.0.0.1:11534/api/v1"
    lemonade_api_key: str = ""
    first_byte_timeout: Seconds = 300
    timeout: Seconds = 3600

    @property
    def openai(self) -> Target:
        """The server of type openai."""
        return Target(
            base_url=self.base_url.rstrip("/"),
            api_key=self.api_key or None,
            organization=self.organization or None,
            timeout=self.timeout,
            first_byte_timeout=self.first_byte_timeout,
        )

    @property
    def lemonade(self) -> Target:
        """The server of type lemonade."""
        return Target(
            base_url=self.lemonade_base_url.rstrip("/"),
            api_key=self.lemonade_api_key or None,
            timeout=self.timeout,
            first_byte_timeout=self.first_byte_timeout,
        )
