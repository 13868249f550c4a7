"""Who may do what: the one place that reads credentials from a request."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qs

from paddock.contracts.base import Access, Caller
from paddock.errors import FieldError, Forbidden, Unauthenticated, ValidationFailed
from paddock.settings import Auth

_SENDABLE = re.compile(r"[!-~]+")
_INFERENCE: frozenset[Access] = frozenset({"open", "infer"})


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class Gatekeeper:
    """Decides from the credentials alone, before a body is read. Only hashes of the keys are held."""

    def __init__(self, auth: Auth) -> None:
        """Raises ValidationFailed naming the setting with a key that no client can send."""
        for setting, keys in (("management_keys", auth.management_keys), ("inference_keys", auth.inference_keys)):
            if not all(_SENDABLE.fullmatch(key) for key in keys):
                reason = "a key is one or more printable ASCII characters without spaces: a header carries no others"
                raise ValidationFailed.of([FieldError(f"auth.{setting}", reason)])
        self._management = [_digest(key) for key in auth.management_keys]
        self._inference = [_digest(key) for key in auth.inference_keys]

    @property
    def closed(self) -> bool:
        """Whether any key exists; without one every caller may do everything."""
        return bool(self._management or self._inference)

    def admit(self, access: Access, headers: Mapping[str, str], query: bytes) -> Caller:
        """The caller, or Unauthenticated (no or a wrong key) or Forbidden (a key that is not for this)."""
        if not self.closed or access == "open":
            return Caller()
        key = credential(headers, query)
        if key is None:
            raise Unauthenticated("a key is needed: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        digest = _digest(key)
        if _known(digest, self._management):
            return Caller("management", f"key {digest.hex()[:8]}")
        if _known(digest, self._inference):
            if access not in _INFERENCE:
                raise Forbidden("this is an inference key; managing and reading projects needs a management key")
            return Caller("inference", f"key {digest.hex()[:8]}")
        raise Unauthenticated(
            "this key is not known: check auth.management_keys and auth.inference_keys in the settings"
        )


def credential(headers: Mapping[str, str], query: bytes) -> str | None:
    """The key of a request: Authorization, else X-API-Key, else ``?api_key=``; None without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if headers.get("x-api-key"):
        return headers["x-api-key"]
    if b"api_key=" in query:
        values = parse_qs(query.decode("latin-1")).get("api_key")
        return values[0] if values else None
    return None


def _known(digest: bytes, known: Iterable[bytes]) -> bool:
    # Every comparison runs, so that the time tells nothing about which key came close.
    return sum(hmac.compare_digest(digest, one) for one in known) > 0
