"""The users of the older API: passwords, and the tokens they are exchanged for."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from paddock.access import Issued, credential
from paddock.contracts.accounts import Login, Message, Token, TokenHeaders
from paddock.contracts.base import Context, hookimpl
from paddock.errors import PaddockError, ProviderUnavailable, RateLimited, Unauthenticated
from paddock.services.core import Core
from paddock.storage import Connection

ADMIN = "admin"
SECRET = "token-signing"  # noqa: S105  the name of the row
_WAITING = 8  # logins that may wait for their turn
_OURS = 160  # random bits of a password that we make


class Cost(NamedTuple):
    """What one check of a password takes."""

    rounds: int
    kibibytes: int


# OWASP's least cost of argon2id for a password that a person chose: some 30 ms and 19 MiB.
_PEOPLES = Cost(2, 19 * 1024)
# A password of `_OURS` random bits can't be guessed however fast a guess is: its hash must not cost a start anything.
_MACHINES = Cost(1, 8 * 1024)


class Accounts:
    """Implements `paddock.contracts.accounts` and tells the gatekeeper which tokens count.

    There is one user, ``admin``. The first start makes a password and prints it; the setting ``auth.admin_password`` sets
    another, which ends every token that was given out under the one before.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._tokens = core.keeper.tokens
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._first: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Tokens are accepted inside. A first password is made beside what is served; logins wait for it: see `ready`."""
        await self._load()
        try:
            yield
        finally:
            await self.ready()

    async def ready(self) -> None:
        """Until a first password was made and printed, if there is one to make."""
        if self._first is not None:
            await asyncio.shield(self._first)

    async def _load(self) -> None:
        made, now = secrets.token_bytes(32), time.time()
        secret, epochs, revoked = await self._core.state.write(lambda db: _load(db, made, now))
        self._tokens.load(secret, epochs, revoked)
        wanted = self._core.settings.auth.admin_password
        if wanted:
            await self._follow_setting(wanted)
        elif ADMIN not in epochs:
            self._first = asyncio.create_task(self._make_first())

    async def _follow_setting(self, wanted: str) -> None:
        known, _ = await self._hashes(ADMIN)
        if known is not None and await asyncio.to_thread(_matches, known, wanted):
            return
        epoch = await self._set_password(await asyncio.to_thread(_hashed, wanted, _PEOPLES))
        self._core.log.event("admin_password_set", user=ADMIN, revoked_tokens_before_epoch=epoch)

    async def _make_first(self) -> None:
        password = secrets.token_urlsafe(_OURS // 8)
        hashed = await asyncio.to_thread(_hashed, password, _MACHINES)
        if self._core.stopping.is_set():
            return  # the next start makes one
        # Told before it counts: a server that is killed in between makes another, and none is ever stored untold.
        # The only time that it is shown, so that it must not be lost to a quieter log.
        self._core.log.event(
            "admin_password", "warning", user=ADMIN, password=password,
            hint="shown this once; for the older API under /api; PADDOCK_AUTH__ADMIN_PASSWORD sets another",
        )  # fmt: skip
        try:
            await self._set_password(hashed)
        except PaddockError as error:
            self._core.log.event("admin_password_not_made", "error", error=error.message)

    async def _set_password(self, hashed: str) -> int:
        now = time.time()
        epoch = await self._core.state.write(lambda db: _store_password(db, ADMIN, hashed, now))
        self._tokens.raise_epoch(ADMIN, epoch)
        return epoch

    async def _hashes(self, user: str) -> tuple[str | None, str | None]:
        """The user's and the admin's; None for one that is not known."""

        def read(db: Connection) -> list[Any]:
            return [db.execute("SELECT password FROM users WHERE name = ?", (name,)).get for name in (user, ADMIN)]

        mine, admins = await self._core.state.read(read)
        return mine, admins

    @hookimpl
    async def auth_login(self, ctx: Context, data: Login) -> Token:
        await self.ready()
        # An unknown user's password is held against the admin's, so that both take the same time.
        known, admins = await self._hashes(data.username)
        against = known or admins
        if against is None:
            raise ProviderUnavailable("no password could be made at the start: see the log")
        good = await self._in_turn(against, data.password)
        if known is None or not good:
            # The name only where it is one: people type their password into the wrong field.
            self._core.log.event("login_failed", "warning", user=data.username if known else "unknown")
            raise Unauthenticated("the username or the password is wrong")
        self._core.log.event("login", user=data.username)
        return self._issue(data.username)

    async def _in_turn(self, hashed: str, password: str) -> bool:
        """Check one password at a time: each costs memory, which a crowd of guesses must not multiply."""
        if self._waiting >= _WAITING:
            raise RateLimited("too many logins at once: try again in a moment", 1)
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(_matches, hashed, password)
        finally:
            self._waiting -= 1

    @hookimpl
    async def auth_refresh(self, ctx: Context, params: TokenHeaders) -> Token:
        return self._issue(self._presented(ctx).user)

    @hookimpl
    async def auth_logout(self, ctx: Context, params: TokenHeaders) -> Message:
        found = self._presented(ctx)
        await self._core.state.write(
            lambda db: db.execute(
                "INSERT OR IGNORE INTO revoked_tokens (id, expires) VALUES (?, ?)", (found.id, found.expires)
            )
        )
        self._tokens.revoke(found)
        ended = self._core.keeper.end(found.id)
        self._core.log.event("logout", user=found.user, ended=ended)
        return Message(message="Logged out")

    def _presented(self, ctx: Context) -> Issued:
        token = credential(ctx.headers, b"")
        if token is None:
            raise Unauthenticated("a token is needed: send it as 'Authorization: Bearer TOKEN'")
        return self._tokens.check(token)

    def _issue(self, user: str) -> Token:
        found = self._tokens.issue(user, self._core.settings.auth.token_ttl)
        expires = datetime.fromtimestamp(found.expires, UTC).isoformat().replace("+00:00", "Z")
        return Token(token=found.token, expires_at=expires)


def _hashed(password: str, cost: Cost) -> str:
    from argon2 import PasswordHasher  # noqa: PLC0415  only where a password is made or checked

    hasher = PasswordHasher(time_cost=cost.rounds, memory_cost=cost.kibibytes, parallelism=1)
    return hasher.hash(password.encode("utf-8", "surrogatepass"))


def _matches(hashed: str, password: str) -> bool:
    from argon2 import PasswordHasher  # noqa: PLC0415  as above
    from argon2.exceptions import Argon2Error, InvalidHashError  # noqa: PLC0415  as above

    try:
        return PasswordHasher().verify(hashed, password.encode("utf-8", "surrogatepass"))
    except (Argon2Error, InvalidHashError):
        return False


def _load(db: Connection, made: bytes, now: float) -> tuple[bytes, dict[str, int], dict[str, float]]:
    """The signing secret (`made` at the first start), the users' epochs, and the revoked tokens that would still count."""
    db.execute("INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)", (SECRET, made))
    db.execute("DELETE FROM revoked_tokens WHERE expires <= ?", (now,))
    secret = db.execute("SELECT value FROM secrets WHERE name = ?", (SECRET,)).get
    users: list[Any] = db.execute("SELECT name, epoch FROM users").fetchall()
    revoked: list[Any] = db.execute("SELECT id, expires FROM revoked_tokens").fetchall()
    return secret, dict(users), dict(revoked)


def _store_password(db: Connection, user: str, hashed: str, now: float) -> int:
    db.execute(
        "INSERT INTO users (name, password, epoch, created) VALUES (?, ?, 0, ?) "
        "ON CONFLICT (name) DO UPDATE SET password = excluded.password, epoch = epoch + 1",
        (user, hashed, now),
    )
    return int(db.execute("SELECT epoch FROM users WHERE name = ?", (user,)).get)
