"""What is noted of a request: one event in the log, figures in the meter."""

from __future__ import annotations

import time

from paddock.contracts.base import Context
from paddock.contracts.gateway import GatewayRequest
from paddock.errors import PaddockError, UpstreamError
from paddock.meter import Meter
from paddock.services.events import EventLog
from paddock.services.gateway.limits import Limits
from paddock.services.gateway.usage import Tokens

LEFT = "the client left, or the server stopped, before the answer was whole"


class Account:
    """One request of the gateway. Only the first `finish` or `fail` counts; either frees the slot of the caller's key."""

    __slots__ = (
        "_begun",
        "_caller",
        "_event",
        "_key",
        "_limits",
        "_meter",
        "_model",
        "_open",
        "_served",
        "_stream",
        "_waits",
    )

    def __init__(self, events: EventLog, meter: Meter, limits: Limits, ctx: Context, data: GatewayRequest) -> None:
        self._event = events.begin("", "", ctx.endpoint.name, ctx.request_id)
        self._meter = meter
        self._limits = limits
        self._key: str | None = None
        self._model = data.model[:200]
        self._stream = data.stream
        self._caller = ctx.caller.label
        self._served: str | None = None
        self._begun = time.perf_counter()
        self._waits = self._open = True
        meter.waiting += 1

    def holds(self, key: str | None) -> None:
        """The slot of a key that is freed at the end."""
        self._key = key

    def failed(self, model: str, error: PaddockError) -> None:
        """An attempt failed, and another follows."""
        self._event.sub("attempt_failed", model=model, error=error.message)

    def began(self, model: str) -> None:
        """The first piece of the answer of `model` is there."""
        self._served = model
        self._begins()
        if self._stream:
            self._event.first_token()
            self._meter.began(model, time.perf_counter() - self._begun)

    def finish(self, status: int, tokens: Tokens | None) -> None:
        """The answer was sent whole."""
        if not self._ends():
            return
        if tokens is not None and self._served is not None:
            for kind in ("prompt", "completion"):
                count = tokens[kind]
                if count:
                    self._meter.used(self._served, kind, count)
        self._event.finish(**self._facts(status), tokens=tokens)

    def fail(self, error: BaseException) -> None:
        """There was no answer, or not all of it."""
        if not self._ends():
            return
        left = not isinstance(error, Exception)  # cancelled, or the stream was closed
        status = error.http_status if isinstance(error, PaddockError) else 499 if left else 500
        facts = self._facts(status)
        if isinstance(error, UpstreamError):
            facts["upstream_status"] = error.upstream_status
        self._event.fail(LEFT if left else error, **facts)

    def _facts(self, status: int) -> dict[str, object]:
        return {
            "model": self._model,
            "served_by": self._served,
            "stream": self._stream,
            "status": status,
            "caller": self._caller,
        }

    def _begins(self) -> None:
        if self._waits:
            self._waits = False
            self._meter.waiting -= 1

    def _ends(self) -> bool:
        was_open, self._open = self._open, False
        if was_open:
            self._begins()
            if self._key is not None:
                self._limits.keys.free(self._key)
        return was_open
