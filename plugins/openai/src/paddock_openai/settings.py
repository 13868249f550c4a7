"""The section ``openai`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

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
