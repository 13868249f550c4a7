"""The keys endpoints: made, listed and revoked. Only digests are stored."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from typing import Any, get_args

import msgspec

from paddock.access import StoredKey, digest_of
from paddock.contracts.base import Context, Scope, hookimpl
from paddock.contracts.keys import KeyCreate, KeyInfo, KeyPath, KeyScopes, NewKey, Verb
from paddock.errors import BadRequest, KeyNotFound
from paddock.services.core import Core
from paddock.storage import Connection

SHOWN = 11  # characters of a key that stay visible: "pk-" and 48 of its 256 bits
_PROJECT = re.compile(r"[A-Za-z0-9._-]{1,64}/(?:\*|[A-Za-z0-9._-]{1,64})")
_MOST = 1000  # entries of one list
_COLUMNS = "id, digest, prefix, name, kind, scope, created, expires, revoked"


class Keys:
    """Implements `paddock.contracts.keys` and keeps the gatekeeper's ring level with the rows."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._keeper = core.keeper
        self._changing = asyncio.Lock()  # so that whether somebody can still manage is decided one after the other

    async def start(self) -> None:
        """Let the stored keys count."""
        for key in await self._rows():
            self._keeper.keys.add(key)

    async def _rows(self) -> list[StoredKey]:
        def read(db: Connection) -> list[Any]:
            return db.execute(f"SELECT {_COLUMNS} FROM keys ORDER BY created, id").fetchall()  # noqa: S608  constants

        return [_stored(row) for row in await self._core.state.read(read)]

    @hookimpl
    async def key_create(self, ctx: Context, data: KeyCreate) -> NewKey:
        _check(data)
        secret = f"pk-{secrets.token_urlsafe(32)}"
        key = StoredKey(
            id=f"key_{secrets.token_hex(6)}",
            digest=digest_of(secret),
            prefix=secret[:SHOWN],
            name=data.name,
            kind=data.kind,
            scope=_scope(data),
            created=time.time(),
            expires=data.expires_at,
        )
        async with self._changing:
            if key.kind != "management" and not self._keeper.keys.managed():
                raise BadRequest(
                    "no management key exists: with this key alone nobody could manage the server any more. Make a key of "
                    "kind management first (`paddock keys create NAME --management`), or set auth.management_keys"
                )
            await self._core.state.write(lambda db: _insert(db, key))
            self._keeper.keys.add(key)
        self._note("key_created", ctx, key)
        return NewKey(**msgspec.structs.asdict(shown(key)), key=secret)

    @hookimpl
    async def key_list(self, ctx: Context) -> list[KeyInfo]:
        return [shown(key) for key in (*self._keeper.keys.of_settings, *await self._rows())]

    @hookimpl
    async def key_get(self, ctx: Context, params: KeyPath) -> KeyInfo:
        return shown(await self._find(params.key_id))

    @hookimpl
    async def key_revoke(self, ctx: Context, params: KeyPath) -> None:
        async with self._changing:
            key = await self._find(params.key_id)
            if key.created is None:
                raise BadRequest(f"{key.name} stands in the settings: take it out there and restart")
            if key.revoked is not None:
                raise KeyNotFound(f"key {key.id} was revoked already")
            if key.kind == "management" and key.stands() and not self._keeper.keys.managed(without=key.id):
                raise BadRequest(
                    "this is the last management key: make another first, or nobody could manage the server"
                )
            key = msgspec.structs.replace(key, revoked=time.time())
            await self._core.state.write(lambda db: _revoke(db, key))
            self._keeper.keys.add(key)
        ended = self._keeper.end(key.id)
        self._note("key_revoked", ctx, key, ended=ended)

    async def _find(self, key_id: str) -> StoredKey:
        known = (*self._keeper.keys.of_settings, *await self._rows())
        found = next((key for key in known if key.id == key_id), None)
        if found is None:
            raise KeyNotFound("no key has this id: GET /api/v1/auth/keys lists them")
        return found

    def _note(self, event: str, ctx: Context, key: StoredKey, **more: object) -> None:
        fields = {"key_id": key.id, "kind": key.kind, "prefix": key.prefix, "name": key.name, "by": ctx.caller.label}
        self._core.log.event(event, "info", **fields, **more)


def _check(data: KeyCreate) -> None:
    """Raises BadRequest naming the field that does not fit the others."""
    if data.expires_at is not None and data.expires_at <= time.time():
        raise BadRequest("expires_at lies in the past: give seconds since 1970 in the future, or leave it out")
    if data.permission_mode is not None and data.scopes is not None:
        raise BadRequest("permission_mode and scopes say the same in two ways: give one of them")
    if data.permission_mode != "per_instance" and data.instance_ids:
        raise BadRequest("instance_ids count with permission_mode per_instance only")
    limited = data.scopes is not None or data.permission_mode == "per_instance"
    if data.kind == "management" and limited:
        raise BadRequest("a management key may do everything: leave the limits out, or make an inference key")


def _scope(data: KeyCreate) -> Scope | None:
    if data.kind == "management":
        return None
    if data.permission_mode == "per_instance":
        return Scope(models=_instances(data.instance_ids or []))
    given = data.scopes or KeyScopes()
    if not given.verbs:
        raise BadRequest(
            f"scopes.verbs: a key that may do nothing is of no use; the verbs are {', '.join(get_args(Verb))}"
        )
    for project in _entries("projects", given.projects):
        if not _PROJECT.fullmatch(project):
            raise BadRequest(f"scopes.projects: {project[:140]!r} is neither NAMESPACE/PROJECT nor NAMESPACE/*")
    for model in _entries("models", given.models):
        if not 1 <= len(model) <= 500 or "*" in model[:-1]:
            raise BadRequest(f"scopes.models: {model[:140]!r} is neither a model's name nor the beginning of one and *")
    return Scope(
        verbs=frozenset(given.verbs),
        projects=None if given.projects is None else tuple(given.projects),
        models=None if given.models is None else tuple(given.models),
    )


def _entries(field: str, given: list[str] | None) -> list[str]:
    if given is not None and not 1 <= len(given) <= _MOST:
        raise BadRequest(f"scopes.{field}: name 1 to {_MOST}, or leave it out for no limit")
    return given or []


def _instances(names: list[Any]) -> tuple[str, ...]:
    """llamactl's limit to instances as model names: an instance's own, and those of the models inside it."""
    if not 1 <= len(names) <= _MOST or not all(isinstance(name, str) and name and "*" not in name for name in names):
        raise BadRequest("instance_ids: give the names of one or more instances")
    return tuple(one for name in names for one in (name, f"{name}/*"))


def shown(key: StoredKey) -> KeyInfo:
    """A key as replies show it."""
    scope = key.scope
    scopes = None
    if scope is not None:
        verbs: list[Verb] = [verb for verb in get_args(Verb) if verb in scope.verbs]
        projects, models = (None if one is None else list(one) for one in (scope.projects, scope.models))
        scopes = KeyScopes(verbs=verbs, projects=projects, models=models)
    return KeyInfo(
        id=key.id, name=key.name, kind=key.kind, prefix=key.prefix, scopes=scopes,
        source="settings" if key.created is None else "api",
        created_at=_whole(key.created), expires_at=_whole(key.expires), revoked_at=_whole(key.revoked),
    )  # fmt: skip


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _insert(db: Connection, key: StoredKey) -> None:
    scope = None if key.scope is None else msgspec.json.encode(key.scope)
    values = (key.id, key.digest, key.prefix, key.name, key.kind, scope, key.created, key.expires, key.revoked)
    db.execute(f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)  # noqa: S608  constants


def _revoke(db: Connection, key: StoredKey) -> None:
    db.execute("UPDATE keys SET revoked = ? WHERE id = ?", (key.revoked, key.id))


def _stored(row: Any) -> StoredKey:
    key_id, digest, prefix, name, kind, scope, created, expires, revoked = row
    return StoredKey(
        id=key_id, digest=digest, prefix=prefix, name=name, kind=kind, created=created, expires=expires, revoked=revoked,
        scope=None if scope is None else msgspec.json.decode(scope, type=Scope),
    )  # fmt: skip
