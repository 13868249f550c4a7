"""Websockets whose client can't set headers: the credential as a subprotocol, or in the first message."""

from __future__ import annotations

import asyncio
from typing import Any

from paddock.access import Gatekeeper, credential, first_message_token, offered_token
from paddock.contracts.base import Caller, Endpoint
from paddock.errors import Unauthenticated
from paddock.proxying import WebSocketSession

FIRST_MESSAGE = 5.0  # seconds that a client has to say who it is


async def late_caller(
    keeper: Gatekeeper, endpoint: Endpoint, scope: Any, session: WebSocketSession, patience: float = FIRST_MESSAGE
) -> tuple[Caller | None, str | None]:
    """Who opens a websocket whose contract takes a late credential (None when its headers decide), and the subprotocol to
    accept.

    A client without a credential is accepted, and has `patience` seconds to send one. Raises as `Gatekeeper.check`.
    """
    if not endpoint.late_credential:
        return None, None
    headers = scope["paddock.headers"]
    token, protocol = offered_token(headers)
    if not keeper.closed or credential(headers, b"") is not None:
        return None, protocol
    if token is not None:
        return keeper.check(endpoint, token, scope["path_params"]), protocol
    await session.accept(protocol)
    token = await _first_token(session, patience)
    if token is None:
        raise Unauthenticated(
            f'a key is needed: send {{"type": "auth", "token": "…"}} first, within {patience:g} seconds'
        )
    return keeper.check(endpoint, token, scope["path_params"]), protocol


async def _first_token(session: WebSocketSession, patience: float) -> str | None:
    try:
        async with asyncio.timeout(patience):
            return first_message_token(await session.receive())
    except TimeoutError:
        return None
