"""A child's output as lines: cut from chunks, cleaned, read back from files from their end."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from paddock_llama_server.spec import LogEntry, LogLevel

LINE_BYTES = 64 * 1024
BLOCK = 64 * 1024

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_LEVEL = re.compile(r"(?:[0-9.]+ )?([DIWE]) |(error|warn|debug)", re.IGNORECASE)
_LEVELS: dict[str, LogLevel] = {
    "D": "debug", "I": "info", "W": "warn", "E": "error", "ERROR": "error", "WARN": "warn", "DEBUG": "debug",
}  # fmt: skip


def entry(text: str, when: float) -> LogEntry:
    """A line with the level that it states: llama-server's letter, or a word at its beginning."""
    found = _LEVEL.match(text)
    level = _LEVELS[(found[1] or found[2]).upper()] if found else "info"
    return LogEntry(time=when, level=level, text=text)


class Splitter:
    """Cuts chunks at line ends. A line over `LINE_BYTES` is cut, with the number of bytes that it lost."""

    def __init__(self) -> None:
        self._part = bytearray()
        self._lost = 0

    def feed(self, chunk: bytes) -> list[str]:
        """The lines that end in this chunk."""
        *ended, rest = chunk.split(b"\n")
        lines = []
        for piece in ended:
            self._add(piece)
            lines.append(self._line())
        self._add(rest)
        return lines

    def end(self) -> list[str]:
        """The line that no line end followed, if there is one."""
        return [self._line()] if self._part else []

    def _add(self, piece: bytes) -> None:
        room = LINE_BYTES - len(self._part)
        self._part += piece[:room]
        self._lost += max(0, len(piece) - room)

    def _line(self) -> str:
        text = clean(self._part.decode("utf-8", "replace"))
        if self._lost:
            text += f" … [{self._lost} more bytes cut]"
        self._part.clear()
        self._lost = 0
        return text


def clean(text: str) -> str:
    """Without terminal escapes and control characters, which a log must not carry to a terminal."""
    return _CONTROL.sub("", _ESCAPES.sub("", text))


def stored(one: LogEntry) -> bytes:
    """A line as it stands in the file: time, blank, text."""
    moment = datetime.fromtimestamp(one.time, UTC).isoformat(timespec="milliseconds")
    return f"{moment} {one.text}\n".encode("utf-8", "replace")


def restored(line: bytes) -> LogEntry:
    """A line of the file; one without a time (the file was edited) gets the present."""
    head, _, text = line.decode("utf-8", "replace").partition(" ")
    try:
        return entry(text, datetime.fromisoformat(head).timestamp())
    except ValueError:
        return entry(line.decode("utf-8", "replace"), time.time())


def last_lines(files: Iterable[Path], count: int | None) -> list[LogEntry]:
    """The last `count` lines (None: all) of files given newest first, the oldest line first. Reads from the end only as far
    as is needed."""
    found: list[bytes] = []
    for path in files:
        if count is not None and len(found) >= count:
            break
        found = _tail(path, None if count is None else count - len(found)) + found
    return [restored(line) for line in (found if count is None else found[len(found) - min(count, len(found)) :])]


def _tail(path: Path, count: int | None) -> list[bytes]:
    try:
        with path.open("rb") as file:
            if count is None:
                return file.read().splitlines()
            at = file.seek(0, 2)
            tail = b""
            while at > 0 and tail.count(b"\n") <= count:
                step = min(BLOCK, at)
                at -= step
                file.seek(at)
                tail = file.read(step) + tail
    except FileNotFoundError:
        return []
    lines = tail.splitlines()
    return lines[len(lines) - min(count, len(lines)) :]
