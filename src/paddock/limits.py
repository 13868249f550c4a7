"""Rate limits of the older API: how many requests a minute each key, user or address may send to ``/api`` without ``/v1``."""

from __future__ import annotations

import ipaddress
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from paddock.access import Gatekeeper, credential
from paddock.errors import RateLimited
from paddock.settings import RateLimit

MINUTE = 60.0
MOST = 10_000  # callers that are counted at once
_CHEAP = frozenset({"GET", "HEAD", "OPTIONS"})
_CHEAP_CALLS = frozenset({"/api/auth/refresh", "/api/auth/logout"})
_SLASHES = re.compile(r"/{2,}")


class Verdict(msgspec.Struct, frozen=True):
    """What the limit says to one request: the headers of its reply, and the refusal if it is one too many."""

    headers: list[tuple[bytes, bytes]]
    refusal: RateLimited | None = None


class Windows:
    """Counts by caller in windows of a minute that begin with a caller's first request. Bounded: the caller who began
    first is forgotten for a new one."""

    def __init__(self, limit: int, now: Callable[[], float] = time.time) -> None:
        self.limit = limit
        self._now = now
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def take(self, who: str) -> tuple[bool, int, float]:
        """Count a request: whether it is within the limit, how many are left, and when the window ends."""
        now = self._now()
        end, count = self._windows.get(who, (0.0, 0))
        if not now < end <= now + MINUTE:  # over, or the clock was set back
            self._windows.pop(who, None)
            self._make_room(now)
            end, count = now + MINUTE, 0
        allowed = count < self.limit
        self._windows[who] = (end, count + allowed)
        return allowed, self.limit - count - allowed, end

    def _make_room(self, now: float) -> None:
        while self._windows and (len(self._windows) >= MOST or next(iter(self._windows.values()))[0] <= now):
            self._windows.popitem(last=False)

    def __len__(self) -> int:
        return len(self._windows)


class RateLimits:
    """Judges every request to ``/api`` without ``/v1``; websockets are not counted."""

    def __init__(self, settings: RateLimit, keeper: Gatekeeper, now: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._all = Windows(settings.requests_per_minute, now)
        self._expensive = Windows(settings.expensive_per_minute, now)
        self._now = now

    def judge(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Verdict | None:
        """Count a request; None where there is no limit. The headers tell of the limit that is nearest."""
        if scope["type"] != "http" or not scope["path"].startswith(("/api", "//")):
            return None
        path = _SLASHES.sub("/", scope["path"]).rstrip("/")
        if not f"{path}/".startswith("/api/") or f"{path}/".startswith("/api/v1/"):
            return None
        who = self.identity(scope, headers)
        expensive = scope["method"] not in _CHEAP and path not in _CHEAP_CALLS
        return self._verdict(who, [self._expensive, self._all] if expensive else [self._all])

    def identity(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> str:
        """Who is counted: a key or user that is admitted, else the address. A credential that is made up counts for nothing,
        else every guess would have a limit of its own."""
        key = credential(headers, scope["query_string"])
        caller = self._keeper.identify(key) if key else None
        if caller is None:
            return f"address {network((scope.get('client') or ('',))[0])}"
        return caller.label if caller.kind == "user" else f"{caller.label} {caller.key_id}"

    def _verdict(self, who: str, windows: list[Windows]) -> Verdict | None:
        shown: tuple[bool, int, float] | None = None
        limit = 0
        for window in windows:
            if not window.limit:
                continue
            taken = window.take(who)
            if shown is None or not taken[0] or taken[1] < shown[1]:
                shown, limit = taken, window.limit
            if not taken[0]:
                break
        if shown is None:
            return None
        allowed, left, end = shown
        headers = [
            (b"x-ratelimit-limit", b"%d" % limit),
            (b"x-ratelimit-remaining", b"%d" % left),
            (b"x-ratelimit-reset", b"%d" % math.ceil(end)),
        ]
        if allowed:
            return Verdict(headers)
        wait = max(1, math.ceil(end - self._now()))
        text = (
            f"at most {limit} such requests a minute: try again in {wait} seconds, or raise rate_limit in the settings"
        )
        return Verdict(headers, RateLimited(text, wait))


def network(address: str) -> str:
    """What one client has: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
