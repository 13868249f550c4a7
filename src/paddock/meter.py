"""Counting what the server does, for ``/metrics``: plain numbers in memory, nothing to lock, nothing to import."""

from __future__ import annotations

from bisect import bisect_left

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds
MOST_MODELS = 500  # names that get a line of their own; a name comes from outside
OTHERS = "(others)"


class Histogram:
    """How many values lie below each of `BOUNDS`, and their sum. `counts` has one more for what lies above all."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count a value."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


class Meter:
    """The figures of one application, changed in its event loop only."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.latency: dict[str, Histogram] = {}
        self.tokens: dict[tuple[str, str], int] = {}
        self.first_token: dict[str, Histogram] = {}
        self.open_streams = 0
        self.waiting = 0
        self._models: set[str] = set()

    def request(self, operation: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        key = (operation, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        found = self.latency.get(operation)
        if found is None:
            found = self.latency[operation] = Histogram()
        found.add(seconds)

    def used(self, model: str, kind: str, tokens: int) -> None:
        """Count tokens of a model; `kind` is prompt or completion."""
        key = (self._named(model), kind)
        self.tokens[key] = self.tokens.get(key, 0) + tokens

    def began(self, model: str, seconds: float) -> None:
        """Count how long a model took to its first token."""
        model = self._named(model)
        found = self.first_token.get(model)
        if found is None:
            found = self.first_token[model] = Histogram()
        found.add(seconds)

    def _named(self, model: str) -> str:
        if model not in self._models:
            if len(self._models) >= MOST_MODELS:
                return OTHERS
            self._models.add(model)
        return model
