"""``/metrics``: the meter's figures, the state's, and what providers report, in Prometheus' text format."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import accumulate
from types import ModuleType
from typing import Any

from paddock.contracts.base import Context, Reply, hookimpl
from paddock.contracts.providers import Sample
from paddock.meter import BOUNDS, Histogram
from paddock.services.core import Core
from paddock.services.gateway import GatewayService
from paddock.storage import Connection

PREFIX = "paddock_"
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsService:
    """Implements contracts/metrics.py. prometheus-client is imported at the first scrape."""

    def __init__(self, core: Core, gateway: GatewayService) -> None:
        self._core = core
        self._gateway = gateway
        self._registry: Any = None
        self._tasks: list[tuple[str, int]] = []

    @hookimpl
    async def metrics_get(self, ctx: Context) -> Reply:
        """See the contract."""
        client = await asyncio.to_thread(_client)
        if self._registry is None:
            self._registry = client.CollectorRegistry()
            client.ProcessCollector(registry=self._registry)
            self._registry.register(self)
        self._tasks = await self._core.state.read(_task_states)
        return Reply(body=client.generate_latest(self._registry), media_type=MEDIA_TYPE)

    def describe(self) -> Iterable[Any]:
        """What prometheus-client asks at registration; the names are only known at a scrape."""
        return ()

    def collect(self) -> Iterator[Any]:
        """Every family of figures."""
        yield from self._served()
        yield from self._models()
        yield from self._gauges()
        yield from families(self._reported())

    def _served(self) -> Iterator[Any]:
        families, meter = _client().core, self._core.meter
        requests = families.CounterMetricFamily(
            f"{PREFIX}requests", "Requests answered.", labels=("operation", "status")
        )
        for (operation, status), count in meter.requests.items():
            requests.add_metric((operation, str(status)), count)
        yield requests
        yield _histogram("request_seconds", "Time until a reply was sent whole.", "operation", meter.latency)

    def _models(self) -> Iterator[Any]:
        families, meter = _client().core, self._core.meter
        tokens = families.CounterMetricFamily(
            f"{PREFIX}tokens", "Tokens that replies report.", labels=("model", "kind")
        )
        for names, count in meter.tokens.items():
            tokens.add_metric(names, count)
        yield tokens
        yield _histogram("first_token_seconds", "Time until a stream's first piece.", "model", meter.first_token)

    def _gauges(self) -> Iterator[Any]:
        families, meter = _client().core, self._core.meter
        yield families.GaugeMetricFamily(f"{PREFIX}open_streams", "Streams and websockets.", meter.open_streams)
        yield families.GaugeMetricFamily(
            f"{PREFIX}gateway_waiting", "Requests of the gateway whose answer has not begun.", meter.waiting
        )
        running = families.GaugeMetricFamily(
            f"{PREFIX}gateway_requests", "Requests of the gateway that a model has now.", labels=("model",)
        )
        for model, held in self._gateway.limits.models.held.items():
            running.add_metric((model,), held)
        yield running
        tasks = families.GaugeMetricFamily(f"{PREFIX}tasks", "Tasks by state.", labels=("state",))
        for state, count in self._tasks:
            tasks.add_metric((state,), count)
        yield tasks

    def _reported(self) -> Iterator[Sample]:
        for provider in self._core.plugins.all_providers():
            try:
                yield from provider.metrics()
            except Exception as error:  # noqa: BLE001  a stranger's code may raise anything; the other figures stay
                self._core.log.event("provider_metrics_failed", "error", provider=provider.name, error=repr(error))


def families(samples: Iterable[Sample]) -> list[Any]:
    """What providers report, by name. A sample whose labels do not fit the first of its name is left out."""
    core = _client().core
    found: dict[str, tuple[Any, tuple[str, ...]]] = {}
    for sample in samples:
        if sample.name not in found:
            labels = tuple(sample.labels)
            kind = core.CounterMetricFamily if sample.kind == "counter" else core.GaugeMetricFamily
            found[sample.name] = kind(f"{PREFIX}{sample.name}", sample.help, labels=labels), labels
        family, labels = found[sample.name]
        if set(labels) == set(sample.labels):
            family.add_metric([sample.labels[label] for label in labels], sample.value)
    return [family for family, _ in found.values()]


def _histogram(name: str, text: str, label: str, found: dict[str, Histogram]) -> Any:
    family = _client().core.HistogramMetricFamily(f"{PREFIX}{name}", text, labels=(label,))
    for value, histogram in found.items():
        totals = list(accumulate(histogram.counts))
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        family.add_metric((value,), list(zip(bounds, totals, strict=True)), histogram.sum)
    return family


def _client() -> ModuleType:
    import prometheus_client.core  # noqa: PLC0415  at the first scrape

    return prometheus_client


def _task_states(db: Connection) -> list[tuple[str, int]]:
    return [
        (str(state), int(str(count))) for state, count in db.execute("SELECT state, count(*) FROM tasks GROUP BY state")
    ]
