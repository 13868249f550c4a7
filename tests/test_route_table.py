"""Rules that hold for every route, walked over the whole table: the same mistake comes back at the next endpoint."""

import io
import typing
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import structs

from paddock.contracts.base import Endpoint, endpoints_of, parameter_plan
from paddock.services import CONTRACTS
from paddock.testing.server import Answered, RunningServer, running_server

ALL = [item for module in CONTRACTS for item in endpoints_of(module)]
# What takes every method is asked with one that has a body.
ENDPOINTS = [
    structs.replace(item, method="POST") if item.method == "*" else item for item in ALL if item.kind != "websocket"
]
KEYS = {"management_keys": ["m-key"], "inference_keys": ["i-key"]}
UNLIMITED = {"requests_per_minute": 0, "expensive_per_minute": 0}
SETTINGS: dict[str, dict[str, Any]] = {
    "rate_limit": UNLIMITED,
    "server": {"swagger": True},
    "llama_server": {"command": "echo"},  # any program that answers --help
}
# Ids that have no business in a path; what a client sends and what reaches the server.
HOSTILE = ["..", "%2e%2e", "..%2f..%2fetc", "a%00b", "a%5Cb", "%F0%9F%92%A5", "a" * 10_000, "-" * 65, "%C2%AD", "a%20b"]


def named(items: list[Endpoint]) -> dict[str, Any]:
    """Arguments for parametrize, with the operation's name as the id."""
    return {"argvalues": items, "ids": [item.name for item in items]}


def path_of(item: Endpoint, value: str = "x") -> str:
    """The path with every parameter filled."""
    path = item.path
    while "{" in path:
        before, _, rest = path.partition("{")
        path = before + value + rest.partition("}")[2]
    return path


async def call(server: RunningServer, item: Endpoint, path: str | None = None, **given: Any) -> Answered:
    """Call an endpoint without a body unless one is given."""
    return await server.ask(item.method, path or path_of(item), **given)


BODIES = {
    "project_update": {"config": {"version": "v1", "name": "x", "namespace": "x", "runtime": {"models": []}}},
    "chat_completions": {"messages": [{"role": "user", "content": "x"}]},
    "dataset_create": {"name": "x", "database": "x", "data_processing_strategy": "x"},
    "dataset_actions": {"action_type": "process"},
    "rag_query": {"query": "x", "database": "x"},
    "database_create": {"name": "x", "type": "SqliteVecStore"},
    "database_preview": {"file_content": "eA==", "filename": "x.txt"},
    **{item.name: {"model": "x"} for item in ENDPOINTS if item.name.startswith("gateway_")},
    **{f"text_{what}": {"model": "x", "texts": []} for what in ("classify", "entities")},
    "key_create": {"name": "x", "kind": "management"},
    "auth_login": {"username": "x", "password": "x"},
    **{f"{kind}anomaly_fit": {"data": [[1], [2]]} for kind in ("", "ml_")},
    **{f"{kind}anomaly_{what}": {"data": [[1]]} for kind in ("", "ml_") for what in ("score", "detect")},
    "model_download": {"model_name": "x"},
    "model_download_validate": {"model_name": "x"},
    "ocr_create": {"images": ["eA=="]},
    "documents_extract": {"model": "x", "images": ["eA=="]},
    **{
        f"{kind}classifier_fit": {
            "model": "x",
            "training_data": [{"text": "x", "label": "a"}, {"text": "y", "label": "b"}],
        }
        for kind in ("", "ml_")
    },
    **{f"{kind}classifier_predict": {"model": "x", "texts": ["x"]} for kind in ("", "ml_")},
    **{f"{kind}classifier_{what}": {"model": "x"} for kind in ("", "ml_") for what in ("save", "load")},
    "example_import_project": {"namespace": "x", "name": "x"},
    "example_import_data": {"namespace": "x", "project": "x"},
    "example_import_dataset": {"namespace": "x", "project": "x", "dataset": "x"},
}


def message_of(item: Endpoint, body: Any) -> str:
    """The sentence of an error in the shape of the endpoint's API."""
    if item.api in ("llamafarm", "chat"):
        return str(body["detail"])
    if item.api in ("openai", "anthropic"):
        assert item.api == "openai" or body["type"] == "error"
        return str(body["error"]["message"])
    return str(body["error"])


def invalid_status(item: Endpoint) -> int:
    """The status of a wrong body in the endpoint's API."""
    return 422 if item.api in ("llamafarm", "chat") else 400


def filled_in(item: Endpoint) -> dict[str, Any]:
    """The arguments of a request that is right but for what its path names."""
    query = {"task_id": "x"} if item.name == "dataset_process_cancel" else {}
    if item.kind == "upload":
        return {"params": query, "data": aiohttp.FormData({"file": io.BytesIO(b"x")})}
    return {"params": query} if item.data is None else {"params": query, "body": BODIES.get(item.name, {})}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings=SETTINGS) as running:
        yield running


@pytest.fixture
async def locked(tmp_path: Path) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", settings={"auth": KEYS, "rate_limit": UNLIMITED}) as running:
        yield running


async def test_every_contract_is_implemented(server: RunningServer) -> None:
    assert server.app.plugins.missing() == []


def test_every_route_states_an_access_class() -> None:
    assert all(item.access in ("open", "read", "write", "infer", "manage") for item in ALL)


def test_only_liveness_the_greeting_and_what_gives_out_tokens_are_open() -> None:
    tokens = {f"/api/auth/{name}" for name in ("login", "refresh", "logout")}
    assert {item.path for item in ALL if item.access == "open"} == {"/", "/health/liveness"} | tokens


def test_operation_ids_are_unique() -> None:
    names = [item.name for item in ALL]
    assert len(names) == len(set(names))


async def test_without_a_key_every_closed_route_answers_401_before_it_reads_the_body(locked: RunningServer) -> None:
    for item in ENDPOINTS:
        if item.access == "open":
            continue
        body = None if item.method == "GET" else io.BytesIO(b"{" + b"x" * 100)
        reply = await call(locked, item, data=body)
        assert reply.status == 401, item.name
        assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("carrier", ["bearer", "header", "query"])
async def test_every_way_to_send_a_key_gives_the_same_decision_on_every_route(
    locked: RunningServer, carrier: str
) -> None:
    for item in ENDPOINTS:
        for key, admitted in (("m-key", True), ("i-key", item.access in ("open", "infer")), ("no-key", False)):
            path, headers = path_of(item), {}
            if carrier == "query":
                path += f"?api_key={key}"
            else:
                headers = {"Authorization": f"Bearer {key}"} if carrier == "bearer" else {"X-API-Key": key}
            reply = await call(locked, item, path, headers=headers)
            refused = reply.status in (401, 403)
            if item.group != "accounts":  # they look at the token themselves
                assert refused is (not admitted and item.access != "open"), (item.name, key, reply.status)


async def test_a_foreign_host_is_refused_on_every_route(server: RunningServer) -> None:
    for item in ENDPOINTS:
        reply = await call(server, item, headers={"Host": "rebound.example"})
        assert reply.status == 403, item.name


async def test_a_foreign_origin_is_refused_on_every_route_that_changes_something(server: RunningServer) -> None:
    for item in ENDPOINTS:
        if item.method != "GET":
            reply = await call(server, item, headers={"Origin": "http://elsewhere.example"})
            assert reply.status == 403, item.name


async def test_no_route_allows_foreign_pages_by_default(server: RunningServer) -> None:
    for item in ENDPOINTS:
        reply = await call(server, item, headers={"Origin": "http://elsewhere.example"})
        assert "Access-Control-Allow-Origin" not in reply.headers, item.name


async def test_a_body_over_the_limit_is_413_on_every_route_that_takes_one(tmp_path: Path) -> None:
    limits = {"server": {"max_body_bytes": 1000}, "uploads": {"max_bytes": 1000}, "rate_limit": UNLIMITED}
    async with running_server(tmp_path / "data", settings=limits) as server:
        for item in ENDPOINTS:
            if item.data is not None and item.kind in ("json", "reply"):
                long = b"y" * 2 * (item.body_limit or 1000)
                reply = await call(server, item, data=io.BytesIO(b'{"x": "' + long + b'"}'))
                assert reply.status == 413, (item.name, reply.body)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"{", b"\xff\xfe", b"[]", b"null", b'"text"', b"1e999"])
async def test_a_hostile_body_is_refused_on_every_route_that_takes_one(server: RunningServer, body: bytes) -> None:
    for item in ENDPOINTS:
        if body == b"null" and item.name == "older_instance_stop":
            continue  # its body may be left out, and null says so
        if item.data is not None and item.kind in ("json", "reply"):
            reply = await call(server, item, data=io.BytesIO(body))
            expected = 413 if item.body_limit and len(body) > item.body_limit else invalid_status(item)
            assert reply.status == expected, (item.name, reply.status, reply.body)
            assert message_of(item, reply.json())


@pytest.mark.parametrize("value", HOSTILE, ids=[value[:12] for value in HOSTILE])
async def test_an_id_that_would_walk_the_tree_never_reaches_a_file(server: RunningServer, value: str) -> None:
    import yarl

    for item in ENDPOINTS:
        if "{" in item.path:
            url = yarl.URL(server.base_url + path_of(item, value), encoded=True)
            async with server.session.request(item.method, url) as reply:
                text = await reply.text()
                assert reply.status in (400, 404, 405, 422), (item.name, reply.status, text)
                assert "root:" not in text
                assert str(server.app.settings.data_dir) not in text


async def test_an_unknown_project_is_404_on_every_route_of_a_project(server: RunningServer) -> None:
    for item in ENDPOINTS:
        if "{project}" not in item.path:
            continue
        reply = await server.ask(item.method, path_of(item), **filled_in(item))
        assert reply.status == 404, (item.name, reply.status, reply.body)


async def test_an_unknown_thing_in_a_project_is_404_and_one_sentence(server: RunningServer) -> None:
    assert (await server.ask("POST", "/v1/projects/x", {"name": "x"})).status == 200
    for item in ENDPOINTS:
        path = item.path.replace("{namespace}/{project}", "x/x").replace("/v1/projects/{namespace}", "")
        if ("{" not in path and item.name != "rag_query") or item.name == "instance_create":
            continue
        reply = await server.ask(item.method, path_of(item), **filled_in(item))
        assert reply.status == 404, (item.name, reply.status, reply.body)
        assert " " in message_of(item, reply.json()), item.name


async def test_a_parameter_of_the_wrong_type_is_422_and_names_itself(server: RunningServer) -> None:
    assert (await server.ask("POST", "/v1/projects/x", {"name": "x"})).status == 200
    seen = set()
    for item in ENDPOINTS:
        for name, source, key, _ in parameter_plan(item):
            kind = typing.get_type_hints(item.params)[name]
            if source == "query" and kind in (int, bool):
                given = filled_in(item)
                given["params"] = {**given["params"], key: "many"}
                reply = await server.ask(item.method, path_of(item), **given)
                assert reply.status == invalid_status(item), (item.name, key, reply.body)
                assert key in message_of(item, reply.json())
                seen.add(key)
    assert {"limit", "offset", "remove_from_disk", "delete_collection", "include_extra_details"} <= seen


async def test_a_slash_behind_a_path_changes_nothing(server: RunningServer) -> None:
    for item in ENDPOINTS:
        if item.method == "GET" and "{" not in item.path and item.path != "/":
            plain, slashed = [(await server.ask("GET", path)).status for path in (item.path, item.path + "/")]
            assert plain == slashed == 200, item.name


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/nothing", {"detail"}),
        ("/v1/nothing/at/all", {"detail"}),
        ("/api/v1/nothing", {"error"}),
        ("/api/nothing", {"error", "code", "details"}),
    ],
)
async def test_an_unknown_path_is_json_in_the_shape_of_its_api(
    server: RunningServer, path: str, keys: set[str]
) -> None:
    reply = await server.ask("GET", path)
    assert (reply.status, set(reply.json())) == (404, keys)


async def test_a_wrong_method_is_405_in_the_shape_of_its_api(server: RunningServer) -> None:
    reply = await server.ask("DELETE", "/info")
    assert reply.status == 405
    assert "GET" in reply.headers["allow"]
    assert "detail" in reply.json()


@pytest.mark.parametrize("item", **named([one for one in ENDPOINTS if one.api in ("openai", "anthropic")]))
async def test_what_refuses_a_request_before_its_endpoint_is_known_has_the_shape_of_the_path(
    server: RunningServer, item: Endpoint
) -> None:
    if "{" in item.path:
        return  # below /v1/models there are paths of two APIs
    for status, reply in (
        (405, await server.ask("PATCH", item.path)),
        (403, await server.ask(item.method, item.path, headers={"Host": "evil.example"})),
    ):
        assert reply.status == status
        assert set(reply.json()) == ({"error"} if item.api == "openai" else {"type", "error"})
        assert isinstance(reply.json()["error"]["message"], str)


async def test_every_reply_carries_a_request_id_and_a_good_one_is_kept(server: RunningServer) -> None:
    reply = await server.ask("GET", "/info", headers={"X-Request-ID": "my-id.1"})
    assert reply.headers["X-Request-ID"] == "my-id.1"
    reply = await server.ask("GET", "/nothing", headers={"X-Request-ID": "bad id"})
    assert reply.headers["X-Request-ID"].startswith("req_")


async def test_enormous_headers_are_refused(server: RunningServer) -> None:
    reply = await server.ask("GET", "/info", headers={f"X-{n}": "y" * 4000 for n in range(20)})
    assert reply.status == 400


async def test_the_api_document_names_every_route_with_its_errors(server: RunningServer) -> None:
    document = (await server.ask("GET", "/openapi.json")).json()
    for item in ENDPOINTS:
        operation = document["paths"][item.path.replace(":path}", "}")][item.method.lower()]
        assert operation["operationId"].removesuffix("_post") == item.name
        assert set(item.tags) <= set(operation["tags"])
        assert "500" in operation["responses"]
        if item.data is not None:
            assert "requestBody" in operation
        for error in item.raises:
            assert str(error.status) in operation["responses"], (item.name, error)


async def test_references_in_the_api_document_lead_somewhere(server: RunningServer) -> None:
    document = (await server.ask("GET", "/openapi.json")).json()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert node["$ref"].rpartition("/")[2] in document["components"]["schemas"]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)
