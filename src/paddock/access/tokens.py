"""Tokens of the older API's users: signed, checked in memory, revoked one by one or all of a user at once."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from paddock.contracts.base import Caller
from paddock.errors import ProviderUnavailable, Unauthenticated

ISSUER = "paddock"
_SHAPE = re.compile(r"eyJ[\w-]{1,4000}\.[\w-]{1,4000}\.[\w-]{0,4000}", re.ASCII)
_NEEDED = ["sub", "jti", "iat", "exp", "iss", "epoch"]


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was given out, or accepted: its user, id and end in seconds since 1970."""

    user: str
    id: str
    expires: int
    token: str = ""


class Tokens:
    """Signs and checks JWTs (HS256). Nothing is accepted before `load`."""

    def __init__(self) -> None:
        self._secret = b""
        self._epochs: dict[str, int] = {}
        self._revoked: dict[str, float] = {}

    def load(self, secret: bytes, epochs: Mapping[str, int], revoked: Mapping[str, float]) -> None:
        """Take over what the state holds: the signing secret, each user's epoch, the revoked ids with their ends."""
        self._secret = secret
        self._epochs = dict(epochs)
        self._revoked = dict(revoked)

    def raise_epoch(self, user: str, epoch: int) -> None:
        """From now on a user's tokens of earlier epochs are no longer accepted."""
        self._epochs[user] = epoch

    def issue(self, user: str, lifetime: float) -> Issued:
        """Make a token for a user who is known. `lifetime` in seconds."""
        import jwt  # noqa: PLC0415  most servers never see a token

        if not self._secret:
            raise ProviderUnavailable("tokens can't be given out before the server has started: try again")
        now = int(time.time())
        found = Issued(user=user, id=secrets.token_hex(16), expires=now + max(1, int(lifetime)))
        claims: dict[str, Any] = {"sub": user, "jti": found.id, "iat": now, "exp": found.expires, "iss": ISSUER}
        token = jwt.encode({**claims, "epoch": self._epochs[user]}, self._secret, algorithm="HS256")
        return msgspec.structs.replace(found, token=token)

    def check(self, token: str) -> Issued:
        """What a token says. Raises Unauthenticated for one that is not ours, changed, expired or revoked."""
        refused = Unauthenticated("this token is not valid, or has expired: log in again with POST /api/auth/login")
        if not self._secret or not _SHAPE.fullmatch(token):
            raise refused
        import jwt  # noqa: PLC0415  most servers never see a token

        try:
            claims = jwt.decode(token, self._secret, algorithms=["HS256"], issuer=ISSUER, options={"require": _NEEDED})
        except (jwt.PyJWTError, RecursionError) as error:
            raise refused from error
        found = Issued(user=claims["sub"], id=str(claims["jti"]), expires=int(claims["exp"]))
        if claims["epoch"] != self._epochs.get(found.user) or found.id in self._revoked:
            raise refused
        return found

    def find(self, token: str) -> Caller | None:
        """Who presents this token; None when it is not accepted."""
        try:
            found = self.check(token)
        except Unauthenticated:
            return None
        return Caller("user", f"user {found.user}", found.id, None, float(found.expires))

    def revoke(self, found: Issued) -> None:
        """Accept this one token no longer; those that expired meanwhile are forgotten."""
        now = time.time()
        self._revoked = {one: end for one, end in self._revoked.items() if end > now}
        self._revoked[found.id] = float(found.expires)

    def revoked(self, token_id: str) -> bool:
        """Whether a token was revoked."""
        return token_id in self._revoked
