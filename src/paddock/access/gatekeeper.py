"""The decision: a credential and an endpoint, admitted or refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from paddock.access.credentials import credential
from paddock.access.holdings import Holdings
from paddock.access.ring import KeyRing
from paddock.access.tokens import Tokens
from paddock.contracts.base import Caller, Endpoint, Scope
from paddock.errors import Forbidden, ProjectNotFound, Unauthenticated
from paddock.settings import Auth

NEEDED = "a key is needed: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
OVER = "this key or token was revoked or has expired: ask for another"


class Gatekeeper:
    """Decides from the credentials alone, before a body is read. Only hashes of the keys are held."""

    def __init__(self, auth: Auth) -> None:
        """Raises ValidationFailed naming the setting with a key that no client can send."""
        self.keys = KeyRing(auth)
        self.tokens = Tokens()
        self._holdings = Holdings(self.stands)

    @property
    def closed(self) -> bool:
        """Whether any key exists; without one every caller may do everything."""
        return self.keys.closed

    def identify(self, key: str) -> Caller | None:
        """Who presents this key or token; None when it is unknown, revoked or expired."""
        return self.keys.find(key) or self.tokens.find(key)

    def admit(self, endpoint: Endpoint, headers: Mapping[str, str], query: bytes, names: Mapping[str, Any]) -> Caller:
        """The caller; `names` are the parameters of the path.

        Raises Unauthenticated (no or a wrong key), Forbidden (a key that is not for this), ProjectNotFound (a key to which
        other projects do not exist).
        """
        if not self.closed or endpoint.access == "open":
            return Caller()
        # What stands in a query gets into other people's logs: a way for clients that can't do better, and a websocket's can.
        key = credential(headers, b"" if endpoint.late_credential else query)
        if key is None:
            raise Unauthenticated(NEEDED)
        return self.check(endpoint, key, names)

    def check(self, endpoint: Endpoint, key: str, names: Mapping[str, Any]) -> Caller:
        """The caller who presents this key or token. Raises as `admit`."""
        caller = self.identify(key)
        if caller is None:
            raise Unauthenticated(
                "this key or token is not known, was revoked or has expired: `paddock keys list` shows them"
            )
        if caller.scope is not None:
            _limit(caller.scope, caller, endpoint, names)
        return caller

    def stands(self, caller: Caller) -> bool:
        """Whether the credential that a caller was admitted with still admits."""
        if caller.key_id is None:
            return True
        found = self.keys.stands(caller.key_id)
        if found is not None:
            return found
        return not self.tokens.revoked(caller.key_id) and (caller.expires is None or caller.expires > time.time())

    def holding(self, caller: Caller, task: asyncio.Future[Any]) -> AbstractContextManager[None]:
        """Cancel `task` when the caller's credential ends; see `Holdings.holding`."""
        return self._holdings.holding(caller, task)

    def running(self, key_id: str) -> int:
        """How much runs under a key or token."""
        return self._holdings.running(key_id)

    def end(self, key_id: str) -> int:
        """End what runs under a key or token that admits no longer; returns how much that was."""
        return self._holdings.end(key_id)


def _limit(scope: Scope, caller: Caller, endpoint: Endpoint, names: Mapping[str, Any]) -> None:
    if endpoint.access not in scope.verbs:
        known = ", ".join(sorted(scope.verbs))
        # No scope can hold manage: such a key could make itself a management key.
        others = "" if endpoint.access == "manage" else f", or one whose scope has {endpoint.access}"
        raise Forbidden(f"this key may {known}; this needs a management key{others}")
    if "{project}" in endpoint.path:
        if not caller.may_enter(names["namespace"], names["project"]):
            raise ProjectNotFound.of(names["namespace"], names["project"])
        return
    if endpoint.access == "infer":
        if scope.projects is not None and scope.models is None:
            raise Forbidden(
                "this key is for the chat of its projects; models by name need a key with a scope of models"
            )
        return
    # The projects of a namespace: the service shows and makes those only that the caller may enter.
    if "{namespace}" in endpoint.path and scope.projects is not None:
        return
    if scope.projects is not None or scope.models is not None:
        raise Forbidden(
            "this key is limited to projects or models; this needs a management key, or one without such limits"
        )
