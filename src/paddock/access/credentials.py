"""Where a request carries its credential."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

import msgspec

_OFFER = "bearer."


def credential(headers: Mapping[str, str], query: bytes) -> str | None:
    """The key or token of a request: Authorization, else X-API-Key, else ``?api_key=``; None without one."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if headers.get("x-api-key"):
        return headers["x-api-key"]
    if b"api_key=" in query:
        values = parse_qs(query.decode("latin-1")).get("api_key")
        return values[0] if values else None
    return None


def offered_token(headers: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The token that a websocket offers as the subprotocol ``bearer.TOKEN``, and the subprotocol to answer with.

    A browser drops a connection whose offers nobody takes, so one is taken: the first that is no token, else the token's.
    """
    offers = [one.strip() for one in headers.get("sec-websocket-protocol", "").split(",") if one.strip()]
    tokens = [one for one in offers if one.startswith(_OFFER) and one != _OFFER]
    others = [one for one in offers if not one.startswith(_OFFER)]
    taken = next(iter(others), None) or next(iter(tokens), None)
    return (tokens[0].removeprefix(_OFFER) if tokens else None), taken


class _AuthMessage(msgspec.Struct, tag="auth", tag_field="type"):
    token: str


def first_message_token(message: str | bytes | None) -> str | None:
    """The token of a websocket's first message, ``{"type": "auth", "token": …}``; None for any other."""
    if message is None:
        return None
    try:
        return msgspec.json.decode(message, type=_AuthMessage).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
