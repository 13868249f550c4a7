"""The command line: `paddock serve`, `paddock demo`, and thin clients of a running server."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from paddock.cli import commands, instances, keys, local, models
from paddock.cli.client import Client
from paddock.cli.flows import exit_code
from paddock.cli.show import Screen
from paddock.errors import PaddockError
from paddock.logs import clean

DEFAULT_URL = "http://127.0.0.1:8000"


def parser() -> argparse.ArgumentParser:
    """The whole command line, as the README's table is made from it."""
    shared = argparse.ArgumentParser(add_help=False)
    url = os.environ.get("PADDOCK_URL", DEFAULT_URL)
    shared.add_argument("--url", default=url, help="the running server (or PADDOCK_URL)")
    shared.add_argument("--key", default=os.environ.get("PADDOCK_KEY"), help="the key to send (or PADDOCK_KEY)")
    shared.add_argument("--json", action="store_true", help="print JSON instead of tables and bars")
    top = argparse.ArgumentParser(prog="paddock", description="One small server for local models.", allow_abbrev=False)
    groups = top.add_subparsers(dest="group", required=True, metavar="COMMAND")
    local.add(groups)
    commands.add(groups, shared)
    models.add(groups, shared)
    instances.add(groups, shared)
    keys.add(groups, shared)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 1 failed, 2 wrong input, 130 interrupted)."""
    options = parser().parse_args(argv)
    screen = Screen(as_json=getattr(options, "json", False))
    try:
        if options.needs_server:
            return int(options.run(options, screen, Client(options.url, options.key)) or 0)
        return int(options.run(options, screen) or 0)
    except PaddockError as error:
        sys.stderr.write(f"paddock: {clean(error.message)}\n")
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
