"""Becomes a child of paddock's that can't outlive it: ``launch.py PARENT COMMAND ARGUMENT…``.

Runs in the new process instead of code between fork and exec, which is unsafe in a process with threads. The kernel kills
what runs here when paddock's thread ends; PARENT is compared afterwards, because paddock may have died before. When memory
runs out the kernel is to choose this process, not paddock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
OOM_SCORE = 500
ORPHAN, NOT_RUN = 125, 127


def main(arguments: list[str]) -> int:
    """Never returns when the command can be run; else the exit status, with one line that says why."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123  pathlib takes longer to import than the rest
                file.write(str(OOM_SCORE))
        except OSError:
            pass
    if os.getppid() != parent:
        return ORPHAN
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a process inherits that
    try:
        os.execv(command[0], command)  # noqa: S606  an argument list, no shell
    except OSError as error:
        sys.stderr.write(f"error: can't run {command[0]}: {error.strerror}\n")
        return NOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
