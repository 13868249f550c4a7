"""The keys: those of the settings and those of the state database, as digests in memory."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterable
from typing import Literal

import msgspec

from paddock.contracts.base import Caller, Scope
from paddock.errors import FieldError, ValidationFailed
from paddock.settings import Auth

Kind = Literal["management", "inference"]
_SENDABLE = re.compile(r"[!-~]+")
_START = 8  # bytes of a digest that find its neighbours; what they tell an attacker is not what a key is made of


def digest_of(key: str) -> bytes:
    """SHA-256: a key has 256 random bits, which nobody finds by trying, so no slow hash is needed."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. Times in seconds since 1970; `scope` is None for a management key."""

    id: str
    digest: bytes
    prefix: str
    name: str
    kind: Kind
    scope: Scope | None = None
    created: float | None = None
    expires: float | None = None
    revoked: float | None = None

    def caller(self) -> Caller:
        """Who presents this key."""
        stored = None if self.created is None else self.id
        return Caller(self.kind, f"key {self.prefix}", stored, self.scope, self.expires)

    def stands(self) -> bool:
        """Whether the key admits now."""
        return self.revoked is None and (self.expires is None or self.expires > time.time())


class KeyRing:
    """Finds keys by their digest. Keys of the settings are there from the start; rows are added."""

    def __init__(self, auth: Auth) -> None:
        """Raises ValidationFailed naming the setting with a key that no client can send."""
        self.of_settings = [
            *_of_settings("management", auth.management_keys),
            *_of_settings("inference", auth.inference_keys),
        ]
        self._rows: dict[str, StoredKey] = {}
        self._near: dict[bytes, list[tuple[StoredKey, Caller]]] = {}
        for key in self.of_settings:
            self._file(key)

    @property
    def closed(self) -> bool:
        """Whether any key exists or ever did: a server does not open itself because its last key expired."""
        return bool(self.of_settings or self._rows)

    def add(self, key: StoredKey) -> None:
        """Let a stored key, or what became of it, count from now on."""
        known = key.id in self._rows
        self._rows[key.id] = key
        if known:
            near = self._near[key.digest[:_START]]
            near[:] = [one for one in near if one[0].id != key.id]
        self._file(key)

    def _file(self, key: StoredKey) -> None:
        self._near.setdefault(key.digest[:_START], []).append((key, key.caller()))

    def find(self, key: str) -> Caller | None:
        """Who presents this key; None when it is unknown, revoked or expired."""
        digest = digest_of(key)
        found: Caller | None = None
        for one, caller in self._near.get(digest[:_START], ()):
            if hmac.compare_digest(digest, one.digest) and one.stands():
                found = caller
        return found

    def stands(self, key_id: str) -> bool | None:
        """Whether a stored key still admits; None when no key has the id."""
        key = self._rows.get(key_id)
        return None if key is None else key.stands()

    def managed(self, without: str | None = None) -> bool:
        """Whether a management key admits, besides the one with the id `without`."""
        keys: Iterable[StoredKey] = (*self.of_settings, *self._rows.values())
        return any(key.kind == "management" and key.id != without and key.stands() for key in keys)


def _of_settings(kind: Kind, keys: Iterable[str]) -> list[StoredKey]:
    found = []
    for number, key in enumerate(keys):
        if not _SENDABLE.fullmatch(key):
            reason = "a key is one or more printable ASCII characters without spaces: a header carries no others"
            raise ValidationFailed.of([FieldError(f"auth.{kind}_keys", reason)])
        digest = digest_of(key)
        label = digest.hex()[:8]  # the key itself may be short: not even its beginning is shown
        name, scope = f"auth.{kind}_keys[{number}]", Scope() if kind == "inference" else None
        found.append(StoredKey(id=f"settings-{label}", digest=digest, prefix=label, name=name, kind=kind, scope=scope))
    return found
