"""The commands that need no running server: serve, demo, conf, models import."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paddock.cli.client import Client, project_path
from paddock.cli.flows import answer_pieces, follow_task, show_sources
from paddock.cli.show import Screen
from paddock.errors import FieldError, ProviderUnavailable, ValidationFailed

Groups = Any  # argparse's subparsers action is private

SHOW = "print the settings in effect, keys masked"
IMPORT = "take a local Hugging Face folder into the model cache as ONNX, without torch"
CHECK = "check llamafarm.yaml files as the server would"
EXAMPLE = "meadow_handbook"
NAMESPACE, NAME = "demo", "meadow"
PROJECT = f"{NAMESPACE}/{NAME}"
QUESTION = "How many litres of water does a dairy cow need a day?"


def add(groups: Groups) -> None:
    """Add every command."""
    serve = groups.add_parser("serve", help="serve until stopped", description="Serve until SIGTERM or Ctrl-C.")
    _server_options(serve)
    serve.set_defaults(run=run_serve, needs_server=False)
    text = "start, import an example, ask a question, print the answer with its sources, end"
    demo = groups.add_parser("demo", help=text, description=text)
    demo.add_argument("--question", default=QUESTION)
    demo.add_argument("--data-dir", type=Path, help="keep the data there; a temporary folder unless given")
    demo.add_argument("--json", action="store_true", help="print the reply as JSON")
    demo.set_defaults(run=run_demo, needs_server=False)
    conf = groups.add_parser("conf", help="show settings, check files", description="Settings and project files.")
    verbs = conf.add_subparsers(dest="verb", required=True, metavar="VERB")
    show = verbs.add_parser("show", help=SHOW, description=SHOW)
    _server_options(show)
    show.set_defaults(run=run_conf_show, needs_server=False)
    check = verbs.add_parser("check", help=CHECK, description=CHECK)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    check.add_argument("--config", type=Path, help="a settings file (TOML)")
    check.add_argument("--json", action="store_true", help="print JSON")
    check.set_defaults(run=run_conf_check, needs_server=False)


def add_models(verbs: Groups) -> None:
    """Add what the group `models` can do without a server."""
    made = verbs.add_parser("import", help=IMPORT, description=IMPORT)
    made.add_argument(
        "folder", metavar="FOLDER", help="a model's folder, or the id of a cached model to build a graph for"
    )
    made.add_argument("--name", help="the id to store it under, as ORG/NAME; made from the folder's name unless given")
    made.add_argument("--quantize", choices=["int8"], help="a quarter of the size and faster, a little less exact")
    made.add_argument("--data-dir", help="the data folder, which holds the model cache unless HF_HOME names another")
    made.add_argument("--config", type=Path, help="a settings file (TOML)")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(run=run_models_import, needs_server=False)


def _server_options(made: argparse.ArgumentParser) -> None:
    made.add_argument("--host", help="the address to listen on")
    made.add_argument("--port", type=int, help="the port to listen on; 0 for any free one")
    made.add_argument("--data-dir", help="the data folder")
    made.add_argument("--config", type=Path, help="a settings file (TOML)")
    made.add_argument("--insecure", action="store_true", default=None, help="listen beyond the loopback without keys")


def _overrides(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    names = ("host", "port", "data_dir", "insecure")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return {"server": given} if given else {}


def run_serve(options: argparse.Namespace, screen: Screen) -> None:
    """Serve."""
    from paddock import server  # noqa: PLC0415  the other commands start without it

    app = server.build(options.config, _overrides(options))
    people = sys.stdout.isatty()

    def ready(url: str) -> None:
        if people:
            screen.say(f"paddock serves at {url} (API: {url}/docs). Stop it with Ctrl-C.")

    server.serve(app, ready)


def run_demo(options: argparse.Namespace, screen: Screen) -> int:
    """Do the main job once, on a real server of its own."""
    with contextlib.ExitStack() as stack:
        folder = options.data_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paddock-demo-")))
        url = stack.enter_context(child_server(folder))
        client = Client(url, None)
        screen.say(f"A server runs at {url}, its data in {folder}.")
        body = {"namespace": NAMESPACE, "name": NAME, "process": True}
        found = client.ask("POST", f"/v1/examples/{EXAMPLE}/import-project", body)
        screen.say(f"Imported the example {EXAMPLE} as project {PROJECT}; processing its documents:")
        states = [follow_task(client, screen, PROJECT, task_id)["state"] for task_id in found["task_ids"]]
        _ask(client, screen, options.question)
        screen.say("\nNext: paddock serve, then upload your own files:")
        screen.say("  paddock projects create me/notes && paddock datasets create me/notes docs")
        screen.say('  paddock datasets upload me/notes docs FILES … && paddock chat me/notes "your question"')
        return 0 if all(state == "SUCCESS" for state in states) else 1


def _ask(client: Client, screen: Screen, question: str) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": question}], "include_sources": True}
    path = project_path(PROJECT, "chat/completions")
    if screen.as_json:
        screen.data(client.ask("POST", path, body))
        return
    screen.say(f"\nQuestion: {question}")
    screen.raw("Answer: ")
    sources: dict[str, Any] = {}
    for piece in answer_pieces(client.events("POST", path, {**body, "stream": True}), sources):
        screen.raw(piece)
    screen.raw("\n")
    show_sources(screen, sources.get("sources", []))


@contextlib.contextmanager
def child_server(folder: Path) -> Iterator[str]:
    """A server as a child process on a free port; ended at the end of the `with`."""
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(folder)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=env | {"PADDOCK_LOG__FORMAT": "json"})  # noqa: S603  this Python, our own arguments
    assert child.stdout is not None
    try:
        for line in child.stdout:
            event = json.loads(line)
            if event["event"] == "serving":
                break
        else:
            raise ProviderUnavailable("the server did not start; `paddock serve` shows why")
        yield str(event["url"])
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate()


def run_models_import(options: argparse.Namespace, screen: Screen) -> None:
    """Import a model folder; a server that runs finds the model at once."""
    from paddock import server  # noqa: PLC0415  the other commands start without it
    from paddock.contracts.providers import Progress  # noqa: PLC0415  only here

    overrides = {"server": {"data_dir": options.data_dir}} if options.data_dir else {}
    importers = server.build(options.config, overrides).plugins.model_importers.all()
    if not importers:
        raise ProviderUnavailable("no plugin imports models: pip install paddock-onnx")
    with screen.progress() as bars:
        bar = bars.add_task("reading", total=None)

        def told(progress: Progress) -> None:
            bars.update(bar, description=progress.status, completed=progress.completed, total=progress.total)

        importer = next((one for one in importers if one.fits(Path(options.folder))), importers[-1])
        found = importer.run(Path(options.folder), options.name, options.quantize, told)
    if screen.as_json:
        screen.data({"model": found.model, "task": found.task, "size_bytes": found.size, "folder": str(found.folder)})
    screen.say(f"Imported {found.model} ({found.task}, {found.size / 1e6:.0f} MB).")
    screen.say(f"Next: {found.hint}")


def run_conf_show(options: argparse.Namespace, screen: Screen) -> None:
    """Print the settings as they would be used."""
    from paddock.plugins import load  # noqa: PLC0415  only here
    from paddock.services.saved_settings import shown  # noqa: PLC0415  only here

    settings, _ = load(options.config, _overrides(options))
    screen.data(shown(settings))


def run_conf_check(options: argparse.Namespace, screen: Screen) -> int:
    """Check project files as the server would; 1 when any of them is wrong."""
    from paddock import server  # noqa: PLC0415  the other commands start without it
    from paddock.services.project_files import check_file  # noqa: PLC0415  only here

    missing = [str(file) for file in options.files if not file.is_file()]
    if missing:
        raise ValidationFailed(f"no such file: {', '.join(missing)}")
    app = server.build(options.config)
    found = {file: check_file(file, app.plugins, app.settings) for file in options.files}
    if screen.as_json:
        screen.data([_checked(file, *what) for file, what in found.items()])
    for file, (errors, warnings) in found.items():
        for error in errors:
            screen.say(f"{file}: error: {error.field}: {error.reason}")
        for warning in warnings:
            screen.say(f"{file}: warning: {warning}")
        if not errors:
            screen.say(f"{file} is valid ({len(warnings)} warnings).")
    return 1 if any(errors for errors, _ in found.values()) else 0


def _checked(file: Path, errors: Sequence[FieldError], warnings: Sequence[str]) -> dict[str, Any]:
    listed = [{"field": one.field, "reason": one.reason} for one in errors]
    return {"file": str(file), "errors": listed, "warnings": list(warnings)}
