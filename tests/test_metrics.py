"""What /metrics tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ChatModel, Environment, Sample
from paddock.meter import MOST_MODELS, OTHERS, Meter
from paddock.services.metrics import families
from paddock.testing.chat import EchoModel
from paddock.testing.server import RunningServer, running_server
from paddock.testing.upstream import FakeUpstream


class Counting(EchoModel):
    """Reports a figure, and fails when it is told to."""

    broken = False

    def metrics(self) -> Iterable[Sample]:
        if self.broken:
            raise RuntimeError("no figures")
        yield Sample(name="echo_models", help="Models.", value=2, labels={"kind": 'odd "\n\\'})
        yield Sample(name="echo_words", help="Words.", value=5, kind="counter")


class Plugin:
    def __init__(self, model: Counting) -> None:
        self._model = model

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [self._model]


@pytest.fixture
def model() -> Counting:
    return Counting()


@pytest.fixture
async def server(tmp_path: Path, model: Counting) -> AsyncIterator[RunningServer]:
    async with FakeUpstream() as upstream:
        settings = {"gateway": {"upstreams": {"up": {"base_url": upstream.base_url}}}}
        async with running_server(
            tmp_path / "data", plugins={"echo": Plugin(model)}, settings=settings, installed=False
        ) as server:
            yield server


async def scraped(server: RunningServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    reply = await server.ask("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_requests_are_counted_by_operation_and_status(server: RunningServer) -> None:
    for path in ("/info", "/info", "/v1/projects/n/nothing", "/nowhere"):
        await server.ask("GET", path)
    found = await scraped(server)
    name = "paddock_requests_total"
    assert found[name, (("operation", "info_get"), ("status", "200"))] == 2
    assert found[name, (("operation", "project_get"), ("status", "404"))] == 1
    assert found[name, (("operation", "none"), ("status", "404"))] == 1
    assert found["paddock_request_seconds_count", (("operation", "info_get"),)] == 2
    assert found["paddock_request_seconds_bucket", (("le", "+Inf"), ("operation", "info_get"))] == 2


async def test_tokens_and_first_tokens_are_counted_by_model(server: RunningServer) -> None:
    body = {"model": "up/fake-model", "messages": [{"role": "user", "content": "x"}]}
    for stream in (False, True):
        assert (await server.ask("POST", "/v1/chat/completions", {**body, "stream": stream})).status == 200
    found = await scraped(server)
    assert found["paddock_tokens_total", (("kind", "prompt"), ("model", "up/fake-model"))] == 7
    assert found["paddock_tokens_total", (("kind", "completion"), ("model", "up/fake-model"))] == 3
    assert found["paddock_first_token_seconds_count", (("model", "up/fake-model"),)] == 1
    assert found["paddock_open_streams", ()] == found["paddock_gateway_waiting", ()] == 0


async def test_the_process_and_providers_are_there(server: RunningServer) -> None:
    found = await scraped(server)
    assert found["process_resident_memory_bytes", ()] > 1e7
    assert found["paddock_echo_models", (("kind", 'odd "\n\\'),)] == 2
    assert found["paddock_echo_words_total", ()] == 5


async def test_a_provider_that_fails_takes_no_other_figure_with_it(server: RunningServer, model: Counting) -> None:
    model.broken = True
    assert ("paddock_open_streams", ()) in await scraped(server)


async def test_it_needs_a_key_where_keys_exist(tmp_path: Path) -> None:
    keys = {"management_keys": ["m-key"], "inference_keys": ["i-key"]}
    async with running_server(tmp_path / "data", settings={"auth": keys}, installed=False) as server:
        assert (await server.ask("GET", "/metrics")).status == 401
        assert (await server.ask("GET", "/metrics", headers={"X-API-Key": "i-key"})).status == 403
        assert (await server.ask("GET", "/metrics", headers={"X-API-Key": "m-key"})).status == 200


def test_names_of_models_are_bounded() -> None:
    meter = Meter()
    for number in range(MOST_MODELS + 50):
        meter.used(f"up/{number}", "prompt", 1)
    assert len(meter.tokens) == MOST_MODELS + 1
    assert meter.tokens[OTHERS, "prompt"] == 50


def test_a_sample_with_other_labels_is_left_out() -> None:
    samples = [Sample(name="x", help="X.", value=1, labels={"a": "1"}), Sample(name="x", help="X.", value=2)]
    assert [len(family.samples) for family in families(samples)] == [1]
