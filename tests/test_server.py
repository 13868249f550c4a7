"""The process: start, signals, a port or data folder in use, who may reach it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from paddock.access import Gatekeeper, check_bind
from paddock.errors import Conflict, ValidationFailed
from paddock.server import free_port
from paddock.settings import load_settings
from paddock.testing.server import running_server


@contextmanager
def child(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`paddock serve` as a process of its own, and its address."""
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(folder), *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        url = ""
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "serving":
                url = event["url"]
                break
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with child(tmp_path) as (process, _):
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert [json.loads(line)["event"] for line in out.splitlines()][-1:] == ["stopping"]


def test_nothing_is_left_alive_after_kill_9_and_the_next_start_works(tmp_path: Path) -> None:
    with child(tmp_path) as (process, _):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=5)
        assert [one for one in alive if one.status() != psutil.STATUS_ZOMBIE] == []
    with child(tmp_path) as (process, url):
        assert url.startswith("http://127.0.0.1:")


def test_a_second_server_on_the_same_data_is_refused_by_name(tmp_path: Path) -> None:
    with child(tmp_path):
        second = subprocess.run(
            [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(tmp_path)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert second.returncode == 2
    assert "another paddock uses the data folder" in second.stderr
    assert "Traceback" not in second.stderr


async def test_a_port_in_use_is_refused_by_name(tmp_path: Path) -> None:
    async with running_server(tmp_path, installed=False) as server:
        with pytest.raises(Conflict, match="in use"):
            free_port("127.0.0.1", int(server.base_url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("section", "allowed"),
    [
        ({"server": {"host": "127.0.0.1"}}, True),
        ({"server": {"host": "::1"}}, True),
        ({"server": {"host": "localhost"}}, True),
        ({"server": {"host": "0.0.0.0"}}, False),
        ({"server": {"host": "192.168.1.2"}}, False),
        ({"server": {"host": "example.org"}}, False),
        ({"server": {"host": "0.0.0.0", "insecure": True}}, True),
        ({"server": {"host": "0.0.0.0"}, "auth": {"management_keys": ["k"]}}, True),
    ],
)
def test_beyond_the_loopback_a_key_is_needed(section: dict[str, Any], allowed: bool) -> None:
    settings = load_settings({}, environ={}, overrides=section)
    closed = Gatekeeper(settings.auth).closed
    if allowed:
        check_bind(settings.server, closed=closed)
    else:
        with pytest.raises(ValidationFailed, match="--insecure"):
            check_bind(settings.server, closed=closed)


def test_a_server_that_strangers_could_reach_does_not_start_without_a_key(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "paddock",
        "serve",
        "--port",
        "0",
        "--host",
        "0.0.0.0",
        "--data-dir",
        str(tmp_path),
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    assert done.returncode == 2
    assert "paddock keys create" in done.stderr
    assert "serving" not in done.stdout


async def test_a_wildcard_bind_takes_addresses_but_no_unknown_names(tmp_path: Path) -> None:
    settings = {"server": {"host": "0.0.0.0", "insecure": True, "allowed_hosts": ["known.example"]}}
    async with running_server(tmp_path, installed=False, settings=settings) as server:
        port = server.base_url.rpartition(":")[2]
        for host, status in ((f"10.1.2.3:{port}", 200), ("known.example", 200), ("rebound.example", 403), ("", 403)):
            reply = await server.session.get(f"http://127.0.0.1:{port}/info", headers={"Host": host})
            assert reply.status == status, host


async def test_an_allowed_origin_may_change_things_and_gets_its_headers(tmp_path: Path) -> None:
    page = {"Origin": "http://localhost:5173"}
    settings = {"server": {"allowed_origins": ["http://localhost:5173"]}}
    async with running_server(tmp_path, installed=False, settings=settings) as server:
        reply = await server.ask("OPTIONS", "/v1/projects/x", headers=page)
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (204, page["Origin"])
        reply = await server.ask("DELETE", "/v1/projects/x/y", headers=page)
        assert reply.status == 404
        assert reply.headers["Access-Control-Allow-Origin"] == page["Origin"]


async def test_a_page_of_this_server_may_change_things(tmp_path: Path) -> None:
    async with running_server(tmp_path, installed=False) as server:
        reply = await server.ask("DELETE", "/v1/projects/x/y", headers={"Origin": server.base_url})
        assert reply.status == 404


async def test_two_applications_live_in_one_process(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path / "a", installed=False) as one,
        running_server(tmp_path / "b", installed=False) as two,
    ):
        replies = await asyncio.gather(one.ask("GET", "/info"), two.ask("GET", "/info"))
        assert [reply.json()["data_directory"] for reply in replies] == [str(tmp_path / "a"), str(tmp_path / "b")]


async def test_a_browser_gets_the_page_and_a_client_the_greeting(tmp_path: Path) -> None:
    async with running_server(tmp_path, installed=False) as server:
        assert (await server.ask("GET", "/")).json() == {"message": "Hello, World!"}
        page = await server.ask("GET", "/", headers={"Accept": "text/html,*/*"})
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
