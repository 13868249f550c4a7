"""The commands about llama-server instances: thin clients of ``/api/v1``."""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from typing import Any

from paddock.cli.client import Client, named
from paddock.cli.commands import Groups, command, group
from paddock.cli.show import Screen
from paddock.errors import ValidationFailed
from paddock.logs import clean

LOOK = 0.2  # seconds between two looks at an instance that starts or stops
_UNSETTLED = frozenset({"starting", "stopping", "restarting"})
_SET = "an option or setting; the value is JSON, or a text as it stands; again for more"


def add(groups: Groups, shared: argparse.ArgumentParser) -> None:
    """Add every command."""
    verbs = group(groups, "instances", "list, create, change, start and stop llama-server instances")
    command(verbs, shared, "list", instances_list, "list the instances")
    create = command(verbs, shared, "create", instances_create, "create an instance and start it")
    show = command(verbs, shared, "show", instances_show, "print an instance with its options")
    update = command(verbs, shared, "update", instances_update, "change options; a running instance restarts with them")
    delete = command(verbs, shared, "delete", instances_delete, "stop an instance and remove it")
    orders = [
        command(verbs, shared, verb, instances_order, f"{verb} an instance, and wait until it is done")
        for verb in ("start", "stop", "restart")
    ]
    logs = command(groups, shared, "logs", logs_show, "print an instance's log")
    for made in (create, show, update, delete, *orders, logs):
        made.add_argument("name")
    create.add_argument("--model", help="a GGUF file: its path on the server, or a name such as ORG/NAME:Q4_K_M")
    update.add_argument(
        "--unset", action="append", default=[], metavar="NAME", help="take llama-server's own default again"
    )
    for made in (create, update):
        made.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="changes", help=_SET)
    for made in (create, update, *orders):
        made.add_argument("--no-wait", action="store_true", help="return at once")
    logs.add_argument("--lines", type=int, default=100, help="the last of them; -1 for all")
    logs.add_argument("--follow", action="store_true", help="print new lines as they come, until Ctrl-C")


def instance_path(name: str, rest: str = "") -> str:
    """An instance's path."""
    return f"/api/v1/instances/{named(name)}{rest}"


def read_changes(changes: list[str], unset: list[str]) -> dict[str, Any]:
    """The body of ``--set NAME=VALUE`` and ``--unset NAME``. Raises ValidationFailed for one without ``=``."""
    body: dict[str, Any] = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals or not name:
            raise ValidationFailed(f"{change!r} is no NAME=VALUE, like --set ctx_size=4096")
        try:
            body[name] = json.loads(value)
        except ValueError:
            body[name] = value
    return body | dict.fromkeys(unset)


def instances_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:  # noqa: ARG001  all commands alike
    """Print the instances."""
    found = client.ask("GET", "/api/v1/instances")
    rows = [
        (item["name"], item["status"], item["port"], item["pid"], _model(item), _first_line(item["last_error"]))
        for item in found
    ]
    screen.table(("instance", "status", "port", "pid", "model", "last error"), rows, found)


def _model(item: Any) -> Any:
    options = item["options"]["backend_options"]
    return options.get("model") or options.get("hf_repo")


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]


def instances_create(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Create, and wait until it is ready."""
    body = read_changes(options.changes, [])
    if options.model:
        body["model"] = options.model
    return settle(options, screen, client, client.ask("POST", instance_path(options.name), body))


def instances_show(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print one."""
    found = client.ask("GET", instance_path(options.name))
    if screen.as_json:
        screen.data(found)
        return
    created = datetime.fromtimestamp(found["created"], UTC).isoformat()
    shown = {**found, "created": created, "options": json.dumps(found["options"], ensure_ascii=False)}
    screen.table(("field", "value"), list(shown.items()), found)


def instances_update(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Merge changes, and wait for the restart."""
    body = read_changes(options.changes, options.unset)
    if not body:
        raise ValidationFailed("nothing to change: --set NAME=VALUE or --unset NAME")
    return settle(options, screen, client, client.ask("PUT", instance_path(options.name), body))


def instances_delete(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Stop and remove."""
    client.ask("DELETE", instance_path(options.name))
    if screen.as_json:
        screen.data({"deleted": options.name})
    screen.say(f"Deleted {options.name}.")


def instances_order(options: argparse.Namespace, screen: Screen, client: Client) -> int:
    """Start, stop or restart, whatever the command is called."""
    return settle(options, screen, client, client.ask("POST", instance_path(options.name, f"/{options.verb}")))


def settle(options: argparse.Namespace, screen: Screen, client: Client, found: Any) -> int:
    """Show what an instance does until it does nothing more, unless told not to wait. 1 when it failed."""
    if not options.no_wait:
        with screen.progress() as bars:
            bar = bars.add_task(clean(found["status"]), total=None)
            while found["status"] in _UNSETTLED:
                time.sleep(LOOK)
                found = client.ask("GET", instance_path(options.name))
                last = next(client.lines(instance_path(options.name, "/logs?lines=1")), "")
                bars.update(bar, description=clean(f"{found['status']}: {last}")[:100])
    if screen.as_json:
        screen.data(found)
    screen.say(f"{found['name']} is {found['status']}.")
    if found["status"] == "failed":
        screen.say(found["last_error"] or f"Next: paddock logs {found['name']}")
    return int(found["status"] == "failed")


def logs_show(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Print the last lines, and with --follow what comes; as JSON one text a line."""
    query = f"/logs?lines={options.lines}" + ("&follow=true" if options.follow else "")
    if options.follow:
        client = Client(options.url, options.key, timeout=None)  # a quiet log is no fault
    for line in client.lines(instance_path(options.name, query)):
        screen.raw(json.dumps(line) + "\n" if screen.as_json else line + "\n")
