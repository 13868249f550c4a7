"""What a plugin gets from the core for one application: services with a lifetime, rows of its own, the log and the events."""

# mypy: disable-error-code="empty-body"

import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paddock.contracts.base import Context, Json, Service, endpoint, hookimpl
from paddock.contracts.providers import ChatModel, Environment, Records
from paddock.errors import ProviderUnavailable
from paddock.outgoing import OutgoingClient
from paddock.testing.chat import EchoModel
from paddock.testing.host import MemoryHost, MemoryRecords
from paddock.testing.server import RunningServer, running_server
from paddock.testing.upstream import FakeUpstream


@endpoint("GET", "/s/notes", access="read")
def s_notes_list(ctx: Context) -> Awaitable[dict[str, Json]]:
    """Return the rows."""


@endpoint("POST", "/s/notes", access="write", status=204)
def s_note_add(ctx: Context, data: dict[str, Json]) -> Awaitable[None]:
    """Keep a row."""


class Notes(Service):
    """Keeps notes in the records of its plugin."""

    def __init__(self, env: Environment, life: list[str]) -> None:
        self._host = env.host
        self._life = life

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self._life.append("started")
        await self._host.records.put("boots", "last", self._host.port)
        yield
        self._life.append(f"stopped, stopping was {self._host.stopping.is_set()}")

    @hookimpl
    async def s_notes_list(self) -> dict[str, Json]:
        return {"notes": await self._host.records.all("note"), "port": await self._host.records.get("boots", "last")}

    @hookimpl
    async def s_note_add(self, data: dict[str, Json]) -> None:
        await self._host.records.put("note", data["name"], data)
        self._host.record("note", name=data["name"])


class Plugin:
    """Hands over one service for each application."""

    paddock_contracts = (sys.modules[__name__],)

    def __init__(self) -> None:
        self.life: list[str] = []

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        return [Notes(env, self.life)]


class Failing(Plugin):
    """Hands over what is no service."""

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Any]:
        return [Notes(env, self.life), object()]

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [EchoModel()]


async def add(server: RunningServer, name: str) -> None:
    reply = await server.ask("POST", "/s/notes", {"name": name})
    assert (reply.status, reply.body) == (204, b"")


async def test_a_service_implements_endpoints_and_lives_as_long_as_its_application(tmp_path: Path) -> None:
    plugin = Plugin()
    async with running_server(tmp_path, plugins={"notes": plugin}, installed=False) as server:
        await add(server, "one")
        found = (await server.ask("GET", "/s/notes")).json()
        assert found["notes"] == {"one": {"name": "one"}}
        assert server.base_url.endswith(f":{found['port']}")
        assert plugin.life == ["started"]
    assert plugin.life == ["started", "stopped, stopping was True"]


async def test_two_applications_of_one_plugin_object_share_nothing(tmp_path: Path) -> None:
    plugin = Plugin()
    async with (
        running_server(tmp_path / "a", plugins={"notes": plugin}, installed=False) as one,
        running_server(tmp_path / "b", plugins={"notes": plugin}, installed=False) as two,
    ):
        await add(one, "mine")
        assert (await two.ask("GET", "/s/notes")).json()["notes"] == {}


async def test_rows_outlive_the_server(tmp_path: Path) -> None:
    for names in (["first"], ["first", "second"]):
        async with running_server(tmp_path, plugins={"notes": Plugin()}, installed=False) as server:
            await add(server, names[-1])
            assert list((await server.ask("GET", "/s/notes")).json()["notes"]) == names


async def test_plugins_do_not_see_each_others_rows(tmp_path: Path) -> None:
    async with running_server(tmp_path, plugins={"notes": Plugin()}, installed=False) as server:
        await add(server, "mine")
    other = {"other": Plugin()}
    async with running_server(tmp_path, plugins=other, installed=False) as server:
        assert (await server.ask("GET", "/s/notes")).json()["notes"] == {}


async def test_a_plugin_whose_service_is_none_is_left_out_with_all_its_services_and_providers(tmp_path: Path) -> None:
    plugin = Failing()
    async with running_server(tmp_path, plugins={"bad": plugin}, installed=False) as server:
        shown = {item["name"]: item for item in (await server.ask("GET", "/v1/system/plugins")).json()["plugins"]}
        assert "Service" in shown["bad"]["error"]
        assert (await server.ask("GET", "/s/notes")).status == 503
        assert server.app.plugins.chat_models.get("echo") is None
    assert plugin.life == []


async def test_the_list_of_plugins_names_the_endpoints_of_services(tmp_path: Path) -> None:
    async with running_server(tmp_path, plugins={"notes": Plugin()}, installed=False) as server:
        shown = {item["name"]: item for item in (await server.ask("GET", "/v1/system/plugins")).json()["plugins"]}
    assert shown["notes"]["endpoints"] == ["s_notes_list", "s_note_add"]


class TestRecords:
    """The real rows and the shipped ones in memory behave alike."""

    @pytest.fixture(params=["database", "memory"])
    async def records(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Records]:
        if request.param == "memory":
            yield MemoryHost().records
            return
        async with running_server(tmp_path, installed=False) as server:
            from paddock.services.hosting import PluginRecords

            yield PluginRecords(server.app.core, "tested")

    async def test_a_row_is_replaced_read_and_deleted(self, records: Records) -> None:
        await records.put("kind", "a", {"n": 1})
        await records.put("kind", "b", [1.5, None, "ü"])
        await records.put("kind", "a", {"n": 2})
        assert await records.get("kind", "a") == {"n": 2}
        assert list(await records.all("kind")) == ["a", "b"]
        assert await records.delete("kind", "a") is True
        assert await records.delete("kind", "a") is False
        assert await records.get("kind", "a") is None

    async def test_what_is_json_already_is_stored_as_it_is(self, records: Records) -> None:
        await records.put("kind", "a", msgspec.Raw(b'{"n": [1, 2]}'))
        assert await records.get("kind", "a") == {"n": [1, 2]}

    async def test_kinds_are_apart(self, records: Records) -> None:
        await records.put("one", "a", 1)
        assert await records.all("two") == {}
        assert await records.get("two", "a") is None

    async def test_names_are_data_and_never_sql(self, records: Records) -> None:
        name = "'; DROP TABLE records; --\x00%_"
        await records.put("kind", name, 1)
        assert await records.all("kind") == {name: 1}


def test_rows_in_memory_are_copies() -> None:
    import asyncio

    async def run() -> None:
        records, body = MemoryRecords(), {"n": [1]}
        await records.put("kind", "a", body)
        body["n"].append(2)
        assert await records.get("kind", "a") == {"n": [1]}

    asyncio.run(run())


class TestTrustedAddresses:
    async def test_a_child_on_the_loopback_is_reached_without_an_entry_in_the_settings(self) -> None:
        async with FakeUpstream() as upstream:
            client = OutgoingClient()
            with pytest.raises(Exception, match=r"outgoing\.allow"):
                client.send("GET", f"http://{upstream.allow}/v1/models")
            async with client.send("GET", f"http://{upstream.allow}/v1/models", trusted=True) as reply:
                assert reply.status == 200
            await client.close()

    @pytest.mark.parametrize("url", ["http://192.0.2.7:80/", "http://localhost:80/", "http://10.0.0.1:80/"])
    async def test_nothing_but_a_literal_loopback_address_can_be_trusted(self, url: str) -> None:
        client = OutgoingClient()
        with pytest.raises(ValueError, match="loopback"):
            client.send("GET", url, trusted=True)
        await client.close()

    async def test_a_child_that_is_gone_is_unavailable(self) -> None:
        async with FakeUpstream() as upstream:
            url = f"http://{upstream.allow}/"
        client = OutgoingClient()
        with pytest.raises(ProviderUnavailable):
            async with client.send("GET", url, trusted=True):
                pass
        await client.close()
