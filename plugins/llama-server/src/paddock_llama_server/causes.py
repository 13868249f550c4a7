"""Why a child ended: what its last lines and its exit say."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from typing import Literal

import msgspec

Kind = Literal["clean", "bad_option", "model_file_missing", "out_of_memory", "port_taken", "not_run", "crashed"]

PERMANENT = frozenset({"bad_option", "model_file_missing", "not_run"})
LINES = 20  # of the log that an error shows

_TEXTS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("not_run", re.compile(r"error: can't run ")),
    ("port_taken", re.compile(r"couldn't bind|could not bind|failed to bind|address already in use", re.IGNORECASE)),
    ("out_of_memory", re.compile(
        r"out of memory|failed to allocate|unable to allocate|cannot allocate|bad_alloc|cudaMalloc failed|ErrorOutOfDeviceMemory",
        re.IGNORECASE,
    )),
    ("bad_option", re.compile(
        r"invalid argument:|unknown argument|error while handling argument|expected value for argument|error: --?[a-z-]+",
        re.IGNORECASE,
    )),
    ("model_file_missing", re.compile(r"failed to open GGUF file|No such file or directory", re.IGNORECASE)),
)  # fmt: skip
_VARIES = re.compile(r"\d+")


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """An end that nobody ordered: its kind, a sentence with the last lines, and `mark`, equal when two ends look alike."""

    kind: Kind
    message: str
    mark: str


def judge(code: int, lines: Sequence[str], *, killed_by_us: bool = False) -> Exit:
    """Read an exit status (negative: minus the signal) and the last lines of the log."""
    last = [line for line in lines if line.strip()][-LINES:]
    kind = "clean" if code == 0 else _kind(code, last, killed_by_us=killed_by_us)
    how = f"it exited with status {code}" if code >= 0 else f"it was ended by {_signal(-code)}"
    message = "; its last lines:\n".join([how, "\n".join(last)]) if last else f"{how} without a word"
    return Exit(kind=kind, message=message, mark=f"{code} {_VARIES.sub('0', last[-1] if last else '')}")


def _kind(code: int, lines: Sequence[str], *, killed_by_us: bool) -> Kind:
    if code == -signal.SIGKILL and not killed_by_us:
        return "out_of_memory"  # nobody else kills: the kernel does when memory is short
    return next((kind for kind, text in _TEXTS for line in lines if text.search(line)), "crashed")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
