"""When what crashed starts again: a growing wait, until it crashed too often of late. Without a clock and without a process."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

LONGEST_DELAY = 60.0
CALM = 60.0  # seconds ready after which earlier crashes are forgotten, at least


class Rule(NamedTuple):
    """The settings that hold for one instance; times in seconds."""

    auto: bool
    most: int
    delay: float
    window: float


class Restarts:
    """The crashes of one instance that still count. Times are those of one clock that never goes back."""

    def __init__(self) -> None:
        self._crashes: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._crashes)

    def forget(self) -> None:
        """None of them counts any more."""
        self._crashes.clear()

    def after_crash(self, rule: Rule, now: float, ready_for: float | None) -> float | None:
        """Seconds until the next start, or None to give up. `ready_for` is how long it was ready, None if it never was."""
        if ready_for is not None and ready_for >= max(CALM, 10 * rule.delay):
            self.forget()
        while self._crashes and now - self._crashes[0] > rule.window:
            self._crashes.popleft()
        if not rule.auto or len(self._crashes) >= rule.most:
            return None
        wait = min(rule.delay * 2.0 ** len(self._crashes), LONGEST_DELAY)
        self._crashes.append(now)
        return wait
