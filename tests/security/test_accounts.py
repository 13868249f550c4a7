"""Users of the older API: passwords and tokens, and what is done to them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import jwt
import pytest

from paddock.access import Tokens
from paddock.errors import ProviderUnavailable, Unauthenticated
from tests.security.keyed import BOUND, INFER, MANAGE, PASSWORD, Keyed, keyed_server

SECRET = b"s" * 48
LOGOUT, REFRESH, CONFIG = "/api/auth/logout", "/api/auth/refresh", "/api/config"


@pytest.fixture
def tokens() -> Tokens:
    found = Tokens()
    found.load(SECRET, {"admin": 3}, {})
    return found


def stored(folder: Path, query: str) -> list[Any]:
    """What a closed server's state holds."""
    return apsw.Connection(str(folder / "data" / "state.db")).execute(query).fetchall()


def test_a_token_says_who_it_is_and_when_it_ends(tokens: Tokens) -> None:
    issued = tokens.issue("admin", 60)
    found = tokens.check(issued.token)
    assert (found.user, found.id, found.expires) == ("admin", issued.id, issued.expires)
    assert issued.expires == pytest.approx(time.time() + 60, abs=2)
    caller = tokens.find(issued.token)
    assert caller is not None
    assert (caller.kind, caller.label, caller.scope) == ("user", "user admin", None)


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"sub": "admin", "jti": "1", "iat": now, "exp": now + 60, "iss": "paddock", "epoch": 3, **changed}
    return {key: value for key, value in found.items() if value is not None}


def signed(secret: bytes | None = SECRET, algorithm: str = "HS256", **changed: Any) -> str:
    return jwt.encode(claims(**changed), secret, algorithm=algorithm)


FORGED: dict[str, Callable[[], str]] = {
    "another algorithm": lambda: signed(algorithm="HS384"),
    "another secret": lambda: signed(b"t" * 48),
    "no signature": lambda: signed(None, "none"),
    "expired": lambda: signed(exp=int(time.time()) - 1),
    "from the future": lambda: signed(iat=int(time.time()) + 900),
    "an earlier epoch": lambda: signed(epoch=2),
    "an epoch of another type": lambda: signed(epoch="3"),
    "no epoch": lambda: signed(epoch=None),
    "an unknown user": lambda: signed(sub="root"),
    "another issuer": lambda: signed(iss="elsewhere"),
    "no end": lambda: signed(exp=None),
    "no id": lambda: signed(jti=None),
    "no user": lambda: signed(sub=None),
    "no issuer": lambda: signed(iss=None),
    "no beginning": lambda: signed(iat=None),
    "too short": lambda: "eyJ.e30.",
    "no token": lambda: "a.b.c",
    "nothing": lambda: "",
    "too long": lambda: "eyJ" + "a" * 10_000 + ".b.c",
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_token_that_is_not_ours_is_refused(tokens: Tokens, forged: str) -> None:
    token = FORGED[forged]()
    with pytest.raises(Unauthenticated) as caught:
        tokens.check(token)
    assert not token or token not in caught.value.message


def test_a_good_token_of_the_same_kind_is_taken(tokens: Tokens) -> None:
    """So that the ones above are refused for what is wrong with them."""
    assert tokens.check(signed()).id == "1"


def test_every_changed_character_spoils_a_token(tokens: Tokens) -> None:
    token = tokens.issue("admin", 60).token
    head, body, signature = token.split(".")
    for part, place in ((head, 0), (body, 1), (signature, 2)):
        raw = bytearray(base64.urlsafe_b64decode(part + "=="))
        for at in range(0, len(raw), 5):
            changed = bytes(byte ^ 1 if number == at else byte for number, byte in enumerate(raw))
            parts = [head, body, signature]
            parts[place] = base64.urlsafe_b64encode(changed).rstrip(b"=").decode()
            with pytest.raises(Unauthenticated):
                tokens.check(".".join(parts))


def test_a_revoked_token_and_those_of_an_earlier_epoch_are_refused(tokens: Tokens) -> None:
    one, other = tokens.issue("admin", 60), tokens.issue("admin", 60)
    tokens.revoke(tokens.check(one.token))
    assert tokens.find(one.token) is None
    assert tokens.find(other.token) is not None
    tokens.raise_epoch("admin", 4)
    assert tokens.find(other.token) is None


def test_nothing_is_given_out_or_taken_before_the_secret_is_known() -> None:
    fresh = Tokens()
    with pytest.raises(ProviderUnavailable):
        fresh.issue("admin", 60)
    assert fresh.find(signed()) is None


async def test_a_password_is_exchanged_for_a_token_that_manages(keyed: Keyed) -> None:
    reply = await keyed.login()
    assert (reply.status, set(reply.json())) == (200, {"token", "expires_at"})
    ends = datetime.fromisoformat(reply.json()["expires_at"]).timestamp()
    assert ends == pytest.approx(time.time() + 86_400, abs=5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reply.json()["expires_at"])
    for path in (CONFIG, "/api/v1/auth/keys", "/info", "/v1/models"):
        assert (await keyed.ask(reply.json()["token"], "GET", path)).status == 200, path


@pytest.mark.parametrize(
    ("user", "password"), [("admin", "wrong"), ("root", PASSWORD), ("ADMIN", PASSWORD), ("x", "y")]
)
async def test_a_wrong_name_and_a_wrong_password_are_told_alike(keyed: Keyed, user: str, password: str) -> None:
    reply = await keyed.login(password, user)
    assert (reply.status, set(reply.json())) == (401, {"error", "code", "details"})
    assert (reply.json()["error"], reply.json()["code"]) == ("the username or the password is wrong", "UNAUTHENTICATED")


async def test_an_unknown_user_takes_as_long_as_a_known_one(keyed: Keyed) -> None:
    """The hash that is checked for a stranger is as dear as the admin's, because it is the same."""
    times: dict[str, list[float]] = {"admin": [], "stranger": []}
    for _ in range(7):
        for user, found in times.items():
            start = time.process_time()  # of all threads: the machine may be busy with something else
            assert (await keyed.login("wrong", user)).status == 401
            found.append(time.process_time() - start)
    fastest = {user: min(found) for user, found in times.items()}
    assert fastest["stranger"] > fastest["admin"] / 2


async def test_logins_beyond_a_handful_wait_for_nobody(keyed: Keyed) -> None:
    replies = await asyncio.gather(*(keyed.login("wrong") for _ in range(30)))
    statuses = [reply.status for reply in replies]
    assert set(statuses) == {401, 429}
    assert all("Retry-After" in reply.headers for reply in replies if reply.status == 429)
    assert (await keyed.login()).status == 200


async def test_a_token_is_refreshed_while_it_counts(keyed: Keyed) -> None:
    token = await keyed.token()
    reply = await keyed.ask(token, "POST", REFRESH)
    assert (reply.status, set(reply.json())) == (200, {"token", "expires_at"})
    assert reply.json()["token"] != token
    assert (await keyed.ask(reply.json()["token"], "GET", CONFIG)).status == 200
    for key in (None, "wrong", MANAGE, INFER, token[:-2]):
        assert (await keyed.ask(key, "POST", REFRESH)).status == 401


async def test_a_logout_ends_one_token_at_once_with_what_runs_under_it(keyed: Keyed) -> None:
    token, other = await keyed.token(), await keyed.token()
    async with asyncio.timeout(BOUND), keyed.socket("/k/late", token) as socket, keyed.socket("/k/late", other) as kept:
        assert await socket.receive_str() == await kept.receive_str() == "user admin"
        assert (await keyed.ask(token, "POST", LOGOUT)).json() == {"message": "Logged out"}
        assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008
        await kept.send_str("still here")
        assert await kept.receive_str() == "still here"
    for path, method in ((CONFIG, "GET"), (REFRESH, "POST"), (LOGOUT, "POST")):
        assert (await keyed.ask(token, method, path)).status == 401
    assert (await keyed.ask(other, "GET", CONFIG)).status == 200


async def test_a_websocket_ends_with_its_token(tmp_path: Path) -> None:
    auth = {"management_keys": [MANAGE], "admin_password": PASSWORD, "token_ttl": 3}
    async with keyed_server(tmp_path / "data", auth=auth) as keyed:
        token = await keyed.token()
        async with asyncio.timeout(BOUND), keyed.socket("/k/late", token) as socket:
            assert await socket.receive_str() == "user admin"
            assert (await socket.receive()).type == aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 1008


async def test_tokens_and_their_end_outlive_a_restart_but_not_a_new_password(tmp_path: Path) -> None:
    async with keyed_server(tmp_path / "data") as keyed:
        kept, revoked = await keyed.token(), await keyed.token()
        await keyed.ask(revoked, "POST", LOGOUT)
    async with keyed_server(tmp_path / "data") as keyed:
        assert (await keyed.ask(kept, "GET", CONFIG)).status == 200
        assert (await keyed.ask(revoked, "GET", CONFIG)).status == 401
    changed = {"management_keys": [MANAGE], "admin_password": "another"}
    async with keyed_server(tmp_path / "data", auth=changed) as keyed:
        assert (await keyed.ask(kept, "GET", CONFIG)).status == 401
        assert (await keyed.login()).status == 401
        assert (await keyed.login("another")).status == 200
    async with keyed_server(tmp_path / "data", auth={"management_keys": [MANAGE]}) as keyed:
        assert (await keyed.login("another")).status == 200  # the setting is gone, the password stays


async def test_the_first_start_makes_a_password_and_prints_it_once(tmp_path: Path) -> None:
    auth = {"management_keys": [MANAGE]}
    async with keyed_server(tmp_path / "data", auth=auth) as keyed:
        assert (await keyed.login("wrong")).status == 401
        lines = [json.loads(line) for line in keyed.log().splitlines()]
        told = [line for line in lines if line["event"] == "admin_password"]
        assert [line["user"] for line in told] == ["admin"]
        password = told[0]["password"]
        assert len(password) >= 20
        assert "PADDOCK_AUTH__ADMIN_PASSWORD" in told[0]["hint"]
        assert (await keyed.login(password)).status == 200
    async with keyed_server(tmp_path / "data", auth=auth) as keyed:
        assert (await keyed.login(password)).status == 200
        assert "admin_password" not in keyed.log()


@pytest.mark.parametrize("auth", [{}, {"admin_password": PASSWORD}])
async def test_a_password_is_stored_as_an_argon2id_hash_only(tmp_path: Path, auth: dict[str, str]) -> None:
    async with keyed_server(tmp_path / "data", auth=auth) as keyed:
        assert (await keyed.login()).status == (200 if auth else 401)
        log = keyed.log()
    [(hashed,)] = stored(tmp_path, "SELECT password FROM users")
    assert hashed.startswith("$argon2id$v=19$m=")
    files = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert all(PASSWORD.encode() not in one for one in (*files, log.encode()))


async def test_the_log_tells_of_logins_without_repeating_what_was_typed(keyed: Keyed) -> None:
    token = await keyed.token()
    await keyed.login("typed-password", "typed-as-a-name")
    await keyed.ask(token, "POST", LOGOUT)
    log = keyed.log()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert {"login", "login_failed", "logout"} <= set(events)
    for secret in ("typed-password", "typed-as-a-name", PASSWORD, token):
        assert secret not in log


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "admin"},
        {"username": "", "password": "x"},
        {"username": 1, "password": "x"},
        {"username": "admin", "password": PASSWORD, "remember": True},
    ],
)
async def test_a_login_that_is_none_is_400(keyed: Keyed, body: dict[str, Any]) -> None:
    reply = await keyed.ask(None, "POST", "/api/auth/login", body)
    assert (reply.status, set(reply.json())) == (400, {"error", "code", "details"})


async def test_an_odd_password_is_a_wrong_one(keyed: Keyed) -> None:
    for password in ("\x00", "ü" * 500, "\ud800"):
        data = json.dumps({"username": "admin", "password": password})
        reply = await keyed.ask(None, "POST", "/api/auth/login", data=data)
        assert reply.status in (400, 401), password
