"""Structured logs on standard output: readable on a terminal, JSON lines otherwise.

Lines are written by a thread of their own from a bounded queue, because a terminal that is paused, or a pipe that nobody
reads, must not stop the server. When the queue is full, lines are dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import IO, Any

import msgspec

from paddock.contracts.providers.outgoing import Level
from paddock.settings import Log as LogSettings

_LEVELS: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS = {"debug": "\x1b[2m", "info": "", "warning": "\x1b[33m", "error": "\x1b[31m"}
QUEUE = 10_000
CLIP = 4_000  # characters of one value
GATHER = 0.01  # seconds that lines wait for company
_encode = msgspec.json.Encoder(enc_hook=str).encode


def clean(value: object) -> str:
    """A value without control characters, so that neither a line break nor a terminal escape gets into the log."""
    text = str(value)[:CLIP]
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


class Log:
    """Writes events: a name and fields. Safe from any thread; never blocks."""

    def __init__(self, settings: LogSettings, out: IO[str] | None = None) -> None:
        self._out = out or sys.stdout
        self._human = settings.format == "human" or (settings.format == "auto" and self._out.isatty())
        self._least = _LEVELS[settings.level]
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def event(self, name: str, /, level: Level = "info", **fields: object) -> None:
        """Write one event."""
        if _LEVELS[level] < self._least:
            return
        if self._queue.qsize() >= QUEUE:
            self._dropped += 1
            return
        self._queue.put({"time": time.time(), "level": level, "event": name, **fields})
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def request(self, fields: dict[str, Any]) -> None:
        """Write one served request."""
        level: Level = "error" if fields["status"] >= 500 else "info"
        self.event("request", level, **fields)

    def crash(self, request_id: str, error: BaseException) -> None:
        """Write an error that is our bug, with its traceback, under the request's id."""
        trace = "".join(traceback.format_exception(error))
        # The end tells where it broke; a recursion's thousand frames would fill the disk.
        self.event("crash", "error", request_id=request_id, error=repr(error)[:CLIP], traceback=trace[-4 * CLIP :])

    def _run(self) -> None:
        running = True
        while running:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            running = None not in waiting
            lines = [line for line in waiting if line is not None]
            if self._dropped and lines:
                lines[0]["dropped_lines"], self._dropped = self._dropped, 0
            try:
                self._out.write("".join(map(self._text, lines)))
                self._out.flush()
            except (OSError, ValueError):
                return  # standard output is gone; there is nowhere left to say so
            if running:
                time.sleep(GATHER)  # waking up for every line of a busy server would cost its requests a third

    def _text(self, line: dict[str, Any]) -> str:
        name = str(line["event"])
        try:
            text = self._human_line(line) if self._human else self._json_line(line)
            encoding = getattr(self._out, "encoding", None) or "utf-8"
            return text if text.isascii() else text.encode(encoding, "backslashreplace").decode(encoding)
        except Exception as error:  # noqa: BLE001  a value that can't be shown must not end the log
            lost = {"time": time.time(), "level": "error", "event": "log_line_lost", "of": clean(name)}
            lost["error"] = type(error).__name__
            return self._human_line(lost) if self._human else self._json_line(lost)

    def _json_line(self, line: dict[str, Any]) -> str:
        line["time"] = _stamp(line["time"])
        return _encode(line).decode() + "\n"

    def _human_line(self, line: dict[str, Any]) -> str:
        stamp, level, name = _stamp(line.pop("time")), line.pop("level"), line.pop("event")
        trace = str(line.pop("traceback", ""))
        fields = " ".join(f"{key}={clean(value)}" for key, value in line.items())
        colour = _COLOURS[level] if self._out.isatty() else ""
        extra = "".join(f"\n  {clean(part)}" for part in trace.splitlines())
        return f"{colour}{stamp[11:23]} {level:<7} {clean(name)} {fields}{extra}{chr(27) + '[0m' if colour else ''}\n"

    def close(self) -> None:
        """Write what waits, at most for a second."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=1)

    @contextmanager
    def taking_over(self) -> Iterator[None]:
        """Write the standard library's warnings and errors (of our dependencies) here too."""
        bridge = _Bridge(self)
        root = logging.getLogger()
        root.addHandler(bridge)
        try:
            yield
        finally:
            root.removeHandler(bridge)


class _Bridge(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "error" if record.levelno >= 40 else "warning"
        trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else ""
        self._log.event(record.name, level, message=record.getMessage(), **({"traceback": trace} if trace else {}))


def _stamp(seconds: float) -> str:
    return f"{_whole_stamp(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=2)
def _whole_stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
