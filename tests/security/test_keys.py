"""Keys over HTTP: what each admits to on every route, and what becomes of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from paddock.access import check_bind
from paddock.contracts.base import Endpoint, endpoints_of
from paddock.errors import ValidationFailed
from paddock.services import CONTRACTS
from paddock.testing.server import Answered, running_server
from tests.security.conftest import Target
from tests.security.keyed import BOUND, INFER, KEYS, MANAGE, Keyed, keyed_server, path_of

ALL = [item for module in CONTRACTS for item in endpoints_of(module)]
# What takes every method is asked with one that has a body.
ENDPOINTS = [
    structs.replace(item, method="POST") if item.method == "*" else item for item in ALL if item.kind != "websocket"
]
CARRIERS = ("bearer", "header", "query")


def kind_of(item: Endpoint) -> str:
    """What an endpoint is about: a project, the projects of a namespace, or the server."""
    return "project" if "{project}" in item.path else "namespace" if "{namespace}" in item.path else "server"


def expected(item: Endpoint, verbs: set[str], projects: bool, models: bool) -> str:
    """What a key with these verbs, limited to projects or models or not at all, gets: an independent reading of the rules.
    The path names the project x/x, which is in no key's scope."""
    if item.access == "open":
        return "open"
    if item.access not in verbs:
        return "403"
    if kind_of(item) == "project":
        return "404" if projects or models else "in"
    if item.access == "infer":
        return "in, as far as its models go" if models else "403" if projects else "in"
    if kind_of(item) == "namespace" and projects:
        return "403 in POST" if item.method == "POST" else "in"
    return "403" if projects or models else "in"


async def send(keyed: Keyed, item: Endpoint, key: str, carrier: str, body: bool = False) -> Answered:
    path, headers = path_of(item), {}
    if carrier == "query":
        path += f"?api_key={key}"
    else:
        headers = {"Authorization": f"Bearer {key}"} if carrier == "bearer" else {"X-API-Key": key}
    given: dict[str, Any] = {"body": {"name": "x"}} if body else {}
    return await keyed.server.ask("GET" if item.method == "*" else item.method, path, headers=headers, **given)


def agrees(reply: Answered, wanted: str, item: Endpoint) -> bool:
    if wanted == "403 in POST":  # after the body: the name of the new project stands there
        return reply.status in (403, 422)
    if wanted == "in, as far as its models go":
        return reply.status not in (401, 403) or (reply.status == 403 and b"may not use the model" in reply.body)
    if wanted == "404":
        return reply.status == 404
    if wanted == "open":
        return item.group == "accounts" or reply.status not in (401, 403)
    return reply.status not in (401, 403) if wanted == "in" else reply.status == int(wanted)


@pytest.mark.parametrize(
    ("body", "verbs", "projects", "models"),
    [
        ({"kind": "inference"}, {"infer"}, False, False),
        ({"scopes": {"verbs": ["read"]}}, {"read"}, False, False),
        ({"scopes": {"verbs": ["read", "write", "infer"]}}, {"read", "write", "infer"}, False, False),
        ({"scopes": {"verbs": ["read", "write", "infer"], "projects": ["x/y", "y/*"]}}, {"read", "write", "infer"}, True, False),
        ({"scopes": {"verbs": ["read", "infer"], "models": ["m"]}}, {"read", "infer"}, False, True),
        ({"scopes": {"projects": ["x/y"], "models": ["m"]}}, {"infer"}, True, True),
        ({"permission_mode": "per_instance", "instance_ids": ["m"]}, {"infer"}, False, True),
        ({"permission_mode": "allow_all"}, {"infer"}, False, False),
    ],
    ids=["inference", "reader", "worker", "projects", "models", "both", "instances", "all-instances"],
)  # fmt: skip
async def test_a_limited_key_gets_the_same_decision_by_every_way_on_every_route(
    keyed: Keyed, body: dict[str, Any], verbs: set[str], projects: bool, models: bool
) -> None:
    key = (await keyed.make(**body))["key"]
    for item in ENDPOINTS:
        wanted = expected(item, verbs, projects, models)
        replies = [await send(keyed, item, key, carrier) for carrier in CARRIERS]
        assert len({reply.status for reply in replies}) == 1, item.name
        assert agrees(replies[0], wanted, item), (item.name, wanted, replies[0].status, replies[0].body)


async def test_what_manages_gets_in_by_every_way_on_every_route_and_what_ended_nowhere(keyed: Keyed) -> None:
    management = (await keyed.make(kind="management"))["key"]
    revoked = await keyed.make(kind="management")
    await keyed.revoke(revoked["id"])
    expired = (await keyed.make(kind="management", expires_at=time.time() + 0.05))["key"]
    async with asyncio.timeout(BOUND):
        while (await keyed.ask(expired, "GET", "/info")).status != 401:
            continue
    token = await keyed.token()
    for item in ENDPOINTS:
        if item.access == "open" or item.name == "key_revoke":
            continue
        for key, admitted in ((management, True), (token, True), (revoked["key"], False), (expired, False)):
            for carrier in CARRIERS:
                reply = await send(keyed, item, key, carrier)
                assert (reply.status not in (401, 403)) is admitted, (item.name, carrier, reply.status, reply.body)
                assert admitted or reply.status == 401


async def test_the_wrong_key_in_one_place_is_not_made_good_by_another(keyed: Keyed) -> None:
    headers = {"Authorization": "Bearer wrong", "X-API-Key": MANAGE}
    assert (await keyed.server.ask("GET", f"/info?api_key={MANAGE}", headers=headers)).status == 401


async def test_another_tenants_project_is_told_as_one_that_does_not_exist(keyed: Keyed) -> None:
    target = Target(keyed.server)
    await target.project("p")
    await target.project("q")
    theirs = (await keyed.make(scopes={"verbs": ["read", "write", "infer"], "projects": ["n/q"]}))["key"]
    for item in ENDPOINTS:
        if "{project}" not in item.path:
            continue
        named = [item.path.replace("{namespace}/{project}", name) for name in ("n/p", "n/none")]
        real, unknown = [await keyed.ask(theirs, item.method, re.sub(r"{\w+}", "x", path)) for path in named]
        assert real.status == unknown.status == 404, item.name
        assert real.body.replace(b"n/p", b"n/none") == unknown.body, item.name
        wrong = re.sub(r"{\w+}", "x", item.path.replace("{namespace}/{project}", "n/q"))
        if item.method == "GET":
            assert b"project n/q not found" not in (await keyed.ask(theirs, "GET", wrong)).body


async def test_a_key_sees_and_makes_only_its_own_projects_of_a_namespace(keyed: Keyed) -> None:
    target = Target(keyed.server)
    await target.project("p")
    await target.project("q")
    key = (await keyed.make(scopes={"verbs": ["read", "write"], "projects": ["n/q", "own/*"]}))["key"]
    listed = (await keyed.ask(key, "GET", "/v1/projects/n")).json()
    assert (listed["total"], [one["name"] for one in listed["projects"]]) == (1, ["q"])
    assert (await keyed.ask(key, "GET", "/v1/projects/elsewhere")).json()["total"] == 0
    assert (await keyed.ask(key, "POST", "/v1/projects/n", {"name": "new"})).status == 403
    assert (await keyed.ask(key, "POST", "/v1/projects/n", {"name": "p"})).status == 403
    assert (await keyed.ask(key, "POST", "/v1/projects/own", {"name": "new"})).status == 200
    assert (await keyed.ask(MANAGE, "GET", "/v1/projects/n")).json()["total"] == 2


async def test_a_key_is_shown_once_and_is_nowhere_but_there(keyed: Keyed) -> None:
    made = await keyed.make(name="shown")
    key = made["key"]
    assert key.startswith("pk-")
    assert len(key) >= 43
    assert key.startswith(made["prefix"])
    seen = [
        (await keyed.ask(MANAGE, "GET", KEYS)).body,
        (await keyed.ask(MANAGE, "GET", f"{KEYS}/{made['id']}")).body,
        (await keyed.ask(key, "GET", "/info")).body,
        (await keyed.ask(key, "GET", f"/v1/projects/n?api_key={key}")).body,
        (await keyed.ask(f"{key}x", "GET", "/info")).body,
        (await keyed.server.ask("GET", f"/nothing?api_key={key}")).body,
    ]
    await keyed.revoke(made["id"])
    seen.append((await keyed.ask(key, "GET", "/info")).body)
    log = keyed.log()
    assert "key_created" in log
    assert "key_revoked" in log
    folder = keyed.server.app.settings.data_dir
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert any(made["id"].encode() in one for one in files)
    for secret in (key, MANAGE, INFER):
        assert all(secret.encode() not in one for one in (*seen, *files, log.encode()))


async def test_other_users_of_the_machine_can_not_read_the_state(keyed: Keyed) -> None:
    await keyed.make()
    files = list(keyed.server.app.settings.data_dir.glob("state.db*"))
    assert len(files) >= 2
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


async def test_keys_are_listed_with_those_of_the_settings_and_found_by_id(keyed: Keyed) -> None:
    scopes = {"verbs": ["read"], "projects": ["n/p"], "models": None}
    made = await keyed.make(name="one", scopes=scopes, expires_at=int(time.time()) + 900)
    listed = (await keyed.ask(MANAGE, "GET", KEYS)).json()
    assert [(one["source"], one["kind"]) for one in listed] == [
        ("settings", "management"), ("settings", "inference"), ("api", "inference"),
    ]  # fmt: skip
    assert listed[0]["name"] == "auth.management_keys[0]"
    assert made.pop("key")
    assert listed[2] == made
    assert made["scopes"] == scopes
    assert (await keyed.ask(MANAGE, "GET", f"{KEYS}/{made['id']}")).json() == made
    assert (await keyed.ask(MANAGE, "GET", f"{KEYS}/none")).status == 404
    assert (await keyed.ask(MANAGE, "DELETE", f"{KEYS}/none")).status == 404
    reply = await keyed.ask(MANAGE, "DELETE", f"{KEYS}/{listed[0]['id']}")
    assert (reply.status, "settings" in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"name": ""}, "name"),
        ({"kind": "other"}, "kind"),
        ({"expires_at": 5}, "expires_at"),
        ({"scopes": {"verbs": ["manage"]}}, "verbs"),
        ({"scopes": {"verbs": []}}, "verbs"),
        ({"scopes": {"projects": []}}, "projects"),
        ({"scopes": {"projects": ["n"]}}, "projects"),
        ({"scopes": {"projects": ["*/p"]}}, "projects"),
        ({"scopes": {"projects": ["n/p*"]}}, "projects"),
        ({"scopes": {"models": []}}, "models"),
        ({"scopes": {"models": ["*x"]}}, "models"),
        ({"scopes": {"more": 1}}, "more"),
        ({"kind": "management", "scopes": {}}, "management"),
        ({"kind": "management", "permission_mode": "per_instance", "instance_ids": ["a"]}, "management"),
        ({"permission_mode": "per_instance"}, "instance_ids"),
        ({"permission_mode": "per_instance", "instance_ids": [1]}, "instance_ids"),
        ({"permission_mode": "allow_all", "instance_ids": ["a"]}, "instance_ids"),
        ({"permission_mode": "allow_all", "scopes": {}}, "scopes"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused_by_name(keyed: Keyed, body: dict[str, Any], says: str) -> None:
    reply = await keyed.ask(MANAGE, "POST", KEYS, {"name": "x", **body})
    assert (reply.status, set(reply.json())) == (400, {"error"})
    assert says in reply.json()["error"]
    assert len((await keyed.ask(MANAGE, "GET", KEYS)).json()) == 2


async def test_the_first_key_is_one_that_manages_and_closes_the_server(tmp_path: Path) -> None:
    async with keyed_server(tmp_path / "data", auth={}) as keyed:
        assert (await keyed.ask(None, "GET", "/info")).status == 200
        reply = await keyed.ask(None, "POST", KEYS, {"name": "app"})
        assert (reply.status, "management" in reply.json()["error"]) == (400, True)
        assert not keyed.server.app.gatekeeper.closed
        first = await keyed.make(by=None, kind="management")
        assert (await keyed.ask(None, "GET", "/info")).status == 401
        assert (await keyed.ask(first["key"], "GET", "/info")).status == 200
        app = await keyed.make(by=first["key"], kind="inference")
        reply = await keyed.ask(first["key"], "DELETE", f"{KEYS}/{first['id']}")
        assert (reply.status, "last management key" in reply.json()["error"]) == (400, True)
        second = await keyed.make(by=first["key"], kind="management")
        await keyed.revoke(first["id"], by=first["key"])  # its own: it is told that it was done
        for key, status in ((first["key"], 401), (second["key"], 200)):
            assert (await keyed.ask(key, "GET", "/info")).status == status
        assert (await keyed.ask(app["key"], "GET", "/info")).status == 403


async def test_two_first_keys_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    async with keyed_server(tmp_path / "data", auth={}) as keyed:
        bodies = [{"name": "a", "kind": kind} for kind in ("inference", "management", "inference")]
        replies = await asyncio.gather(*(keyed.ask(None, "POST", KEYS, body) for body in bodies))
        assert replies[1].status == 201
        assert {reply.status for reply in replies} <= {201, 400, 401}


async def test_two_managers_who_revoke_each_other_at_once_leave_one(tmp_path: Path) -> None:
    async with keyed_server(tmp_path / "data", auth={}) as keyed:
        one = await keyed.make(by=None, kind="management")
        other = await keyed.make(by=one["key"], kind="management")
        pairs = ((one, other), (other, one))
        await asyncio.gather(*(keyed.ask(by["key"], "DELETE", f"{KEYS}/{key['id']}") for by, key in pairs))
        statuses = [(await keyed.ask(key["key"], "GET", "/info")).status for key in (one, other)]
        assert sorted(statuses) == [200, 401]


async def test_keys_outlive_a_restart_and_so_does_their_end(tmp_path: Path) -> None:
    async with keyed_server(tmp_path / "data") as keyed:
        kept, revoked = await keyed.make(name="kept"), await keyed.make(name="revoked")
        await keyed.revoke(revoked["id"])
    async with keyed_server(tmp_path / "data") as keyed:
        assert (await keyed.ask(kept["key"], "GET", "/v1/models")).status == 200
        assert (await keyed.ask(revoked["key"], "GET", "/v1/models")).status == 401
        found = (await keyed.ask(MANAGE, "GET", f"{KEYS}/{revoked['id']}")).json()
        assert found["revoked_at"] is not None


async def test_revoking_one_key_revokes_one(keyed: Keyed) -> None:
    keys = [await keyed.make(name="same") for _ in range(3)]
    await keyed.revoke(keys[1]["id"])
    statuses = [(await keyed.ask(key["key"], "GET", "/v1/models")).status for key in keys]
    assert statuses == [200, 401, 200]
    assert (await keyed.ask(MANAGE, "DELETE", f"{KEYS}/{keys[1]['id']}")).status == 404


async def test_a_stored_key_lets_the_server_listen_beyond_the_loopback_and_nothing_else_does(tmp_path: Path) -> None:
    outside = {"server": {"host": "0.0.0.0"}}
    with pytest.raises(ValidationFailed, match="no key exists"):
        async with running_server(tmp_path / "data", installed=False, settings=outside):
            raise AssertionError("it listens")
    async with keyed_server(tmp_path / "data", auth={}) as keyed:
        await keyed.make(by=None, kind="management")
    async with keyed_server(tmp_path / "data", auth={}) as keyed:
        settings = keyed.server.app.settings.server
        check_bind(settings, closed=keyed.server.app.gatekeeper.closed)
    async with running_server(tmp_path / "data", installed=False, settings=outside) as server:
        port = server.base_url.rpartition(":")[2]
        reply = await server.session.get(f"http://127.0.0.1:{port}/info")
        assert reply.status == 401


async def test_authentication_comes_before_the_body_is_read(keyed: Keyed) -> None:
    """A body that never ends is answered at once."""
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b'{"x": "'
        await held.wait()

    for key, status in (("wrong", 401), (INFER, 403)):
        asking = keyed.ask(key, "POST", KEYS, data=body())
        reply = await asyncio.wait_for(asking, BOUND)
        assert reply.status == status
    held.set()
