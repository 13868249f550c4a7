"""Helper processes for work on hostile files: a server asks, a helper answers over pipes, one message at a time.

A hostile file may crash its helper, fill its memory or keep it busy: the helper dies, and the server goes on. The server's
side is `HelperPool`; the helper's side is in `paddock.builtin.helper`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO, cast

import msgspec

from paddock.errors import PaddockError, ProviderUnavailable, ValidationFailed

START = 60.0  # seconds for a helper to start on a busy machine
GRACE = 2.0  # seconds beyond the timeout in which the helper itself may still answer
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
_LENGTH = struct.Struct(">Q")


class HelperReply(msgspec.Struct, kw_only=True):
    """What was found, or why not; without either: ready for requests. `fault` is an error of this program, not of the file.

    `spent`: the helper has grown, or is still busy, and should be replaced.
    """

    found: msgspec.Raw = msgspec.Raw(b"null")
    refused: str = ""
    fault: str = ""
    spent: bool = False


def send(pipe: BinaryIO, data: bytes) -> None:
    """Write one message, its length first."""
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: BinaryIO) -> bytes | None:
    """Read one message; None when the other side is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return data if len(data) == length else None


class HelperOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How helpers are run: the module to start, bounds, and the words for people.

    `section` is the section of the settings that has ``memory_mb`` and, named by `time_limit`, the seconds for one file;
    `doing` says what helpers do ("reads documents"). `refusal` is the error for a file that can't be read. `most` bounds how
    many helpers there are, None for as many as threads ask at once. `environment` is added to the few variables that helpers
    get.
    """

    module: str
    section: str
    doing: str
    memory_mb: int
    idle_seconds: float
    refusal: type[PaddockError] = ValidationFailed
    most: int | None = None
    environment: dict[str, str] = {}
    time_limit: str = "timeout_seconds"


class Helper:
    """One helper process. Used by one thread at a time."""

    def __init__(self, options: HelperOptions) -> None:
        self._options = options
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | options.environment
        command = [sys.executable, "-m", options.module, str(options.memory_mb)]
        try:
            self._process = subprocess.Popen(  # noqa: S603  a fixed command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                process_group=0,  # what it starts itself ends with it
            )
        except OSError as error:
            raise ProviderUnavailable(
                f"no helper process that {options.doing} could be started: check free memory"
            ) from error
        self.uses = 0
        self.timed_out = False
        self.expiry: threading.Timer | None = None

    def ask(self, request: bytes, timeout: float) -> HelperReply | None:
        """The reply, or None when the helper died (`timed_out` tells whether it was killed for its time).

        Raises ProviderUnavailable when it can't even start.
        """
        self.uses += 1
        if self.uses == 1 and self._exchange(None, START) is None:
            options = self._options
            raise ProviderUnavailable(
                f"the helper process that {options.doing} can't start: check {options.section}.memory_mb and free memory, "
                f"or see why with python -m {options.module} {options.memory_mb}"
            )
        return self._exchange(request, timeout + GRACE)

    def _exchange(self, request: bytes | None, seconds: float) -> HelperReply | None:
        deadline = threading.Timer(seconds, self._out_of_time)
        deadline.daemon = True
        deadline.start()
        try:
            if request is not None:
                send(cast(BinaryIO, self._process.stdin), request)
            data = receive(cast(BinaryIO, self._process.stdout))
        except OSError:
            data = None
        finally:
            deadline.cancel()
        return None if data is None else msgspec.json.decode(data, type=HelperReply)

    def _out_of_time(self) -> None:
        self.timed_out = True
        self.kill()

    def kill(self) -> None:
        """Let the thread that waits for a reply get None."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill and wait; idempotent."""
        if self.expiry:
            self.expiry.cancel()
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was still to be written no longer matters


class HelperPool:
    """Helpers that are started when needed, killed on timeout, ended when idle. Thread-safe."""

    def __init__(self, options: HelperOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._idle: list[Helper] = []
        self._busy: set[Helper] = set()
        self._closed = False
        self._seats = threading.BoundedSemaphore(options.most) if options.most else None
        self._threads = ThreadPoolExecutor(options.most or 4, thread_name_prefix=options.section)

    @property
    def count(self) -> int:
        """How many helpers there are."""
        with self._lock:
            return len(self._idle) + len(self._busy)

    def ask(self, request: bytes, timeout: float, began: Callable[[Helper], None] | None = None) -> msgspec.Raw:
        """Let a helper do one piece of work within `timeout` seconds; what it found, as JSON. Blocks. `began` is told which
        helper does it.

        Raises the `refusal` of the options with the reason when the file is at fault, ProviderUnavailable after `close`.
        """
        if self._seats is None:
            return self._ask(request, timeout, began)
        with self._seats:
            return self._ask(request, timeout, began)

    def _ask(self, request: bytes, timeout: float, began: Callable[[Helper], None] | None) -> msgspec.Raw:
        while True:
            helper = self._take()
            if began:
                began(helper)
            fresh = helper.uses == 0
            reply = None
            try:
                reply = helper.ask(request, timeout)
            finally:
                self._give_back(helper, usable=reply is not None and not reply.spent)
            if reply is None and self._closed:
                raise ProviderUnavailable("the server is stopping")
            if reply is not None or helper.timed_out or fresh:
                return self._found(reply, timed_out=helper.timed_out)
            # An old helper may have been ended from outside while it was idle: the file gets a new one.

    async def ask_async(self, request: bytes, timeout: float) -> msgspec.Raw:
        """The same from the event loop. Cancelling ends the helper that works on it."""
        if self._closed:
            raise ProviderUnavailable("the server is stopping")
        working = _Working()
        job = self._threads.submit(self.ask, request, timeout, working.began)
        future = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not job.cancel():
                working.stop()
                await asyncio.wait((future,))
                future.exception()  # nobody else asks for it
            raise

    def close(self) -> None:
        """End all helpers; a thread that is waiting for one gets ProviderUnavailable. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for helper in self._busy:
                helper.kill()  # its own thread does the rest
        for helper in idle:
            helper.end()
        self._threads.shutdown(wait=False)

    def _take(self) -> Helper:
        with self._lock:
            if self._closed:
                raise ProviderUnavailable("the server is stopping")
            helper = self._idle.pop() if self._idle else Helper(self.options)
            if helper.expiry:
                helper.expiry.cancel()
            self._busy.add(helper)
            return helper

    def _give_back(self, helper: Helper, *, usable: bool) -> None:
        with self._lock:
            self._busy.discard(helper)
            keep = usable and not self._closed
            if keep:
                helper.expiry = threading.Timer(self.options.idle_seconds, self._expire, (helper,))
                helper.expiry.daemon = True
                helper.expiry.start()
                self._idle.append(helper)
        if not keep:
            helper.end()

    def _expire(self, helper: Helper) -> None:
        with self._lock:
            if helper not in self._idle:
                return
            self._idle.remove(helper)
        helper.end()

    def _found(self, reply: HelperReply | None, *, timed_out: bool) -> msgspec.Raw:
        section, refusal = self.options.section, self.options.refusal
        if timed_out:
            raise refusal(f"the file took longer than {section}.{self.options.time_limit} to read")
        if reply is None:
            raise refusal(
                f"the file crashed its reader, or needs more than {section}.memory_mb: it is damaged or hostile"
            )
        if reply.fault:
            raise RuntimeError(f"{self.options.module} failed on a file: {reply.fault}")
        if bytes(reply.found) == b"null":
            raise refusal(f"the file {reply.refused}")
        return reply.found


class _Working:
    """Which helper works on a request that may be cancelled from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: Helper | None = None
        self._stopped = False

    def began(self, helper: Helper) -> None:
        """Note the helper; one that comes after the end of waiting is killed at once."""
        with self._lock:
            self._helper = helper
            if self._stopped:
                helper.kill()

    def stop(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._stopped = True
            if self._helper:
                self._helper.kill()
