"""Users and their tokens, for llamactl's older API under ``/api``."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

import msgspec

from paddock.contracts.base import Context, In, endpoint
from paddock.errors import Unauthenticated


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user's name and password."""

    username: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    password: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A JWT, and when it expires as RFC 3339."""

    token: str
    expires_at: str


class TokenHeaders(msgspec.Struct, frozen=True, kw_only=True):
    """The token that is presented."""

    authorization: Annotated[str, In("Authorization")] = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What was done, as a sentence."""

    message: str


@endpoint("POST", "/api/auth/login", access="open", api="llamactl-old", body_limit=16_384, raises=(Unauthenticated,))
def auth_login(ctx: Context, data: Login) -> Awaitable[Token]:
    """Check a password and give out a token. Every check takes the same time, known user or not."""


@endpoint("POST", "/api/auth/refresh", access="open", api="llamactl-old", raises=(Unauthenticated,))
def auth_refresh(ctx: Context, params: TokenHeaders) -> Awaitable[Token]:
    """Give out a new token for one that is still valid; the old one counts until its own end, or a logout with it."""


@endpoint("POST", "/api/auth/logout", access="open", api="llamactl-old", raises=(Unauthenticated,))
def auth_logout(ctx: Context, params: TokenHeaders) -> Awaitable[Message]:
    """Revoke the token that is presented: it stops at once."""
