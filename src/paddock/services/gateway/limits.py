"""How many requests run at once, counted with those that wait: more are refused, so that nobody waits for nothing."""

from __future__ import annotations

from paddock.contracts.base import Caller
from paddock.errors import RateLimited
from paddock.settings import Gateway

COME_BACK = 1.0  # seconds


class Slots:
    """Counts by name. Limits of 0 are none."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def take(self, name: str, limit: int, what: str) -> None:
        """Count one more. Raises RateLimited when `limit` are there already."""
        held = self.held.get(name, 0)
        if limit and held >= limit:
            raise RateLimited(f"{what} has {held} requests at once already, all that it may have: try again", COME_BACK)
        self.held[name] = held + 1

    def free(self, name: str) -> None:
        """One less."""
        held = self.held[name] - 1
        if held:
            self.held[name] = held
        else:
            del self.held[name]


class Limits:
    """The settings' limits of models and keys."""

    def __init__(self, settings: Gateway) -> None:
        self._settings = settings
        self._special = settings.model_concurrency
        self.models = Slots()
        self.keys = Slots()

    def take_model(self, qualified: str, *names: str) -> None:
        """Count a request of a model. `names` are its other ones, which the settings may use too. Raises RateLimited."""
        limit = self._settings.concurrency
        if self._special:
            limit = next((self._special[name] for name in (qualified, *names) if name in self._special), limit)
        self.models.take(qualified, limit, f"the model {qualified[:100]}")

    def take_key(self, caller: Caller) -> str | None:
        """Count a request of a key; returns what to free at the end. Raises RateLimited."""
        if not self._settings.key_concurrency or caller.kind == "anonymous":
            return None
        name = caller.key_id or caller.label
        self.keys.take(name, self._settings.key_concurrency, "this key")
        return name
