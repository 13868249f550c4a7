"""The helper processes that read documents: started when needed, killed on timeout, ended when idle."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import BinaryIO, cast

import msgspec

from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_documents.settings import DocumentSettings
from paddock_documents.wire import Extracted, Reply, Request, receive, send

START = 60.0  # seconds for a helper to start on a busy machine
GRACE = 2.0  # seconds beyond the timeout in which the helper itself may still answer
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


class Reader:
    """One helper process. Used by one thread at a time."""

    def __init__(self, memory_mb: int) -> None:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        command = [sys.executable, "-m", "paddock_documents.worker", str(memory_mb)]
        try:
            self._process = subprocess.Popen(  # noqa: S603  a fixed command
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
            )
        except OSError as error:
            raise ProviderUnavailable(
                "no helper process to read documents could be started: check free memory"
            ) from error
        self.uses = 0
        self.timed_out = False
        self.expiry: threading.Timer | None = None

    def ask(self, request: Request) -> Reply | None:
        """The reply, or None when the helper died (`timed_out` tells whether it was killed for its time).

        Raises ProviderUnavailable when it can't even start.
        """
        self.uses += 1
        if self.uses == 1 and self._exchange(None, START) is None:
            raise ProviderUnavailable(
                "the helper process that reads documents can't start: check documents.memory_mb and free memory,"
                " or see why with python -m paddock_documents.worker 2048"
            )
        return self._exchange(request, request.timeout + GRACE)

    def _exchange(self, request: Request | None, seconds: float) -> Reply | None:
        deadline = threading.Timer(seconds, self._out_of_time)
        deadline.daemon = True
        deadline.start()
        try:
            if request:
                send(cast(BinaryIO, self._process.stdin), request)
            data = receive(cast(BinaryIO, self._process.stdout))
        except OSError:
            data = None
        finally:
            deadline.cancel()
        return None if data is None else msgspec.json.decode(data, type=Reply)

    def _out_of_time(self) -> None:
        self.timed_out = True
        self.kill()

    def kill(self) -> None:
        """Let the thread that waits for a reply get None."""
        self._process.kill()

    def end(self) -> None:
        """Kill and wait; idempotent."""
        if self.expiry:
            self.expiry.cancel()
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue  # what was still to be written no longer matters


class Readers:
    """As many helpers as threads ask at once; those without work wait for more and then end. Thread-safe."""

    def __init__(self, settings: DocumentSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._idle: list[Reader] = []
        self._busy: set[Reader] = set()
        self._closed = False

    @property
    def count(self) -> int:
        """How many helpers there are."""
        with self._lock:
            return len(self._idle) + len(self._busy)

    def read(self, request: Request) -> Extracted:
        """Read one document. Blocks. Raises ValidationFailed with the reason, ProviderUnavailable after `close`."""
        while True:
            reader = self._take()
            fresh = reader.uses == 0
            reply = None
            try:
                reply = reader.ask(request)
            finally:
                self._give_back(reader, usable=reply is not None and not reply.spent)
            if reply is None and self._closed:
                raise ProviderUnavailable("the server is stopping")
            if reply is not None or reader.timed_out or fresh:
                return _found(reply, timed_out=reader.timed_out)
            # An old helper may have been ended from outside while it was idle: the document gets a new one.

    def close(self) -> None:
        """End all helpers; a thread that is waiting for one gets ProviderUnavailable. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for reader in self._busy:
                reader.kill()  # its own thread does the rest
        for reader in idle:
            reader.end()

    def _take(self) -> Reader:
        with self._lock:
            if self._closed:
                raise ProviderUnavailable("the server is stopping")
            reader = self._idle.pop() if self._idle else Reader(self.settings.memory_mb)
            if reader.expiry:
                reader.expiry.cancel()
            self._busy.add(reader)
            return reader

    def _give_back(self, reader: Reader, *, usable: bool) -> None:
        with self._lock:
            self._busy.discard(reader)
            keep = usable and not self._closed
            if keep:
                reader.expiry = threading.Timer(self.settings.idle_seconds, self._expire, (reader,))
                reader.expiry.daemon = True
                reader.expiry.start()
                self._idle.append(reader)
        if not keep:
            reader.end()

    def _expire(self, reader: Reader) -> None:
        with self._lock:
            if reader not in self._idle:
                return
            self._idle.remove(reader)
        reader.end()


def _found(reply: Reply | None, *, timed_out: bool) -> Extracted:
    if timed_out:
        raise ValidationFailed("the file took longer than documents.timeout_seconds to read")
    if reply is None:
        raise ValidationFailed(
            "the file crashed its reader, or needs more than documents.memory_mb: it is damaged or hostile"
        )
    if reply.fault:
        raise RuntimeError(f"paddock_documents failed on a file: {reply.fault}")
    if reply.found is None:
        raise ValidationFailed(f"the file {reply.refused}")
    return reply.found
