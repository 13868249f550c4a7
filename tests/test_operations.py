"""The host and the settings over HTTP: figures, and which settings can be changed how."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import tomllib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import (
    Environment,
    GatewayCall,
    HttpReply,
    InstanceCounts,
    ModelInfo,
    ModelServer,
    TypeName,
)
from paddock.errors import BadRequest, ValidationFailed
from paddock.plugins import Loaded, discover, settings_sections
from paddock.services.saved_settings import changed, settable, toml
from paddock.settings import SAVED, Layers, load_settings
from paddock.testing.server import Answered, RunningServer, running_server

UNLIMITED = {"requests_per_minute": 0, "expensive_per_minute": 0}
SECRETS: dict[str, Any] = {
    "auth": {"management_keys": ["m-secret"], "inference_keys": ["i-secret"], "admin_password": "p-secret"},
    "openai": {"api_key": "o-secret", "base_url": "https://example.com/v1"},
    "gateway": {
        "upstreams": {
            "up": {
                "base_url": "https://example.com/v1",
                "api_key": "g-secret",
                "headers": {"X-Auth-Token": "h-secret"},
            }
        }
    },
    "rate_limit": UNLIMITED,
}


class Farm(ModelServer):
    """A model server that says how many instances it has."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("farm"),)

    def serve(self, call: GatewayCall) -> AbstractAsyncContextManager[HttpReply]:
        raise AssertionError("nobody asks it")

    async def models(self) -> list[ModelInfo]:
        return []

    def instance_counts(self) -> InstanceCounts | None:
        return InstanceCounts(total=3, running=1, stopped=1)


class FarmPlugin:
    """Its plugin."""

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        return [Farm()]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    settings = {"rate_limit": UNLIMITED}
    async with running_server(tmp_path / "data", plugins={"farm": FarmPlugin()}, settings=settings) as running:
        yield running


async def put(server: RunningServer, body: Any, **given: Any) -> Answered:
    return await server.ask("PUT", "/api/config", body, **given)


def saved(server: RunningServer) -> Any:
    path = server.app.settings.data_dir / SAVED
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


async def test_the_status_tells_what_the_host_and_its_instances_do(server: RunningServer) -> None:
    found = (await server.ask("GET", "/api/system/status")).json()
    assert set(found) == {"version", "uptime", "instances", "resources"}
    assert (found["version"], found["uptime"] >= 0) == (metadata.version("paddock"), True)
    assert {key: found["instances"][key] >= least for key, least in (("total", 3), ("running", 1), ("stopped", 1))} == {
        "total": True, "running": True, "stopped": True,
    }  # fmt: skip
    resources = found["resources"]
    assert set(resources) == {"cpu_usage", "memory_usage", "memory_total", "disk_usage"}
    assert 0 < resources["memory_usage"] < resources["memory_total"]
    assert 0 <= resources["disk_usage"] <= 100
    assert 0 <= resources["cpu_usage"] <= 100


async def test_the_info_tells_what_the_host_is_in_gos_words(server: RunningServer) -> None:
    found = (await server.ask("GET", "/api/system/info")).json()
    assert set(found) == {"hostname", "os", "arch", "cpu_count", "memory_total", "version", "build_time"}
    assert found["hostname"] == socket.gethostname()
    assert found["os"] in ("linux", "darwin")
    assert found["arch"] in ("amd64", "arm64")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["build_time"])


async def test_the_settings_are_shown_without_their_secrets(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", settings=SECRETS) as server:
        reply = await server.ask("GET", "/api/config", headers={"X-API-Key": "m-secret"})
    assert reply.status == 200
    assert b"-secret" not in reply.body
    found = reply.json()
    assert found["chat"]["session_ttl"] == 1800
    assert found["auth"]["management_keys"] == found["openai"]["api_key"] == "********"


async def test_a_change_is_saved_whole_and_counts_from_the_next_start_on(server: RunningServer) -> None:
    body = {"chat": {"session_ttl": 60}, "events": {"enabled": False}, "tasks": {"queue": "inprocess"}}
    reply = await put(server, body)
    assert reply.status == 200, reply.body
    found = reply.json()
    assert (found["requires_restart"], "next start" in found["message"]) == (True, True)
    assert (found["config"]["chat"]["session_ttl"], found["config"]["events"]["enabled"]) == (60, False)
    assert saved(server) == body
    now = (await server.ask("GET", "/api/config")).json()
    assert now["chat"]["session_ttl"] == 1800
    reply = await put(server, {"chat": {"session_ttl": None, "rag_context_tokens": 100}, "events": {}})
    assert reply.status == 200
    assert saved(server) == {**body, "chat": {"rag_context_tokens": 100}}


async def test_what_was_saved_stands_between_the_settings_file_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "my.toml").write_text("[chat]\nsession_ttl = 1\nrag_context_tokens = 1\nmax_history_messages = 1\n")
    (tmp_path / "data" / SAVED).write_text(
        "[chat]\nrag_context_tokens = 2\nmax_history_messages = 2\n[tasks]\nworkers = 2\n"
    )
    environ = {"PADDOCK_CHAT__MAX_HISTORY_MESSAGES": "3", "PADDOCK_DATA_DIR": str(tmp_path / "data")}
    found = load_settings({}, config=tmp_path / "my.toml", environ=environ, overrides={"tasks": {"workers": 4}})
    assert (found.chat.session_ttl, found.chat.rag_context_tokens, found.chat.max_history_messages) == (1, 2, 3)
    assert found.tasks.workers == 4


async def test_a_change_that_the_environment_or_the_command_line_hides_is_refused(tmp_path: Path) -> None:
    settings = {"chat": {"session_ttl": 5}, "rate_limit": UNLIMITED}
    async with running_server(tmp_path / "data", settings=settings) as server:
        reply = await put(server, {"chat": {"session_ttl": 60}})
        assert reply.status == 400
        assert "the command line" in reply.json()["error"]


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("auth", "management_keys", ["x"]),
        ("auth", "admin_password", "x"),
        ("auth", "token_ttl", 5),
        ("plugins", "disabled", ["openai"]),
        ("plugins", "required", ["x"]),
        ("server", "host", "0.0.0.0"),
        ("server", "port", 1),
        ("server", "data_dir", "/x"),
        ("server", "insecure", True),
        ("server", "allowed_hosts", ["x"]),
        ("server", "allowed_origins", ["*"]),
        ("outgoing", "allow", ["10.0.0.1:80"]),
        ("outgoing", "env", ["PATH"]),
        ("projects", "template_dirs", ["/etc"]),
        ("openai", "base_url", "http://elsewhere.example"),
        ("openai", "api_key", "x"),
        ("gateway", "upstreams", {}),
        ("gateway", "aliases", {"a": "b"}),
        ("ocr", "tesseract", "/bin/sh"),
        ("llama_server", "command", "/bin/sh"),
        ("llama_server", "allow_command_override", True),
        ("hub", "skip", []),
    ],
)
async def test_keys_commands_paths_and_addresses_can_not_be_set(
    server: RunningServer, section: str, key: str, value: Any
) -> None:
    reply = await put(server, {"chat": {"session_ttl": 5}, section: {key: value}})
    assert (reply.status, set(reply.json())) == (400, {"error", "code", "details"})
    assert f"{section}.{key}" in reply.json()["error"]
    assert saved(server) is None


def test_only_numbers_switches_fixed_words_and_two_names_can_be_set() -> None:
    """Walked over every section, those of the installed plugins too."""
    layers = Layers(settings_sections(discover()))
    found = set()
    for section, kind in layers.known.items():
        for field in msgspec.structs.fields(kind):
            with contextlib.suppress(BadRequest):
                settable(section, field.name, layers)
                default = getattr(kind(), field.name)
                if not isinstance(default, bool | int | float | None):
                    found.add(f"{section}.{field.name}")
    assert found == {"log.format", "log.level", "projects.default_template", "tasks.queue"}
    assert {"ocr", "llama_server", "hub"} <= set(layers.known)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"chat": {"session_ttl": "long"}}, "chat.session_ttl"),
        ({"chat": {"session_ttl": -1}}, "chat.session_ttl"),
        ({"chat": {"session_tll": 5}}, "session_ttl"),
        ({"chta": {"session_ttl": 5}}, "chat"),
        ({"log": {"level": "loud"}}, "log.level"),
        ({"tasks": {"workers": [1]}}, "tasks.workers"),
        ({"tasks": {"queue": "nowhere"}}, "nowhere"),
        ({"chat": 5}, "chat"),
        ([], "object"),
    ],
)
async def test_a_change_that_does_not_fit_is_refused_by_name_and_nothing_is_saved(
    server: RunningServer, body: Any, says: str
) -> None:
    reply = await put(server, body)
    assert reply.status == 400, reply.body
    assert says in reply.json()["error"]
    assert saved(server) is None


async def test_changes_at_once_are_all_saved_and_leave_no_half_file(server: RunningServer) -> None:
    bodies = [
        {"chat": {"session_ttl": n + 1}, "tasks": {name: n + 1}} for n, name in enumerate(("workers", "keep_days"))
    ]
    replies = await asyncio.gather(*(put(server, body) for body in bodies * 10))
    assert {reply.status for reply in replies} == {200}
    assert saved(server)["tasks"] == {"workers": 1, "keep_days": 2}
    assert [path.name for path in server.app.settings.data_dir.glob("*settings*")] == [SAVED]


def test_a_saved_text_comes_back_as_it_was() -> None:
    odd = 'a "quoted" \\ back\nline\ttab \x00\x1f\x7f é 🦆'
    raw = {"log": {"a": odd, "b": [odd, 1, 2.5, True], "c": False, "d": 1e300, "e": -3}}
    assert tomllib.loads(toml(raw)) == raw
    with pytest.raises(ValidationFailed, match=r"log\.x"):
        toml({"log": {"x": [{}]}})


def test_null_takes_a_setting_out_and_an_empty_section_with_it() -> None:
    assert changed({"a": {"x": 1, "y": 2}, "b": {"z": 3}}, {"a": {"x": None}, "b": {"z": None}, "c": {"n": None}}) == {
        "a": {"y": 2}
    }


def test_a_saved_file_that_sets_what_it_may_not_stops_the_start_by_name(tmp_path: Path) -> None:
    (tmp_path / SAVED).write_text("[server]\ndata_dir = '/elsewhere'\n")
    overrides = {"server": {"data_dir": str(tmp_path)}}
    assert load_settings({}, environ={}, overrides=overrides).data_dir == tmp_path
    (tmp_path / SAVED).write_text("[server]\nprot = 1\n")
    with pytest.raises(ValidationFailed, match=r"settings\.toml"):
        load_settings({}, environ={}, overrides=overrides)


def test_settings_without_a_plugin_are_put_together_again_without_it() -> None:
    loaded = [Loaded("x", "1", object())]
    layers = Layers(settings_sections(loaded), environ={"PADDOCK_TASKS__WORKERS": "7"})
    assert layers.load().tasks.workers == layers.load({}).tasks.workers == 7
    assert layers.above("tasks", "workers") == "the environment"
    assert layers.above("tasks", "queue") is None
