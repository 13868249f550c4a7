"""Retries, fallbacks, timeouts and limits: before the first byte, and only where it is safe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from paddock.contracts.base import Caller, Scope
from paddock.errors import RateLimited
from paddock.services.gateway.limits import Limits
from paddock.settings import Gateway
from paddock.testing.upstream import Plan
from tests.gateway.conftest import BODIES, LONG, STREAMING, Gate

BUSY = {"error": {"message": "busy", "type": "overloaded"}}


def chats(upstream: Any) -> int:
    """How many requests but those for the catalogue reached an upstream."""
    return sum(one.method == "POST" for one in upstream.requests)


class TestRetries:
    @pytest.fixture
    def gateway_settings(self) -> Mapping[str, Any]:
        return {"retries": 2, "longest_wait": 0.5}

    @pytest.mark.parametrize("status", [429, 503])
    async def test_a_server_that_says_when_to_come_back_is_asked_again(self, gate: Gate, status: int) -> None:
        gate.one.script(Plan(status=status, error=BUSY["error"], headers={"Retry-After": "0"}))
        assert (await gate.chat()).status == 200
        assert chats(gate.one) == 2
        steps = [step["event_name"] for step in (await gate.event())["events"]]
        assert steps == ["attempt_failed"]

    @pytest.mark.parametrize(
        "headers", [{}, {"Retry-After": "30"}, {"Retry-After": "soon"}, {"Retry-After": "-1"}, {"Retry-After": "nan"}]
    )
    async def test_one_that_does_not_or_asks_for_too_long_is_not(self, gate: Gate, headers: dict[str, str]) -> None:
        gate.one.script(Plan(status=429, error=BUSY["error"], headers=headers))
        reply = await gate.chat()
        assert (reply.status, reply.json()) == (429, BUSY)
        assert reply.headers.get("Retry-After") == headers.get("Retry-After")
        assert chats(gate.one) == 1

    @pytest.mark.parametrize("status", [400, 401, 404, 408, 500, 502, 504])
    async def test_another_error_is_final(self, gate: Gate, status: int) -> None:
        gate.one.plan = Plan(status=status, error=BUSY["error"], headers={"Retry-After": "0"})
        assert (await gate.chat()).status == status
        assert chats(gate.one) == 1

    async def test_a_server_that_stays_busy_is_given_up(self, gate: Gate) -> None:
        gate.one.plan = Plan(status=503, error=BUSY["error"], headers={"Retry-After": "0"})
        assert (await gate.chat()).status == 503
        assert chats(gate.one) == 3

    async def test_a_server_that_comes_back_in_time_answers(self, gate: Gate) -> None:
        await gate.one.stop()
        async with asyncio.timeout(LONG), gate.asking("chat/completions", BODIES["chat/completions"]) as asking:
            await asyncio.sleep(
                0.05
            )  # the first attempt fails in this time; if it does not, the test holds all the same
            async with gate.one:
                assert (await asking).status == 200

    async def test_a_request_that_reached_a_server_which_then_broke_is_not_sent_again(self, gate: Gate) -> None:
        seen = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.close()

        await gate.one.stop()
        async with await asyncio.start_server(answer, "127.0.0.1", gate.one.port):
            reply = await gate.chat()
        assert reply.status == 503
        assert len(seen) == 1


class TestFallbacks:
    @pytest.fixture(params=["one/m", "m"])
    def gateway_settings(self, request: pytest.FixtureRequest) -> Mapping[str, Any]:
        fallbacks = {request.param: ["gone", "two/n"], "two/n": ["one/m"]}
        return {"retries": 0, "fallbacks": fallbacks, "aliases": {"chain": "m"}}

    @pytest.mark.parametrize("asked", ["one/m", "m", "chain"])
    async def test_another_model_answers_when_the_first_one_is_down(self, gate: Gate, asked: str) -> None:
        await gate.models()
        await gate.one.stop()
        assert (await gate.chat(asked)).status == 200
        assert gate.two.requests[-1].body["model"] == "n"
        assert (await gate.event())["data"]["served_by"] == "two/n"

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
    async def test_or_fails(self, gate: Gate, status: int) -> None:
        gate.one.plan = Plan(status=status, error=BUSY["error"])
        assert (await gate.chat(stream=True)).status == 200

    @pytest.mark.parametrize("status", [400, 401, 404, 413])
    async def test_an_error_of_the_caller_is_told_at_once(self, gate: Gate, status: int) -> None:
        gate.one.plan = Plan(status=status, error=BUSY["error"])
        assert (await gate.chat()).status == status
        assert chats(gate.two) == 0

    async def test_when_all_fail_the_first_ones_error_is_told(self, gate: Gate) -> None:
        gate.one.plan = Plan(status=503, error={"message": "first"})
        gate.two.plan = Plan(status=500, error={"message": "second"})
        reply = await gate.chat()
        assert (reply.status, reply.json()["error"]["message"]) == (503, "first")

    async def test_nothing_falls_back_once_a_stream_has_begun(self, gate: Gate) -> None:
        gate.one.plan = Plan(texts=["a", "b"], cut_after=1)
        reply = await gate.chat(stream=True)
        assert b'"error"' in reply.body
        assert chats(gate.two) == 0


class TestTimeouts:
    @pytest.fixture
    def gateway_settings(self) -> Mapping[str, Any]:
        return {"first_token_timeout": 0.3, "timeout": 0.8, "retries": 0}

    @pytest.mark.parametrize("operation", STREAMING)
    @pytest.mark.parametrize("plan", [Plan(before_headers=30), Plan(before_first=30)], ids=["headers", "first"])
    async def test_a_stream_that_does_not_begin_is_504(self, gate: Gate, operation: str, plan: Plan) -> None:
        gate.one.plan = plan
        reply = await gate.post(operation, {**BODIES[operation], "stream": True})
        assert reply.status == 504
        assert "0.3 seconds" in reply.json()["error"]["message"]

    @pytest.mark.parametrize("operation", BODIES)
    async def test_a_whole_reply_has_the_total_time(self, gate: Gate, operation: str) -> None:
        gate.one.plan = gate.one.embedding_plan = Plan(before_headers=30)
        reply = await gate.post(operation)
        assert reply.status == 504
        assert "0.8 seconds" in reply.json()["error"]["message"]

    async def test_a_stream_that_takes_too_long_ends_with_an_error_event(self, gate: Gate) -> None:
        gate.one.plan = Plan(hold_after=2)
        reply = await gate.chat(stream=True)
        assert b"did not answer in 0.8 seconds" in reply.body
        assert b"[DONE]" not in reply.body


class TestLimits:
    @pytest.fixture(params=["one/m", "m"])
    def gateway_settings(self, request: pytest.FixtureRequest) -> Mapping[str, Any]:
        limits = {"model_concurrency": {request.param: 1}, "concurrency": 2}
        return {**limits, "retries": 0, "aliases": {"short": "one/m"}}

    @pytest.mark.parametrize("stream", [False, True])
    async def test_one_more_than_a_model_may_have_is_429_until_one_has_ended(self, gate: Gate, stream: bool) -> None:
        held = asyncio.Event()
        gate.one.script(Plan(between=held) if stream else Plan(before_headers=held))
        body = {**BODIES["chat/completions"], "stream": stream}
        async with asyncio.timeout(LONG), gate.asking("chat/completions", body) as asking:
            await gate.one.request()
            for name in ("m", "one/m", "short"):
                reply = await gate.chat(name)
                assert reply.status == 429
            assert reply.headers["Retry-After"] == "1"
            assert reply.json()["error"]["type"] == "rate_limit_error"
            assert (await gate.chat("two/n")).status == 200
            held.set()
            await (await asking).read()
            assert (await gate.chat()).status == 200

    async def test_a_client_that_leaves_frees_its_place(self, gate: Gate) -> None:
        gate.one.script(Plan(hold_after=1))
        body = {**BODIES["chat/completions"], "stream": True}
        async with asyncio.timeout(LONG):
            async with gate.asking("chat/completions", body) as asking:
                request = await gate.one.request()
                await asking
            await request.gone.wait()
            assert (await gate.chat()).status == 200
        assert gate.server.app.services.gateway.limits.models.held == {}


class TestKeys:
    @pytest.fixture
    def gateway_settings(self) -> Mapping[str, Any]:
        return {"key_concurrency": 1}

    @pytest.fixture
    def other_settings(self) -> Mapping[str, Any]:
        return {"auth": {"inference_keys": ["key-a", "key-b"]}}

    async def test_each_key_has_its_own_limit(self, gate: Gate) -> None:
        held = asyncio.Event()
        gate.one.script(Plan(before_headers=held))
        gate.headers = {"Authorization": "Bearer key-a"}
        async with asyncio.timeout(LONG):
            asking = asyncio.ensure_future(gate.chat())
            await gate.one.request()
            assert (await gate.chat("two/n")).status == 429
            gate.headers = {"X-API-Key": "key-b"}
            assert (await gate.chat("two/n")).status == 200
            held.set()
            assert (await asking).status == 200
            gate.headers = {"Authorization": "Bearer key-a"}
            assert (await gate.chat()).status == 200
        assert gate.server.app.services.gateway.limits.keys.held == {}


def test_two_credentials_of_one_stored_key_share_its_limit() -> None:
    limits = Limits(Gateway(key_concurrency=1))
    limits.take_key(Caller("inference", "a", "id-1", Scope()))
    with pytest.raises(RateLimited):
        limits.take_key(Caller("inference", "b", "id-1", Scope()))
    assert limits.take_key(Caller()) is None


class TestUpstreamsOwnTimes:
    @pytest.fixture
    def gateway_settings(self) -> Mapping[str, Any]:
        return {"first_token_timeout": 30, "timeout": 30, "retries": 0}

    @pytest.fixture
    def upstream_settings(self) -> Mapping[str, Any]:
        return {"first_token_timeout": 0.2, "timeout": 0.4}

    @pytest.mark.parametrize("plan", [Plan(before_headers=30), Plan(before_first=30)], ids=["headers", "first"])
    async def test_the_times_of_an_upstream_win_over_those_of_the_gateway(self, gate: Gate, plan: Plan) -> None:
        gate.one.plan = plan
        assert "0.2 seconds" in (await gate.chat(stream=True)).json()["error"]["message"]
        assert "0.4 seconds" in (await gate.chat()).json()["error"]["message"]
