"""The generated parts of the README: tables of endpoints, hooks, settings and commands.

``python -m paddock.reference README.md`` rewrites them between their markers; with ``--check`` it only compares, and
fails when the README says something else than the code.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from paddock.cli import parser
from paddock.contracts.base import endpoints_of
from paddock.contracts.providers import hooks
from paddock.resources import conf_folder
from paddock.services import CONTRACTS
from paddock.settings import SHIPPED

MARKER = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->\n", re.DOTALL)


def endpoints() -> Iterator[str]:
    """One row for each endpoint."""
    yield "| method and path | operation | access |"
    yield "|---|---|---|"
    for module in CONTRACTS:
        for item in endpoints_of(module):
            yield f"| `{item.method} {item.path}` | {item.name} | {item.access} |"


def hook_table() -> Iterator[str]:
    """One row for each provider hook."""
    yield "| hook | hands over |"
    yield "|---|---|"
    for name, value in vars(hooks).items():
        if name.startswith("paddock_"):
            text = inspect.cleandoc(value.__doc__ or "").replace("\n", " ")
            yield f"| `{name}` | {text} |"


def settings() -> Iterator[str]:
    """The shipped settings file."""
    yield "```toml"
    yield (conf_folder() / SHIPPED).read_text(encoding="utf-8").rstrip()
    yield "```"


def commands() -> Iterator[str]:
    """One row for each command of the command line."""
    yield "| command | what it does |"
    yield "|---|---|"
    yield from _commands(parser(), "paddock")


def _commands(one: argparse.ArgumentParser, name: str) -> Iterator[str]:
    groups = [action for action in one._actions if isinstance(action, argparse._SubParsersAction)]  # noqa: SLF001  argparse offers no other way to list its commands
    if not groups:
        plain = [action for action in one._actions if not action.option_strings]  # noqa: SLF001  as above
        needed = " ".join(str(action.metavar or action.dest.upper()) for action in plain)
        yield f"| `{f'{name} {needed}'.strip()}` | {one.description} |"
    for group in groups:
        for verb, made in group.choices.items():
            yield from _commands(made, f"{name} {verb}")


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "endpoints": endpoints,
    "hooks": hook_table,
    "settings": settings,
    "commands": commands,
}


def rewritten(text: str) -> str:
    """The README with its generated parts made anew."""

    def part(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in PARTS:  # the commands that a reader types
            return found.group(0)
        return f"<!-- {name} -->\n" + "\n".join(PARTS[name]()) + f"\n<!-- /{name} -->\n"

    return MARKER.sub(part, text)


def main() -> int:
    """Rewrite or check; 1 when the README is out of date."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("readme", type=Path)
    options.add_argument("--check", action="store_true")
    given = options.parse_args()
    old = given.readme.read_text(encoding="utf-8")
    new = rewritten(old)
    if given.check:
        if new != old:
            sys.stderr.write(f"{given.readme} is out of date: run python -m paddock.reference {given.readme}\n")
        return int(new != old)
    given.readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
