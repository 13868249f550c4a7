"""Who may run: a limit on running instances, groups of which one runs at a time, a queue, eviction of idle ones.

Everything here is decided at once, without waiting, so that no two instances take the last place. A holder has its place
from the moment its start is decided until its process is reaped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec


class Holder(Protocol):
    """An instance as the slots see it."""

    @property
    def groups(self) -> frozenset[str]:
        """The groups that it is in."""

    @property
    def busy(self) -> bool:
        """Whether a request is in flight or waits for it."""

    @property
    def evictable(self) -> bool:
        """Whether it may ever make room for others."""

    @property
    def leaving(self) -> bool:
        """Whether it is on its way down."""

    @property
    def used_at(self) -> float:
        """When it was used last, on the monotonic clock."""

    def evict(self) -> None:
        """Begin to go once no request is in flight."""

    def granted(self) -> None:
        """It has a place."""


class Claim(msgspec.Struct, frozen=True):
    """Somebody who waits for a place, and since when."""

    holder: Holder
    since: float


class Slots:
    """The places. `limit` below zero: as many as like; `eviction`: whether idle ones make room for others; a claim that waits
    `patience` seconds makes busy ones drain: they end what they do and take nothing new."""

    def __init__(self, limit: int, *, eviction: bool, patience: float) -> None:
        self._limit = limit
        self._eviction = eviction
        self.patience = patience
        self._holders: list[Holder] = []
        self._queue: list[Claim] = []
        self._told: dict[int, list[Callable[[], None]]] = {}

    def holds(self, one: Holder) -> bool:
        """Whether it has a place."""
        return one in self._holders

    def queued(self, one: Holder) -> bool:
        """Whether it waits for one."""
        return any(claim.holder is one for claim in self._queue)

    def take(self, one: Holder) -> bool:
        """Give it a place if there is one free now and nobody waits; nobody is evicted for it."""
        if self.holds(one):
            return True
        if self._rivals(one) or self._free() <= len(self._queue):
            return False
        self._withdraw(one)
        self._grant(one)
        return True

    def enter(self, one: Holder) -> None:
        """Wait for a place, behind those who wait already; idle ones are evicted for it."""
        if not self.holds(one) and not self.queued(one):
            self._queue.append(Claim(one, time.monotonic()))
            self.pump()

    def release(self, one: Holder) -> None:
        """It needs no place any more, or leaves the queue."""
        if self.holds(one):
            self._holders.remove(one)
            for tell in self._told.pop(id(one), ()):
                tell()
        self._withdraw(one)
        self.pump()

    def hopeless(self, one: Holder) -> bool:
        """Whether no waiting would help: those in the way never make room."""
        rivals = self._rivals(one)
        if any(not self._may_go(rival) for rival in rivals):
            return True
        return not rivals and self._free() < 1 and not any(self._may_yield(other) for other in self._holders)

    def evict_idle(self, besides: Holder, then: Callable[[], None]) -> Holder | None:
        """Make the one that was idle longest go; returns it, None when there is none. `then` is called when it is gone."""
        victims = self._idle()
        victim = next((other for other in victims if other is not besides), None)
        if victim is not None:
            self._told.setdefault(id(victim), []).append(then)
            victim.evict()
        return victim

    def pump(self) -> None:
        """Give places to those who can have one, in their order, and make room for the others."""
        passed = 0
        for claim in list(self._queue):
            rivals = self._rivals(claim.holder)
            if not rivals and self._free() > passed:
                self._withdraw(claim.holder)
                self._grant(claim.holder)
            else:
                self._make_room(claim, rivals, passed)
                passed += 1

    def _grant(self, one: Holder) -> None:
        self._holders.append(one)
        one.granted()

    def _withdraw(self, one: Holder) -> None:
        self._queue = [claim for claim in self._queue if claim.holder is not one]

    def _free(self) -> float:
        return float("inf") if self._limit < 0 else self._limit - len(self._holders)

    def _rivals(self, one: Holder) -> list[Holder]:
        """Those of its groups that have a place."""
        return [other for other in self._holders if other is not one and other.groups & one.groups]

    def _make_room(self, claim: Claim, rivals: list[Holder], passed: int) -> None:
        patient = time.monotonic() - claim.since < self.patience
        for rival in rivals:
            if not rival.leaving and rival.evictable and not (rival.busy and patient):
                rival.evict()
        missing = passed + 1 - self._free() - sum(other.leaving for other in self._holders)
        if missing <= 0 or not self._eviction:
            return
        victims = self._idle() if patient else [*self._idle(), *self._busy()]
        for victim in victims[: int(missing)]:
            victim.evict()

    def _may_go(self, other: Holder) -> bool:
        return other.leaving or other.evictable

    def _may_yield(self, other: Holder) -> bool:
        return other.leaving or (self._eviction and other.evictable)

    def _idle(self) -> list[Holder]:
        """Those that can go at once, the longest unused first."""
        return self._sorted(other for other in self._staying() if not other.busy)

    def _busy(self) -> list[Holder]:
        return self._sorted(other for other in self._staying() if other.busy)

    def _staying(self) -> list[Holder]:
        return [other for other in self._holders if other.evictable and not other.leaving]

    @staticmethod
    def _sorted(holders: Iterable[Holder]) -> list[Holder]:
        return sorted(holders, key=lambda other: other.used_at)
