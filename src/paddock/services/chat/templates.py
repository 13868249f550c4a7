"""``{{name}}`` and ``{{name | default}}`` in prompts and tools, filled from a request's `variables`.

This is a substitution, not a template language: there is nothing to execute, the result is never read again, and its
size is bounded. So neither a value nor a caller's text can become a template, and no prompt can run away with the server.
Whatever is not exactly this form stays as it is; a backslash before it keeps it literal.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.errors import FieldError, ValidationFailed

MAX_CHARACTERS = 1024 * 1024  # of all prompts of one request
_SLOT = re.compile(r"(\\?)\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?:\|([^{}]*))?\}\}")


class Template:
    """Fills texts of one request, all of them together within the limit."""

    def __init__(self, variables: Mapping[str, Json] | None) -> None:
        self._variables = variables or {}
        self._left = MAX_CHARACTERS

    def text(self, source: str) -> str:
        """The text with its slots filled. Raises ValidationFailed for a variable that has neither value nor default."""
        return _SLOT.sub(self._fill, source) if "{{" in source else source

    def value(self, source: Any) -> Any:
        """The same for all texts within a JSON value; keys stay as they are."""
        if isinstance(source, str):
            return self.text(source)
        if isinstance(source, dict):
            return {key: self.value(item) for key, item in source.items()}
        if isinstance(source, list):
            return [self.value(item) for item in source]
        return source

    def _fill(self, slot: re.Match[str]) -> str:
        escaped, name, default = slot.groups()
        if escaped:
            return slot[0][1:]
        value = self._variables.get(name)
        if value is None:
            if default is None:
                reason = (
                    "the project's prompts need it: send it in variables, or give it a default as {{name | default}}"
                )
                raise ValidationFailed.of([FieldError(f"variables.{name}", reason)])
            value = default.strip()
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        self._left -= len(text)
        if self._left < 0:
            raise ValidationFailed.of(
                [FieldError("variables", f"fill prompts with more than {MAX_CHARACTERS} characters")]
            )
        return text
