"""Rate limits of the older API: who is counted, what is told, and what does not get around them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paddock.access import Gatekeeper, StoredKey, digest_of
from paddock.contracts.base import Scope
from paddock.errors import RateLimited
from paddock.limits import MINUTE, MOST, RateLimits, Verdict, Windows, network
from paddock.settings import Auth, RateLimit
from paddock.testing.server import Answered
from tests.security.keyed import INFER, MANAGE, Keyed, keyed_server

HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def scope(path: str = "/api/config", method: str = "GET", address: str = "1.2.3.4", **more: Any) -> dict[str, Any]:
    found = {"type": "http", "path": path, "method": method, "client": (address, 1), "query_string": b""}
    return {**found, **more}


def keeper() -> Gatekeeper:
    made = Gatekeeper(Auth(management_keys=("m",), inference_keys=("i",)))
    for name in ("a", "b"):
        key = StoredKey(
            id=name, digest=digest_of(name), prefix="same", name=name, kind="inference", scope=Scope(), created=1.0
        )
        made.keys.add(key)
    return made


def judged(made: RateLimits, headers: dict[str, str] | None = None, **given: Any) -> Verdict:
    found = made.judge(scope(**given), headers or {})
    assert found is not None
    return found


def told(verdict: Verdict) -> list[int]:
    """Limit, remaining, reset."""
    return [int(value) for _, value in verdict.headers]


def test_a_window_counts_down_refuses_and_begins_anew(clock: Clock) -> None:
    made = RateLimits(RateLimit(requests_per_minute=2), keeper(), clock)
    assert [told(judged(made)) for _ in range(2)] == [[2, 1, 1060], [2, 0, 1060]]
    clock.now += 10
    refused = judged(made)
    assert told(refused) == [2, 0, 1060]
    assert isinstance(refused.refusal, RateLimited)
    assert refused.refusal.headers["Retry-After"] == "50"
    clock.now = 1060
    assert told(judged(made)) == [2, 1, 1120]


def test_a_clock_that_was_set_back_locks_nobody_out(clock: Clock) -> None:
    made = RateLimits(RateLimit(requests_per_minute=1), keeper(), clock)
    judged(made)
    assert judged(made).refusal is not None
    clock.now -= 86_400
    assert judged(made).refusal is None


@pytest.mark.parametrize(
    ("method", "path", "expensive"),
    [
        ("GET", "/api/instances", False),
        ("HEAD", "/api/instances", False),
        ("OPTIONS", "/api/instances", False),
        ("POST", "/api/instances", True),
        ("PUT", "/api/instances/x", True),
        ("DELETE", "/api/instances/x", True),
        ("POST", "/api/instances/x/start", True),
        ("POST", "/api/instances/start-all/", True),
        ("PUT", "/api/config", True),
        ("POST", "/api/auth/login", True),
        ("POST", "/api/auth/refresh", False),
        ("POST", "/api/auth/logout", False),
    ],
)
def test_what_changes_something_has_the_smaller_limit(method: str, path: str, expensive: bool, clock: Clock) -> None:
    made = RateLimits(RateLimit(), keeper(), clock)
    assert told(judged(made, method=method, path=path))[:2] == ([10, 9] if expensive else [100, 99])


def test_dear_requests_count_as_requests_too(clock: Clock) -> None:
    made = RateLimits(RateLimit(requests_per_minute=5, expensive_per_minute=4), keeper(), clock)
    for _ in range(4):
        judged(made, method="POST")
    assert judged(made, method="POST").refusal is not None
    assert told(judged(made))[:2] == [5, 0]
    assert judged(made).refusal is not None


@pytest.mark.parametrize(
    "path", ["/apifoo", "/v1/models", "/api/v1/instances", "/api/v1", "/", "//v1/api", "//api//v1/x"]
)
def test_other_paths_are_not_counted(path: str) -> None:
    assert RateLimits(RateLimit(), keeper()).judge(scope(path), {}) is None


@pytest.mark.parametrize("path", ["/api", "/api/", "//api/config", "/api//config", "/api/config/", "/api/v1x"])
def test_another_spelling_of_a_path_is_counted(path: str) -> None:
    assert RateLimits(RateLimit(), keeper()).judge(scope(path), {}) is not None


def test_websockets_are_not_counted() -> None:
    assert RateLimits(RateLimit(), keeper()).judge(scope("/api/ws", type="websocket"), {}) is None


def test_0_is_no_limit() -> None:
    made = RateLimits(RateLimit(requests_per_minute=0, expensive_per_minute=0), keeper())
    assert made.judge(scope(method="POST"), {}) is None
    only = RateLimits(RateLimit(requests_per_minute=0, expensive_per_minute=1), keeper())
    assert only.judge(scope(), {}) is None
    assert judged(only, method="POST").refusal is None
    assert judged(only, method="POST").refusal is not None


def test_each_key_has_its_own_count_by_whatever_way_it_comes(clock: Clock) -> None:
    made = RateLimits(RateLimit(requests_per_minute=3), keeper(), clock)
    ways: list[tuple[dict[str, str], bytes]] = [
        ({"authorization": "Bearer a"}, b""),
        ({"x-api-key": "a"}, b""),
        ({}, b"api_key=a"),
    ]
    left = [told(judged(made, headers, query_string=query))[1] for headers, query in ways]
    assert left == [2, 1, 0]
    for key in ("b", "m", "i"):
        assert told(judged(made, {"x-api-key": key}))[1] == 2, key


def test_made_up_credentials_share_the_count_of_their_address(clock: Clock) -> None:
    made = RateLimits(RateLimit(requests_per_minute=3), keeper(), clock)
    left = [
        told(judged(made, {"authorization": f"Bearer {n}.{n}.{n}", "x-forwarded-for": f"9.9.9.{n}"}))[1]
        for n in range(3)
    ]
    assert left == [2, 1, 0]
    assert judged(made, {"x-api-key": "another"}).refusal is not None
    assert judged(made, address="1.2.3.5").refusal is None


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_who_has_a_network_of_addresses_is_counted_once(address: str, counted: str) -> None:
    assert network(address) == counted


def test_memory_is_bounded_whoever_asks(clock: Clock) -> None:
    windows = Windows(5, clock)
    for number in range(MOST + 500):
        windows.take(f"address {number}")
    assert len(windows) == MOST
    clock.now += MINUTE + 1
    windows.take("address x")
    assert len(windows) == 1


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Keyed]:
    limit = {"requests_per_minute": 6, "expensive_per_minute": 2}
    async with keyed_server(tmp_path / "data", rate_limit=limit) as server:
        yield server


def headers_of(reply: Answered) -> list[int]:
    return [int(reply.headers[name]) for name in HEADERS]


async def test_every_reply_tells_the_limit_errors_and_refusals_too(keyed: Keyed) -> None:
    asked = [
        await keyed.ask(MANAGE, "GET", "/api/config"),
        await keyed.ask(MANAGE, "GET", "/api/nothing"),
        await keyed.ask(MANAGE, "PATCH", "/api/config"),
        await keyed.ask(MANAGE, "PUT", "/api/config", data=b"{"),
        await keyed.ask(MANAGE, "GET", "/api/config", headers={"Host": "rebound.example"}),
    ]
    assert [reply.status for reply in asked] == [200, 404, 405, 400, 403]
    assert [headers_of(reply)[:2] for reply in asked] == [[6, 5], [6, 4], [2, 1], [2, 0], [6, 1]]
    refused = await keyed.ask(MANAGE, "PUT", "/api/config", {})
    assert (refused.status, headers_of(refused)[:2]) == (429, [2, 0])
    assert refused.json()["code"] == "RATE_LIMITED"
    assert set(refused.json()) == {"error", "code", "details"}
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert time.time() < headers_of(refused)[2] <= time.time() + 61
    assert (await keyed.ask(MANAGE, "GET", "/api/config")).status == 200
    assert (await keyed.ask(MANAGE, "GET", "/api/config")).status == 429
    for path in ("/v1/models", "/api/v1/auth/keys"):
        reply = await keyed.ask(MANAGE, "GET", path)
        assert (reply.status, HEADERS[0] in reply.headers) == (200, False)


async def test_guessing_keys_and_passwords_is_slow(keyed: Keyed) -> None:
    guesses = [await keyed.ask(f"guess-{n}", "GET", "/api/config") for n in range(8)]
    assert [reply.status for reply in guesses] == [401] * 6 + [429] * 2
    logins = [await keyed.login("wrong") for _ in range(2)]
    assert [reply.status for reply in logins] == [429, 429]
    assert (await keyed.ask(MANAGE, "GET", "/api/config")).status == 200
    assert (await keyed.ask(INFER, "GET", "/api/config")).status == 403


async def test_a_users_tokens_share_one_count(keyed: Keyed) -> None:
    one, other = await keyed.token(), await keyed.token()
    assert headers_of(await keyed.ask(one, "GET", "/api/config"))[1] == 5
    assert headers_of(await keyed.ask(other, "GET", "/api/config"))[1] == 4
