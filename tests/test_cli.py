"""The command line: every command against a real server, exit codes, JSON, and what hostile text may not do."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from aiohttp import web

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import ChatModel, Environment
from paddock.testing.chat import EchoModel, Say
from paddock.testing.server import RunningServer, running_server
from paddock.testing.shell import Shell, exit_code

CONF = Path(__file__).parents[1] / "conf"
ESCAPES = "\x1b[31mred\x07\x9b1m\u202e"


class Echo:
    """The plugin of a model that says what the test scripts."""

    def __init__(self) -> None:
        self.model = EchoModel()

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [self.model]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def server(tmp_path: Path, echo: Echo) -> AsyncIterator[RunningServer]:
    async with running_server(tmp_path / "data", plugins={"echo": echo}) as running:
        yield running


@pytest.fixture
def shell(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(server.base_url, capsys)


@pytest.fixture
async def notes(shell: Shell, tmp_path: Path) -> Shell:
    """A shell whose server has the project me/notes with a processed dataset ``docs``."""
    (tmp_path / "cow.txt").write_text("Dogs bark at strangers.\n\nA dairy cow drinks 100 litres of water a day.")
    await shell.good("projects", "create", "me/notes")
    await shell.good("datasets", "create", "me/notes", "docs")
    await shell.good("datasets", "upload", "me/notes", "docs", str(tmp_path / "cow.txt"))
    return shell


async def test_projects_are_created_listed_shown_and_deleted(shell: Shell) -> None:
    assert "paddock datasets create me/notes docs" in await shell.good("projects", "create", "me/notes")
    assert "notes" in await shell.good("projects", "list", "me")
    assert json.loads(await shell.good("projects", "show", "me/notes"))["name"] == "notes"
    assert "extractive" in await shell.good("projects", "models", "me/notes")
    assert await shell.run("projects", "create", "me/notes") == 2
    assert "exists already" in shell.err
    await shell.good("projects", "create", "me/other", "--template", "server")
    assert await shell.run("projects", "create", "me/third", "--template", "nope") == 2
    assert "rag" in shell.err
    await shell.good("projects", "delete", "me/notes")
    assert await shell.run("projects", "show", "me/notes") == 2


async def test_datasets_are_filled_processed_listed_and_deleted(notes: Shell, tmp_path: Path) -> None:
    assert "docs" in await notes.good("datasets", "list", "me/notes")
    assert "1 skipped" in await notes.good("datasets", "process", "me/notes", "docs")
    file = tmp_path / "ü 狐.md"
    file.write_text("# Foxes\n\nThey live in the wood.")
    assert "1 stored" in await notes.good("datasets", "upload", "me/notes", "docs", str(file), "--no-process")
    assert "1 were there already" in await notes.good("datasets", "upload", "me/notes", "docs", str(file))
    assert "ü 狐.md" in await notes.good("rag", "documents", "me/notes", "main_database")
    assert await notes.run("datasets", "upload", "me/notes", "docs", str(tmp_path / "none")) == 2
    assert "no such file" in notes.err
    await notes.good("datasets", "delete", "me/notes", "docs")
    assert await notes.run("datasets", "process", "me/notes", "docs") == 2


async def test_a_file_that_fails_is_named_and_the_exit_code_says_so(notes: Shell, tmp_path: Path) -> None:
    (tmp_path / "x.qqq").write_bytes(b"\x00\x01\x02" * 100)
    assert await notes.run("datasets", "upload", "me/notes", "docs", str(tmp_path / "x.qqq")) == 1
    assert "x.qqq: " in notes.out
    assert "1 failed" in notes.out


async def test_a_database_is_queried_and_inspected(notes: Shell) -> None:
    found = await notes.good("rag", "query", "me/notes", "how much water", "--top-k", "1", "--strategy", "bm25")
    assert "cow.txt" in found
    assert "bm25 on main_database" in found
    assert json.loads(await notes.good("rag", "stats", "me/notes"))["chunk_count"] == 1
    assert (
        json.loads(await notes.good("rag", "health", "me/notes", "--database", "main_database"))["status"] == "healthy"
    )
    assert await notes.run("rag", "query", "me/notes", "x", "--database", "nope") == 2
    assert "main_database" in notes.err


async def test_a_question_is_answered_with_its_sources(notes: Shell) -> None:
    answer = await notes.good("chat", "me/notes", "How much water does a dairy cow drink a day?")
    assert "100 litres" in answer
    assert "[1] cow.txt" in answer
    assert "cow.txt" not in await notes.good("chat", "me/notes", "How much water?", "--no-rag")
    assert await notes.run("chat", "me/notes", "x", "--model", "nope") == 2
    assert "known: default" in notes.err


async def test_tasks_are_listed_shown_followed_and_cancelled(notes: Shell) -> None:
    (task,) = (await notes.json("tasks", "list", "me/notes"))["tasks"]
    name = task["task_id"]
    assert name in await notes.good("tasks", "list", "me/notes")
    assert name not in await notes.good("tasks", "list", "me/notes", "--active")
    assert "SUCCESS: 1 processed" in await notes.good("tasks", "show", "me/notes", name)
    assert "SUCCESS: 1 processed" in await notes.good("tasks", "follow", "me/notes", name)
    assert "Task already success" in await notes.good("tasks", "cancel", "me/notes", name)
    assert await notes.run("tasks", "show", "me/notes", "nope") == 2


async def test_an_example_is_imported_and_its_processing_followed(shell: Shell) -> None:
    assert "harbour_museum" in await shell.good("examples", "list")
    assert "paddock chat me/museum" in await shell.good("examples", "import", "harbour_museum", "me/museum")
    assert await shell.run("examples", "import", "nope", "me/x") == 2
    assert "harbour_museum" in shell.err


async def test_events_and_plugins_are_listed(notes: Shell) -> None:
    assert "rag_processing" in await notes.good("events", "me/notes")
    assert "rag_processing" not in await notes.good("events", "me/notes", "--type", "inference", "--limit", "5")
    plugins = await notes.good("plugins")
    assert "core" in plugins
    assert "HashingEmbedder" in plugins


async def test_json_is_all_that_json_prints(notes: Shell, tmp_path: Path) -> None:
    name = (await notes.json("tasks", "list", "me/notes"))["tasks"][0]["task_id"]
    file = str(tmp_path / "cow.txt")
    for words in (
        ("projects", "create", "me/j"), ("projects", "list", "me"), ("projects", "show", "me/j"),
        ("projects", "models", "me/j"), ("projects", "delete", "me/j"), ("datasets", "create", "me/notes", "e"),
        ("datasets", "list", "me/notes"), ("datasets", "upload", "me/notes", "e", file),
        ("datasets", "upload", "me/notes", "e", file, "--no-process"), ("datasets", "process", "me/notes", "e"),
        ("datasets", "delete", "me/notes", "e"), ("rag", "query", "me/notes", "cow"), ("rag", "stats", "me/notes"),
        ("rag", "health", "me/notes"), ("rag", "documents", "me/notes", "main_database"), ("chat", "me/notes", "cow?"),
        ("tasks", "show", "me/notes", name), ("tasks", "follow", "me/notes", name), ("tasks", "cancel", "me/notes", name),
        ("examples", "list"), ("examples", "import", "harbour_museum", "me/k"), ("events", "me/notes"), ("plugins",),
    ):  # fmt: skip
        assert await notes.json(*words), words


async def test_an_answer_cannot_speak_to_the_terminal(notes: Shell, server: RunningServer, echo: Echo) -> None:
    config = (await notes.json("projects", "show", "me/notes"))["config"]
    config["runtime"] = {"models": [{"name": "e", "provider": "echo", "model": "echo"}]}
    await server.ask("PUT", "/v1/projects/me/notes", {"config": config})
    echo.model.script.extend(Say(texts=["safe ", ESCAPES]) for _ in range(2))
    answer = await notes.good("chat", "me/notes", "x")
    assert answer.startswith("safe [31mred1m")
    raw = await notes.good("chat", "me/notes", "x", "--json")
    for text in (answer, raw):
        assert text.replace("\n", "").isprintable()
    assert json.loads(raw)["choices"][0]["message"]["content"] == "safe " + ESCAPES


@asynccontextmanager
async def speaking(body: str, status: int = 200, kind: str = "application/json") -> AsyncIterator[str]:
    """The address of a server that answers everything with the same body."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body, status=status, content_type=kind)

    app = web.Application()
    app.add_routes([web.route("*", "/{rest:.*}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_names_and_errors_of_a_hostile_server_are_stripped(capsys: pytest.CaptureFixture[str]) -> None:
    listing = {"examples": [{"id": ESCAPES, "title": ESCAPES}]}
    async with speaking(json.dumps(listing)) as url:
        shell = Shell(url, capsys)
        for words in (("examples", "list"), ("examples", "list", "--json")):
            assert (await shell.good(*words)).replace("\n", "").isprintable()
    async with speaking(json.dumps({"detail": "no " + ESCAPES}), 404) as url:
        shell = Shell(url, capsys)
        assert await shell.run("examples", "list") == 2
        assert shell.err.startswith("paddock: no ")
        assert shell.err.replace("\n", "").isprintable()


async def test_what_is_no_paddock_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    async with speaking("<html>", kind="text/html") as url:
        shell = Shell(url, capsys)
        assert await shell.run("plugins") == 1
        assert "no paddock" in shell.err
    async with speaking("<html>", 502, kind="text/html") as url:
        shell = Shell(url, capsys)
        assert await shell.run("plugins") == 1
        assert "502" in shell.err


async def test_a_server_that_is_down_tells_the_next_step(capsys: pytest.CaptureFixture[str]) -> None:
    async with speaking("{}") as url:
        shell = Shell(url, capsys)
    assert await shell.run("projects", "list", "me") == 1
    assert "paddock serve" in shell.err
    assert "--url" in shell.err


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://localhost", "http://", "http://localhost:99999", "http://x:y"]
)
async def test_an_address_that_is_none_is_wrong_input(capsys: pytest.CaptureFixture[str], url: str) -> None:
    shell = Shell(url, capsys)
    assert await shell.run("plugins") == 2
    assert "http://HOST:PORT" in shell.err


@pytest.mark.parametrize("name", ["notes", "a/b/c", "/b", "a/", ""])
async def test_a_project_is_written_with_its_namespace(capsys: pytest.CaptureFixture[str], name: str) -> None:
    shell = Shell("http://127.0.0.1:1", capsys)
    for words in (("projects", "create", name), ("chat", name, "x"), ("examples", "import", "e", name)):
        assert await shell.run(*words) == 2
        assert "NAMESPACE/PROJECT" in shell.err


async def test_a_name_that_would_walk_the_tree_is_refused_by_the_server(shell: Shell) -> None:
    for words in (("projects", "list", ".."), ("projects", "show", "../.."), ("projects", "list", "a b?c")):
        assert await shell.run(*words) == 2
        assert "not allowed" in shell.err


def test_words_that_are_no_command_are_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["nope"], ["projects"], ["projects", "list"], ["rag", "query", "a/b", "x", "--top-k", "many"]):
        assert exit_code(words) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_shipped_templates_and_examples_are_valid(capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(file) for file in (*CONF.glob("templates/*.yaml"), *CONF.glob("examples/*/llamafarm.yaml"))]
    assert exit_code(["conf", "check", *files]) == 0
    assert capsys.readouterr().out.count("is valid (0 warnings)") == len(files) == 5
    assert exit_code(["conf", "check", "--json", *files]) == 0
    assert [item["errors"] for item in json.loads(capsys.readouterr().out)] == [[]] * 5


def test_a_wrong_file_is_told_by_field_and_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "llamafarm.yaml"
    file.write_text("version: v1\nname: a\nnamespace: b\nruntime: {models: [{name: m, provider: opnai, model: x}]}\n")
    assert exit_code(["conf", "check", str(file)]) == 1
    assert "runtime.models[0].provider" in capsys.readouterr().out
    assert exit_code(["conf", "check", str(file), str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_settings_are_shown_without_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "paddock.toml"
    file.write_text('[auth]\nmanagement_keys = ["a-secret-key-0123456789"]\n[openai]\napi_key = "sk-secret"\n')
    assert exit_code(["conf", "show", "--config", str(file), "--port", "1234"]) == 0
    shown = capsys.readouterr().out
    assert "secret" not in shown
    assert json.loads(shown)["server"]["port"] == 1234


async def test_a_key_is_sent_and_a_missing_one_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "a-management-key-0123456789"
    async with running_server(tmp_path / "data", settings={"auth": {"management_keys": [key]}}) as server:
        shell = Shell(server.base_url, capsys)
        assert await shell.run("examples", "list") == 1
        assert "key" in shell.err
        await shell.good("examples", "list", "--key", key)


def test_the_demo_answers_with_its_sources_and_leaves_nothing_running() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    command = [sys.executable, "-m", "paddock", "demo"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "litres of water" in done.stdout
    assert "[1] dairy-herd.md" in done.stdout
    assert "paddock-demo-" in done.stdout
    commands = [one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"])]
    folder = done.stdout.partition("its data in ")[2].partition(".\n")[0]
    assert not any(folder in words for words in commands)
    assert not Path(folder).exists()
