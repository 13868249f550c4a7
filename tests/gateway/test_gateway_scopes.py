"""Keys that are for some models see and use those alone."""

from __future__ import annotations

from typing import Any

import pytest

from paddock.contracts import gateway as contracts
from paddock.contracts.base import Caller, Context, Reply, Scope, endpoints_of
from paddock.contracts.gateway import CatalogueQuery, GatewayRequest, ModelPath
from paddock.errors import BadRequest, Forbidden, ModelNotFound
from tests.gateway.conftest import Gate

CHAT = next(one for one in endpoints_of(contracts) if one.name == "gateway_chat_completions")


def context(*models: str, projects: tuple[str, ...] | None = None) -> Context:
    """The request of a key for these models."""
    scope = Scope(models=models if models or projects is None else None, projects=projects)
    return Context(CHAT, "req_test", "http://127.0.0.1", {}, Caller("inference", "key", "id-1", scope))


@pytest.fixture
def gateway_settings() -> dict[str, Any]:
    return {"aliases": {"fast": "one/m", "slow": "org/deep"}, "fallbacks": {"one/m": ["two/n"]}, "retries": 0}


async def ask(gate: Gate, ctx: Context, model: str) -> Reply:
    data = GatewayRequest(model=model, stream=False, raw=b'{"model": "%s", "messages": []}' % model.encode())
    return await gate.server.app.services.gateway.gateway_chat_completions(ctx, data)


@pytest.mark.parametrize(
    ("scope", "allowed", "refused"),
    [
        (("m",), ["m"], ["one/m", "two/m", "fast", "org/deep", "one/shared"]),
        (("one/m",), ["m", "one/m", "fast"], ["two/m", "one/mm", "n"]),
        (("one/*",), ["m", "one/m", "one/other", "fast", "shared", "one/shared"], ["two/shared", "n"]),
        (("fast", "slow"), ["fast", "slow"], ["m", "one/m", "org/deep", "two/org/deep"]),
        (("*",), ["m", "two/n", "fast"], []),
        ((), [], ["m", "one/m", "fast"]),
    ],
)
async def test_a_key_may_use_what_it_names(
    gate: Gate, scope: tuple[str, ...], allowed: list[str], refused: list[str]
) -> None:
    ctx = context(*scope)
    for name in allowed:
        assert (await ask(gate, ctx, name)).status == 200, name
    for name in refused:
        with pytest.raises(ModelNotFound) as caught:
            await ask(gate, ctx, name)
        assert "Not reached" not in caught.value.message


async def test_an_error_names_only_what_the_key_may_use(gate: Gate) -> None:
    with pytest.raises(ModelNotFound) as caught:
        await ask(gate, context("one/m"), "org/dep")
    assert "org/deep" not in caught.value.message
    with pytest.raises(BadRequest) as ambiguous:
        await ask(gate, context("*"), "shared")
    assert "one/shared, two/shared" in ambiguous.value.message


async def test_a_fallback_that_the_key_may_not_use_is_left_out(gate: Gate) -> None:
    await gate.models()
    await gate.one.stop()
    assert (await ask(gate, context("one/m", "two/n"), "one/m")).status == 200
    with pytest.raises(Exception, match="can't connect"):
        await ask(gate, context("one/m"), "one/m")


async def test_a_key_for_projects_can_not_use_the_gateway(gate: Gate) -> None:
    with pytest.raises(Forbidden, match="for projects"):
        await ask(gate, context(projects=("n/p",)), "m")


async def test_the_catalogue_shows_only_what_the_key_may_use(gate: Gate) -> None:
    import json

    service = gate.server.app.services.gateway
    await gate.two.stop()
    for scope, names in ((("one/m",), ["m"]), (("fast",), ["fast"]), (("one/*",), ["m", "shared"]), ((), [])):
        reply = await service.model_catalogue_list(context(*scope), CatalogueQuery())
        assert isinstance(reply.body, bytes)
        body = json.loads(reply.body)
        assert [item["id"] for item in body["data"]] == names
        assert "unavailable" not in body
    with pytest.raises(ModelNotFound):
        await service.model_catalogue_get(context("one/m"), ModelPath(model_id="hashing"))
