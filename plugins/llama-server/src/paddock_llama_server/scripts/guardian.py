"""Kills what paddock leaves behind when it dies: ``guardian.py TAG`` with a pipe from paddock as its input.

A line ``+GROUP`` announces a process group, ``-GROUP`` that it is gone. When the pipe ends, the groups that are left are
killed, and every process whose environment holds TAG, also one that left its group. Nothing else ends this program, so
that it outlives a signal to all processes of a terminal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

ROUNDS = 20
PAUSE = 0.05


def main(tag: str) -> None:
    """Wait for the end of the pipe, then kill."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(ROUNDS):  # a process may fork while it is looked for
        found = tagged(tag.encode())
        if not found:
            return
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)


def tagged(tag: bytes) -> list[int]:
    """The processes of this user with `tag` in their environment; none where there is no /proc."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if tag in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    return found


if __name__ == "__main__":
    main(sys.argv[1])
