"""Keys: where they are read from, and what they admit."""

import ast
import asyncio
import inspect
import time
from typing import Any

import msgspec
import pytest

from paddock.access import (
    Gatekeeper,
    KeyRing,
    StoredKey,
    credential,
    digest_of,
    first_message_token,
    offered_token,
    ring,
)
from paddock.contracts import gateway, projects, system
from paddock.contracts.base import Caller, Endpoint, Scope, endpoint_of, endpoints_of
from paddock.errors import Forbidden, ProjectNotFound, Unauthenticated, ValidationFailed
from paddock.settings import Auth

KEEPER = Gatekeeper(Auth(management_keys=("manage-me",), inference_keys=("ask-me",)))
NAMES = {"namespace": "n", "project": "p"}
BY_NAME = {item.name: item for module in (system, projects, gateway) for item in endpoints_of(module)}
INFER, READ, PROJECTS = (BY_NAME[name] for name in ("gateway_chat_completions", "info_get", "projects_list"))
PROJECT_READ, PROJECT_WRITE = BY_NAME["project_get"], BY_NAME["project_update"]


def contract(access: Any) -> Endpoint:
    """A contract of one access class that is about no project."""
    return msgspec.structs.replace(READ, access=access)


def admit(keeper: Gatekeeper, item: Endpoint, key: str) -> Caller:
    return keeper.admit(item, {"x-api-key": key}, b"", NAMES)


def stored(name: str = "a", **fields: Any) -> StoredKey:
    """A row; its key is its name."""
    given = {"kind": "inference", "scope": Scope(), "created": 1.0, **fields}
    return StoredKey(id=name, digest=digest_of(name), prefix=name, name=name, **given)


def keeper(*keys: StoredKey) -> Gatekeeper:
    made = Gatekeeper(Auth())
    for key in keys:
        made.keys.add(key)
    return made


@pytest.mark.parametrize(
    ("headers", "query", "found"),
    [
        ({"authorization": "Bearer k"}, b"", "k"),
        ({"authorization": "bearer  k "}, b"", "k"),
        ({"authorization": "Basic k"}, b"", None),
        ({"x-api-key": "k"}, b"", "k"),
        ({}, b"a=1&api_key=k%2B", "k+"),
        ({"authorization": "Bearer first", "x-api-key": "second"}, b"api_key=third", "first"),
        ({"x-api-key": ""}, b"", None),
    ],
)
def test_a_key_is_read_from_one_place_in_a_fixed_order(
    headers: dict[str, str], query: bytes, found: str | None
) -> None:
    assert credential(headers, query) == found


@pytest.mark.parametrize(
    ("offers", "token", "taken"),
    [
        ("", None, None),
        ("paddock", None, "paddock"),
        ("bearer.k", "k", "bearer.k"),
        ("bearer.k, paddock", "k", "paddock"),
        ("paddock, bearer.a.b.c", "a.b.c", "paddock"),
        ("bearer.", None, None),
    ],
)
def test_a_websockets_token_is_a_subprotocol_and_another_is_taken_where_there_is_one(
    offers: str, token: str | None, taken: str | None
) -> None:
    assert offered_token({"sec-websocket-protocol": offers}) == (token, taken)


@pytest.mark.parametrize(
    ("message", "token"),
    [
        ('{"type": "auth", "token": "k"}', "k"),
        (b'{"token": "k", "type": "auth", "more": 1}', "k"),
        ('{"type": "hello", "token": "k"}', None),
        ('{"type": "auth"}', None),
        ("k", None),
        (b"\xff", None),
        ("[" * 100_000, None),
        (None, None),
    ],
)
def test_a_first_message_is_a_token_or_nothing(message: str | bytes | None, token: str | None) -> None:
    assert first_message_token(message) == token


def test_without_keys_everybody_is_admitted() -> None:
    assert Gatekeeper(Auth()).admit(contract("manage"), {}, b"", NAMES).kind == "anonymous"


def test_a_management_key_admits_to_everything() -> None:
    for access in ("open", "read", "write", "infer", "manage"):
        admit(KEEPER, contract(access), "manage-me")
    admit(KEEPER, PROJECT_WRITE, "manage-me")


def test_an_inference_key_admits_to_inference_only() -> None:
    assert admit(KEEPER, INFER, "ask-me").kind == "inference"
    for item in (READ, PROJECT_READ, contract("manage"), contract("write")):
        with pytest.raises(Forbidden):
            admit(KEEPER, item, "ask-me")


@pytest.mark.parametrize(
    "key", ["", "manage-m", "manage-mee", "MANAGE-ME", "\x00", "ключ", "\udcff", "a.b.c", "eyJ.e30."]
)
def test_any_other_key_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        admit(KEEPER, READ, key)
    assert not key or key not in caught.value.message


def test_the_keeper_holds_no_key_in_clear() -> None:
    found = [str(vars(KEEPER.keys)), str(vars(KEEPER.tokens)), str(vars(KEEPER))]
    assert not any("manage-me" in one or "ask-me" in one for one in found)


@pytest.mark.parametrize("key", ["", " ", "a b", "schlüssel", "a\n"])
def test_a_key_that_no_client_can_send_stops_the_start_without_being_shown(key: str) -> None:
    with pytest.raises(ValidationFailed, match=r"auth\.inference_keys") as caught:
        Gatekeeper(Auth(inference_keys=("good", key)))
    assert not key.strip() or key not in caught.value.message


def test_digests_are_compared_in_constant_time_only() -> None:
    """No line of the ring compares a digest, and what hmac compares has no other way to be equal."""

    class Uncomparable(bytes):
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared byte by byte")

        __hash__ = bytes.__hash__

    key = msgspec.structs.replace(stored(), digest=Uncomparable(digest_of("a")))
    made = KeyRing(Auth())
    made.add(key)
    assert made.find("a") is not None
    assert made.find("b") is None
    compared = [node for node in ast.walk(ast.parse(inspect.getsource(ring))) if isinstance(node, ast.Compare)]
    assert not any("digest" in ast.unparse(node) for node in compared)


@pytest.mark.parametrize(
    ("scope", "item", "outcome"),
    [
        (Scope(), PROJECT_READ, Forbidden),
        (Scope(verbs=frozenset({"read"})), PROJECT_READ, None),
        (Scope(verbs=frozenset({"read"})), READ, None),
        (Scope(verbs=frozenset({"read"})), INFER, Forbidden),
        (Scope(verbs=frozenset({"read"})), PROJECT_WRITE, Forbidden),
        (Scope(verbs=frozenset({"read", "write"}), projects=("n/p",)), PROJECT_WRITE, None),
        (Scope(verbs=frozenset({"read", "write"}), projects=("n/*",)), PROJECT_WRITE, None),
        (Scope(verbs=frozenset({"read", "write"}), projects=("n/q", "m/*", "N/p")), PROJECT_WRITE, ProjectNotFound),
        (Scope(verbs=frozenset({"read"}), models=("m",)), PROJECT_READ, ProjectNotFound),
        (Scope(verbs=frozenset({"read"}), projects=("n/p",)), READ, Forbidden),
        (Scope(verbs=frozenset({"read"}), models=("m",)), READ, Forbidden),
        (Scope(verbs=frozenset({"read"}), projects=("m/q",)), PROJECTS, None),
        (Scope(verbs=frozenset({"read"}), models=("m",)), PROJECTS, Forbidden),
        (Scope(projects=("n/p",)), INFER, Forbidden),
        (Scope(models=("m",)), INFER, None),
        (Scope(projects=("n/p",), models=("m",)), INFER, None),
        (Scope(verbs=frozenset({"read", "write", "infer"})), contract("manage"), Forbidden),
    ],
)
def test_a_scope_limits_a_key(scope: Scope, item: Endpoint, outcome: type[Exception] | None) -> None:
    made = keeper(stored(scope=scope))
    if outcome is None:
        assert admit(made, item, "a").key_id == "a"
    else:
        with pytest.raises(outcome):
            admit(made, item, "a")


def test_a_project_outside_of_a_scope_is_told_as_one_that_does_not_exist() -> None:
    made = keeper(stored(scope=Scope(verbs=frozenset({"read"}), projects=("n/q",))))
    with pytest.raises(ProjectNotFound) as caught:
        admit(made, PROJECT_READ, "a")
    assert caught.value.message == ProjectNotFound.of("n", "p").message


@pytest.mark.parametrize(
    ("scope", "model", "may"),
    [
        (None, "x", True),
        (Scope(), "x", True),
        (Scope(models=("x",)), "x", True),
        (Scope(models=("x",)), "xy", False),
        (Scope(models=("x/*",)), "x/y", True),
        (Scope(models=("x/*",)), "x", False),
        (Scope(projects=("n/p",)), "x", False),
    ],
)
def test_a_scope_limits_models_by_name_or_beginning(scope: Scope | None, model: str, may: bool) -> None:
    assert Caller(scope=scope).may_use(model) is may


def test_a_revoked_or_expired_key_does_not_admit_and_leaves_the_server_closed() -> None:
    for key in (stored(revoked=2.0), stored(expires=2.0)):
        made = keeper(key)
        assert made.closed
        with pytest.raises(Unauthenticated):
            admit(made, INFER, "a")


def test_keys_whose_digests_begin_alike_are_told_apart() -> None:
    made = keeper(stored("a"), msgspec.structs.replace(stored("b"), digest=digest_of("a")[:8] + b"x" * 24))
    assert admit(made, INFER, "a").key_id == "a"


def test_revoking_one_key_leaves_the_others() -> None:
    made = keeper(stored("a"), stored("b"))
    made.keys.add(stored("a", revoked=2.0))
    with pytest.raises(Unauthenticated):
        admit(made, INFER, "a")
    assert admit(made, INFER, "b").key_id == "b"


async def test_what_runs_under_a_key_is_cancelled_when_it_is_revoked_and_nothing_else_is() -> None:
    made = keeper(stored("a"), stored("b"))
    mine, other, nobodys = (asyncio.get_running_loop().create_future() for _ in range(3))
    with (
        made.holding(Caller("inference", key_id="a"), mine),
        made.holding(Caller("inference", key_id="b"), other),
        made.holding(Caller(), nobodys),
    ):
        made.keys.add(stored("a", revoked=2.0))
        assert made.end("a") == 1
        assert [one.cancelled() for one in (mine, other, nobodys)] == [True, False, False]
    assert made.end("b") == 0


async def test_what_runs_under_a_key_is_cancelled_when_it_expires() -> None:
    key = stored("a", expires=time.time() + 0.05)
    made = keeper(key)
    running = asyncio.get_running_loop().create_future()
    with made.holding(key.caller(), running):
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(running), 5)
        assert not made.stands(key.caller())


async def test_a_task_that_is_held_twice_stays_held_until_both_ended() -> None:
    made = keeper(stored("a"))
    running, caller = asyncio.get_running_loop().create_future(), Caller("inference", key_id="a")
    with made.holding(caller, running):
        with made.holding(caller, running):
            assert made.running("a") == 2
        assert made.end("a") == 1
        assert running.cancelled()
    assert made.running("a") == 0


async def test_what_begins_under_a_key_that_was_just_revoked_is_cancelled_at_once() -> None:
    made = keeper(stored("a", revoked=2.0))
    late = asyncio.get_running_loop().create_future()
    with made.holding(Caller("inference", key_id="a"), late):
        assert late.cancelled()


def test_every_contract_of_a_project_names_its_namespace_too() -> None:
    """The gatekeeper reads both from the path."""
    assert endpoint_of(projects.project_get) == PROJECT_READ
    for item in BY_NAME.values():
        assert ("{project}" in item.path) <= ("{namespace}" in item.path)


class Unhashable:
    """A callable in a contract module that is no contract, and that no cache can hold."""

    __hash__ = None  # type: ignore[assignment]  # what defining __eq__ does

    def __call__(self) -> None:
        """Do nothing."""


def test_a_callable_that_is_no_contract_is_passed_over_whatever_it_is() -> None:
    assert endpoint_of(Unhashable()) is None
