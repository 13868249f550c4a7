"""Both APIs over instances that only play: shapes, statuses, errors, logs."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from paddock_llama_server.masking import MASK
from paddock_llama_server.spec import LogLevel
from paddock_llama_server.testing import FakeInstances, FakePlugin

from paddock.testing.server import Answered, RunningServer, running_server

HELP = """----- common params -----
-h,    --help, --usage                  print usage and exit
-m,    --model FNAME                    model path to load
-c,    --ctx-size N                     size of the prompt context
-t,    --threads N                      number of CPU threads
-ngl,  --gpu-layers, --n-gpu-layers N   layers in VRAM
--temp, --temperature N                 temperature
--api-key KEY                           a key
--jinja                                 a template engine, see --no-jinja
--draft, --draft-max N                  the argument has been removed. use --spec-draft-n-max
"""


def binary(folder: Path, body: str = "") -> str:
    """A program that answers as llama-server does, and counts how often it is asked."""
    path = folder / "llama-server"
    body = (
        body or f"echo asked >> '{folder}/asked'\nfor a in \"$@\"; do echo \"got $a\"; done\ncat <<'END'\n{HELP}END\n"
    )
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


class Api:
    """A server with the instances behind it."""

    def __init__(self, server: RunningServer, fake: FakeInstances) -> None:
        self.server = server
        self.fake = fake

    async def ask(self, method: str, path: str, body: Any = None, **given: Any) -> Answered:
        return await self.server.ask(method, path, body, **given)

    async def good(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        reply = await self.ask(method, path, body)
        assert reply.status == status, reply.body
        return reply.json()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    plugin = FakePlugin()
    settings = {"llama_server": {"command": binary(tmp_path)}}
    async with running_server(
        tmp_path / "data", plugins={"llama-server": plugin}, settings=settings, installed=False
    ) as server:
        yield Api(server, plugin.instances)


class TestNewer:
    async def test_create_answers_201_and_starting(self, api: Api) -> None:
        made = await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf", "ctx_size": 0}, 201)
        assert (made["name"], made["status"], made["port"], made["pid"], made["last_error"]) == (
            "one", "starting", 9001, None, None,
        )  # fmt: skip
        assert type(made["created"]) is int
        assert made["options"] == {
            "backend_type": "llama_cpp", "backend_options": {"model": "/m.gguf", "ctx_size": 0},
        }  # fmt: skip
        assert await api.good("GET", "/api/v1/instances") == [made]
        assert await api.good("GET", "/api/v1/instances/one") == made

    async def test_what_a_reply_shows_makes_the_same_instance(self, api: Api) -> None:
        body = {"backend_options": {"model": "/m.gguf"}, "environment": {"A": "1"}, "idle_timeout": 0}
        made = await api.good("POST", "/api/v1/instances/one", body, 201)
        again = await api.good("POST", "/api/v1/instances/two", made["options"], 201)
        assert again["options"] == made["options"]

    async def test_update_merges(self, api: Api) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf", "ctx_size": 5, "api_key": "s"}, 201)
        changed = await api.good("PUT", "/api/v1/instances/one", {"temp": 0, "ctx_size": None, "api_key": MASK})
        assert changed["options"]["backend_options"] == {"model": "/m.gguf", "temp": 0, "api_key": MASK}
        assert api.fake.get("one").spec.options["api_key"] == "s"

    async def test_of_two_updates_at_once_neither_is_lost(self, api: Api) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        await asyncio.gather(
            api.good("PUT", "/api/v1/instances/one", {"temp": 0}),
            api.good("PUT", "/api/instances/one", {"options": {"threads": 2}}),
            api.good("PUT", "/api/v1/instances/one", {"ctx_size": 5}),
        )
        assert api.fake.get("one").spec.options == {"model": "/m.gguf", "temp": 0, "threads": 2, "ctx_size": 5}

    async def test_start_stop_and_restart_say_what_begins(self, api: Api) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        for verb, word in (("start", "starting"), ("stop", "stopping"), ("restart", "restarting")):
            found = await api.good("POST", f"/api/v1/instances/one/{verb}")
            assert (set(found) >= {"name", "status", "created"}, found["status"]) == (True, word)

    async def test_delete_answers_204_and_a_second_one_404(self, api: Api) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        reply = await api.ask("DELETE", "/api/v1/instances/one")
        assert (reply.status, reply.body) == (204, b"")
        assert (await api.ask("DELETE", "/api/v1/instances/one")).status == 404

    @pytest.mark.parametrize(
        ("method", "path"),
        [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"), ("POST", "/restart"),
         ("GET", "/logs"), ("GET", "/logs?follow=true"), ("GET", "/proxy/health"), ("POST", "/proxy")],
    )  # fmt: skip
    async def test_an_unknown_instance_is_404_in_this_apis_shape(self, api: Api, method: str, path: str) -> None:
        reply = await api.ask(method, f"/api/v1/instances/none{path}")
        assert (reply.status, set(reply.json())) == (404, {"error"})

    @pytest.mark.parametrize(
        ("name", "body", "status", "words"),
        [
            ("one", {"model": "/m"}, 409, "exists"), ("start-all", {"model": "/m"}, 400, "start-all"),
            ("a b", {"model": "/m"}, 400, "name"), ("x", {"model": 1}, 400, "model"), ("x", {}, 400, "model"),
            ("x", {"model": "m"}, 400, "model"), ("x", {"model": "/m", "port": 70000}, 400, "port"),
            ("x", {"model": "/m", "nodes": ["n"]}, 400, "nodes"), ("x", [], 400, "object"),
            ("x", {"model": "/m", "no_such": 1}, 400, "no_such"),
        ],
    )  # fmt: skip
    async def test_a_bad_creation_is_refused_and_creates_nothing(
        self, api: Api, name: str, body: Any, status: int, words: str
    ) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        reply = await api.ask("POST", f"/api/v1/instances/{name}", body)
        assert (reply.status, set(reply.json())) == (status, {"error"})
        assert words in reply.json()["error"]
        assert [one.name for one in api.fake.all()] == ["one"]

    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ({"mmap": False}, "--no-mmap"),
            ({"top_k": 1}, "--top-k"),
            ({"draft_max": 3}, "--draft-max"),
            ({"jinja": False}, "jinja"),
        ],
    )
    async def test_an_option_that_the_binary_lacks_is_named_before_anything_starts(
        self, api: Api, option: dict[str, Any], words: str
    ) -> None:
        reply = await api.ask("POST", "/api/v1/instances/x", {"model": "/m.gguf", **option})
        assert reply.status == 400
        assert words in reply.json()["error"]

    async def test_the_limit_is_409(self, api: Api) -> None:
        api.fake.limit = 1
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        assert (await api.ask("POST", "/api/v1/instances/two", {"model": "/m.gguf"})).status == 409

    async def test_logs_are_text_of_as_many_lines_as_wanted(self, api: Api) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        for number in range(5):
            await api.fake.write("one", f"line {number}")
        for query, lines in (("", 5), ("?lines=-1", 5), ("?lines=0", 5), ("?lines=2", 2)):
            reply = await api.ask("GET", f"/api/v1/instances/one/logs{query}")
            assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
            assert reply.body.decode().splitlines() == [f"line {number}" for number in range(5 - lines, 5)]
        for query in ("?lines=-2", "?lines=abc"):
            assert (await api.ask("GET", f"/api/v1/instances/one/logs{query}")).status == 400

    async def test_logs_can_be_followed_and_end_with_the_instance(self, api: Api) -> None:
        await api.good("POST", "/api/v1/instances/one", {"model": "/m.gguf"}, 201)
        url = f"{api.server.base_url}/api/v1/instances/one/logs?follow=true&lines=1"
        async with api.server.session.get(url) as reply:
            assert reply.headers["X-Accel-Buffering"] == "no"
            await api.fake.write("one", "hello")
            assert await reply.content.readline() == b"hello\n"
            await api.ask("DELETE", "/api/v1/instances/one")
            assert await reply.content.read() == b""

    async def test_the_version_has_three_lines(self, api: Api) -> None:
        reply = await api.ask("GET", "/api/v1/version")
        assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert [line.partition(": ")[0] for line in reply.body.decode().splitlines()] == [
            "Version",
            "Commit",
            "Build Time",
        ]

    @pytest.mark.parametrize(
        ("path", "argument"), [("help", "--help"), ("version", "--version"), ("devices", "--list-devices")]
    )
    async def test_the_binary_is_asked_once(self, api: Api, tmp_path: Path, path: str, argument: str) -> None:
        for _ in range(2):
            reply = await api.ask("GET", f"/api/v1/server/{path}")
            assert reply.status == 200
            assert reply.body.decode().startswith(f"got {argument}\n")
        assert (tmp_path / "asked").read_text() == "asked\n"

    @pytest.mark.parametrize(
        ("body", "words"), [("echo broken; exit 3", "failed with 3: broken"), (None, "llama_server.command")]
    )
    async def test_a_binary_that_fails_is_told_and_asked_again(
        self, api: Api, tmp_path: Path, body: str | None, words: str
    ) -> None:
        if body is None:
            (tmp_path / "llama-server").unlink()
        else:
            binary(tmp_path, body)
        reply = await api.ask("GET", "/api/v1/server/help")
        assert reply.status == 500
        assert words in reply.json()["error"]
        binary(tmp_path)
        assert (await api.ask("GET", "/api/v1/server/help")).status == 200


class TestOlder:
    BODY: dict[str, Any] = {  # noqa: RUF012  read only
        "name": "one", "model_path": "/m.gguf", "port": 9100, "options": {"threads": 4, "context_size": 2048, "gpu_layers": 0},
    }  # fmt: skip

    async def test_create_answers_201_and_stopped(self, api: Api) -> None:
        made = await api.good("POST", "/api/instances", self.BODY, 201)
        assert made["message"] == "Instance created successfully"
        assert set(made["instance"]) == {"name", "status", "model_path", "port", "created_at"}
        assert (made["instance"]["status"], made["instance"]["port"]) == ("stopped", 9100)
        assert api.fake.get("one").spec.options == {"model": "/m.gguf", "threads": 4, "ctx_size": 2048, "gpu_layers": 0}
        listed = (await api.good("GET", "/api/instances"))["instances"]
        assert set(listed[0]) == {"name", "status", "model_path", "port", "created_at", "updated_at"}

    async def test_the_detail_has_figures_while_it_runs(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        found = await api.good("GET", "/api/instances/one")
        assert (found["stats"], found["pid"], found["options"]["context_size"]) == (None, None, 2048)
        api.fake.become("one", "running")
        found = await api.good("GET", "/api/instances/one")
        assert found["stats"] == {"memory_usage": 1000, "cpu_usage": 1.5, "uptime": 0}
        assert found["created_at"].endswith("Z")

    async def test_update_merges(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        changed = await api.good("PUT", "/api/instances/one", {"options": {"threads": 8, "context_size": None}})
        assert set(changed) == {"message", "instance"}
        assert changed["instance"]["options"] == {"threads": 8, "context_size": None, "gpu_layers": 0}

    async def test_only_a_stopped_instance_can_be_deleted(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        api.fake.become("one", "running")
        reply = await api.ask("DELETE", "/api/instances/one")
        assert (reply.status, reply.json()["code"]) == (409, "INSTANCE_RUNNING")
        api.fake.become("one", "stopped")
        assert await api.good("DELETE", "/api/instances/one") == {"message": "Instance deleted successfully"}

    async def test_orders_say_what_begins(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        for verb, word in (("start", "starting"), ("stop", "stopping"), ("restart", "restarting")):
            found = await api.good("POST", f"/api/instances/one/{verb}")
            assert found == {"message": f"Instance {verb} initiated", "status": word}

    @pytest.mark.parametrize(
        ("body", "order"),
        [
            (b"", (False, 30)),
            (b"{}", (False, 30)),
            (b"null", (False, 30)),
            (b'{"force": true, "timeout": 5}', (True, 5)),
        ],
    )
    async def test_a_stop_may_be_forced_and_bounded(self, api: Api, body: bytes, order: tuple[bool, float]) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        assert (await api.ask("POST", "/api/instances/one/stop", data=body)).status == 200
        assert api.fake.orders[-1] == ("stop", "one", *order)

    async def test_a_stop_with_a_field_that_is_none_is_refused(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        reply = await api.ask("POST", "/api/instances/one/stop", data=b'{"forced": true}')
        assert (reply.status, "forced" in reply.json()["error"]) == (400, True)

    async def test_batches_report_each_instance(self, api: Api) -> None:
        for name in ("one", "two", "three"):
            await api.good("POST", "/api/instances", {**self.BODY, "name": name, "port": None}, 201)
        api.fake.limit = 2
        found = await api.good("POST", "/api/instances/start-all")
        assert [item["status"] for item in found["instances"]] == ["starting", "starting"]
        assert list(found["errors"]) == ["two"]
        found = await api.good("POST", "/api/instances/stop-all")
        assert {item["name"]: item["status"] for item in found["instances"]} == {"one": "stopping", "three": "stopping"}
        assert found["errors"] == {}

    @pytest.mark.parametrize(
        ("status", "health", "checks"),
        [
            ("stopped", "unhealthy", {"process": "stopped", "port": "closed", "response": "failed"}),
            ("starting", "starting", {"process": "stopped", "port": "closed", "response": "loading"}),
            ("running", "unhealthy", {"process": "running", "port": "closed", "response": "failed"}),
        ],
    )
    async def test_health_tells_what_was_looked_at(self, api: Api, status: Any, health: str, checks: Any) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        api.fake.become("one", status)
        found = await api.good("GET", "/api/instances/one/health")
        assert (found["status"], found["checks"]) == (health, checks)
        assert found["last_check"].endswith("Z")

    async def test_logs_are_objects_of_a_level(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        levels: list[LogLevel] = ["debug", "info", "warn", "error", "info"]
        for number, level in enumerate(levels):
            await api.fake.write("one", f"line {number}", level, at=number)
        found = await api.good("GET", "/api/instances/one/logs?level=warn")
        assert found == {"logs": [
            {"timestamp": "1970-01-01T00:00:02Z", "level": "warn", "message": "line 2"},
            {"timestamp": "1970-01-01T00:00:03Z", "level": "error", "message": "line 3"},
        ]}  # fmt: skip
        last = (await api.good("GET", "/api/instances/one/logs?level=info&lines=1"))["logs"]
        assert [line["message"] for line in last] == ["line 4"]
        assert len((await api.good("GET", "/api/instances/one/logs"))["logs"]) == 5

    async def test_logs_can_be_followed_as_events(self, api: Api) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        url = f"{api.server.base_url}/api/instances/one/logs?follow=true&level=error"
        async with api.server.session.get(url) as reply:
            assert reply.headers["Content-Type"].startswith("text/event-stream")
            await api.fake.write("one", "quiet", "info")
            await api.fake.write("one", "loud", "error")
            line = await reply.content.readline()
        assert json.loads(line.removeprefix(b"data: "))["message"] == "loud"

    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "code"),
        [
            ("GET", "/none", None, 404, "INSTANCE_NOT_FOUND"), ("POST", "", BODY, 409, "INSTANCE_EXISTS"),
            ("POST", "", {**BODY, "name": "server"}, 400, "INVALID_NAME"), ("POST", "", {"name": "x"}, 400, "INVALID_REQUEST"),
            ("POST", "", {**BODY, "name": "x", "options": {"nope": 1}}, 400, "INVALID_REQUEST"),
            ("PUT", "/one", {"what": 1}, 400, "INVALID_REQUEST"), ("POST", "/one/stop", {"timeout": -1}, 400, "INVALID_REQUEST"),
            ("GET", "/one/logs?level=loud", None, 400, "INVALID_REQUEST"),
            ("GET", "/one/logs?lines=-5", None, 400, "INVALID_REQUEST"),
        ],
    )  # fmt: skip
    async def test_errors_have_a_code(  # noqa: PLR0917  one for each part of a request
        self, api: Api, method: str, path: str, body: Any, status: int, code: str
    ) -> None:
        await api.good("POST", "/api/instances", self.BODY, 201)
        reply = await api.ask(method, f"/api/instances{path}", body)
        assert (reply.status, reply.json()["code"], set(reply.json())) == (status, code, {"error", "code", "details"})


async def test_with_keys_only_files_of_the_model_folders_may_be_named(tmp_path: Path) -> None:
    settings: dict[str, dict[str, Any]] = {
        "llama_server": {"command": binary(tmp_path), "model_dirs": [str(tmp_path / "models")]},
        "auth": {"management_keys": ["m-key"]},
    }
    plugin, headers = FakePlugin(), {"Authorization": "Bearer m-key"}
    async with running_server(
        tmp_path / "data", plugins={"llama-server": plugin}, settings=settings, installed=False
    ) as server:
        for path, status in (
            (f"{tmp_path}/models/m.gguf", 201),
            ("/etc/passwd", 400),
            (f"{tmp_path}/models/../x", 400),
        ):
            name = f"x{status}"
            reply = await server.ask("POST", f"/api/v1/instances/{name}", {"model": path}, headers=headers)
            assert reply.status == status, reply.body
            assert status == 201 or "llama_server.model_dirs" in reply.json()["error"]
