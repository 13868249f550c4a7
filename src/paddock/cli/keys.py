"""`paddock keys`: make, list and revoke keys of a running server."""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from paddock.cli.client import Client, named
from paddock.cli.show import Screen
from paddock.errors import ValidationFailed

Groups = Any  # argparse's subparsers action is private

_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,6})([mhd])")


def add(groups: Groups, shared: argparse.ArgumentParser) -> None:
    """Add the commands."""
    text = "make, list and revoke keys"
    verbs = groups.add_parser("keys", help=text, description=text).add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    create = _command(verbs, shared, "create", keys_create, "make a key and print it, once")
    create.add_argument("name", help="what the key is for")
    create.add_argument("--management", action="store_true", help="it may do everything; the first key must be one")
    _scope_options(create)
    create.add_argument("--expires", metavar="TIME", help="when it ends: 90m, 12h, 30d")
    _command(verbs, shared, "list", keys_list, "list the keys, without their secrets")
    revoke = _command(verbs, shared, "revoke", keys_revoke, "revoke a key: it stops at once")
    revoke.add_argument("key_id", metavar="KEY_ID", help="as `paddock keys list` shows it")


def _scope_options(create: argparse.ArgumentParser) -> None:
    create.add_argument("--project", action="append", metavar="NAMESPACE/PROJECT", help="only this one, or NAMESPACE/*")
    create.add_argument(
        "--model", action="append", metavar="NAME", help="only this one, or the beginning of names and *"
    )
    create.add_argument("--verb", action="append", choices=("read", "write", "infer"), help="what it may do; infer")


def _command(verbs: Groups, shared: argparse.ArgumentParser, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, parents=[shared], help=text, description=text)
    made.set_defaults(run=run, needs_server=True)
    return made


def keys_create(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Make a key; print it and how to use it."""
    found = client.ask("POST", "/api/v1/auth/keys", _body(options))
    if screen.as_json:
        screen.data(found)
    screen.say(f"Made the {found['kind']} key {found['name']} ({found['id']}). This is the only time that it is shown:")
    screen.say(f"\n  {found['key']}")
    screen.say("")
    screen.say("Send it with every request; from now on every caller needs a key:")
    screen.say(f"  export PADDOCK_KEY={found['key']}      # for this command line")
    screen.say(f"  curl -H 'Authorization: Bearer {found['key']}' {client.url}/v1/models")


def _body(options: argparse.Namespace) -> dict[str, Any]:
    given = {"verbs": options.verb, "projects": options.project, "models": options.model}
    scopes = {name: value for name, value in given.items() if value}
    body: dict[str, Any] = {"name": options.name, "kind": "management" if options.management else "inference"}
    if scopes:
        body["scopes"] = scopes
    if options.expires:
        body["expires_at"] = time.time() + seconds(options.expires)
    return body


def seconds(duration: str) -> int:
    """``90m``, ``12h`` or ``30d`` in seconds. Raises ValidationFailed for anything else."""
    found = _DURATION.fullmatch(duration)
    if found is None:
        raise ValidationFailed(f"{duration!r} is no time: write 90m, 12h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def keys_list(options: argparse.Namespace, screen: Screen, client: Client) -> None:  # noqa: ARG001  all commands alike
    """Print the keys."""
    found = client.ask("GET", "/api/v1/auth/keys")
    rows = [(one["id"], one["name"], one["kind"], one["prefix"], _limits(one), _state(one)) for one in found]
    screen.table(("id", "name", "kind", "begins with", "limits", "state"), rows, found, whole="id")


def _limits(key: dict[str, Any]) -> str:
    scopes = key["scopes"]
    if scopes is None:
        return "none"
    parts = [", ".join(scopes["verbs"])]
    parts += [f"{name}: {', '.join(scopes[name])}" for name in ("projects", "models") if scopes[name] is not None]
    return "; ".join(parts)


def _state(key: dict[str, Any]) -> str:
    if key["source"] == "settings":
        return "in the settings"
    if key["revoked_at"] is not None:
        return "revoked"
    if key["expires_at"] is None:
        return "valid"
    day = time.strftime("%Y-%m-%d %H:%M", time.localtime(key["expires_at"]))
    return f"{'valid until' if key['expires_at'] > time.time() else 'expired on'} {day}"


def keys_revoke(options: argparse.Namespace, screen: Screen, client: Client) -> None:
    """Revoke a key."""
    client.ask("DELETE", f"/api/v1/auth/keys/{named(options.key_id)}")
    screen.say(f"Revoked {options.key_id}: what ran under it was ended.")
