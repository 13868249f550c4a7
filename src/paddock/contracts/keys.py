"""Keys: made, listed and revoked through the API. A key is shown once; only its hash is stored."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Json, endpoint
from paddock.errors import BadRequest, KeyNotFound, ValidationFailed

KeyKind = Literal["management", "inference"]
Verb = Literal["read", "write", "infer"]
KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class KeyPath(msgspec.Struct, frozen=True, kw_only=True):
    """A key's id."""

    key_id: str


class KeyScopes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an inference key may do. `verbs` default to infer alone. `projects` (``namespace/project`` or ``namespace/*``) and
    `models` (names, or beginnings with ``*`` behind them): null is no limit; when only one of them is given, the key can't use
    the other kind at all."""

    verbs: list[Verb] = msgspec.field(default_factory=lambda: ["infer"])
    projects: list[str] | None = None
    models: list[str] | None = None


class KeyCreate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to make. `expires_at` in seconds since 1970, in the future. `permission_mode` and `instance_ids` are llamactl's
    way to limit a key to instances, which `scopes.models` does by name: ``per_instance`` with the names of the instances."""

    name: KeyName
    kind: KeyKind = "inference"
    scopes: KeyScopes | None = None
    expires_at: float | None = None
    permission_mode: Literal["allow_all", "per_instance"] | None = None
    instance_ids: list[Json] | None = None


class KeyInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret; `prefix` is its visible beginning. Times in seconds since 1970. `source` tells keys of the
    settings, which can't be revoked here, from those of the API."""

    id: str
    name: str
    kind: KeyKind
    prefix: str
    scopes: KeyScopes | None
    source: Literal["api", "settings"]
    created_at: int | None
    expires_at: int | None
    revoked_at: int | None


class NewKey(KeyInfo, frozen=True, kw_only=True):
    """A key that was just made: the only time that `key` is shown."""

    key: str


@endpoint(
    "POST", "/api/v1/auth/keys", access="manage", api="llamactl", status=201, raises=(BadRequest, ValidationFailed)
)
def key_create(ctx: Context, data: KeyCreate) -> Awaitable[NewKey]:
    """Make a key and show it once. From then on every caller needs one, on the loopback too; so the first must be a management
    key: 400 for another while none admits."""


@endpoint("GET", "/api/v1/auth/keys", access="manage", api="llamactl")
def key_list(ctx: Context) -> Awaitable[list[KeyInfo]]:
    """List the keys, revoked and expired ones and those of the settings included."""


@endpoint("GET", "/api/v1/auth/keys/{key_id}", access="manage", api="llamactl", raises=(KeyNotFound,))
def key_get(ctx: Context, params: KeyPath) -> Awaitable[KeyInfo]:
    """Return one key."""


@endpoint(
    "DELETE",
    "/api/v1/auth/keys/{key_id}",
    access="manage",
    api="llamactl",
    status=204,
    raises=(KeyNotFound, BadRequest),
)
def key_revoke(ctx: Context, params: KeyPath) -> Awaitable[None]:
    """Revoke one key: it stops at once, on open streams and websockets too. 400 for a key of the settings and for the last
    management key, 404 for one that was revoked before."""
