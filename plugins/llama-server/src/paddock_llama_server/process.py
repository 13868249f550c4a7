"""A child process: started without a shell in a group of its own, its output read as it comes, its end noticed at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paddock_llama_server import groups
from paddock_llama_server.lines import Splitter
from paddock_llama_server.scripts import guardian, launch

CHUNK = 256 * 1024
LAST = 4 * 1024 * 1024  # bytes that are still read from the pipe after the end
KILLED = 10  # seconds that killed processes have to vanish

Output = Callable[[list[str]], None]


def python(script: str, *arguments: str) -> list[str]:
    """The command of one of our scripts: this Python, without its site packages and variables."""
    return [sys.executable, "-I", "-S", script, *arguments]


class Child:
    """One started process, which leads its own group. Start it in the event loop's thread: the kernel kills it when that
    thread ends. `notice` is called in the loop when it has exited."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], output: Output, notice: Callable[[], None]
    ) -> None:
        self._output = output
        self._notice = notice
        self._lines = Splitter()
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.signalled = False
        self.began = time.monotonic()
        reading, writing = os.pipe()
        try:
            self._popen = subprocess.Popen(  # noqa: S603  an argument list, no shell
                [*python(str(launch.__file__)), str(os.getpid()), *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self.pid = self._popen.pid
        self.started = groups.started(self.pid) or ""
        os.set_blocking(reading, False)
        self._pipe: int | None = reading
        self._loop.add_reader(reading, self._readable)
        self._watch()

    @property
    def exited(self) -> bool:
        """Whether the process itself has ended; others of its group may live."""
        return self._end.is_set()

    @property
    def code(self) -> int:
        """The exit status, negative for a signal. Only after the end."""
        return self._popen.returncode

    def _watch(self) -> None:
        try:
            handle = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # not Linux, or forbidden by a sandbox
            threading.Thread(target=self._wait, daemon=True, name="paddock-child").start()
            return
        self._loop.add_reader(handle, self._ended, handle)

    def _wait(self) -> None:
        self._popen.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ended, None)

    def _ended(self, handle: int | None) -> None:
        if handle is not None:
            if self._popen.poll() is None:
                return
            self._loop.remove_reader(handle)
            os.close(handle)
        budget = LAST
        while budget > 0 and (size := self._read()):
            budget -= size
        self._output(self._lines.end())
        self._end.set()
        self._notice()

    def _readable(self) -> None:
        self._read()

    def _read(self) -> int:
        """Take one chunk; 0 when there is none now."""
        if self._pipe is None:
            return 0
        try:
            chunk = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            self._close_pipe()
            return 0
        found = self._lines.feed(chunk)
        if found:
            self._output(found)
        return len(chunk)

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = None

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole group."""
        self.signalled = True
        groups.signal_group(self.pid, number)

    async def gone(self, timeout: float) -> bool:
        """Wait until no member of the group is left; false after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        if not self.exited:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), timeout)
        return self.exited and await groups.vanished(self.pid, max(0.0, deadline - time.monotonic()))

    async def destroy(self) -> bool:
        """Kill the group and wait for all of it; false when the system does not let go of a process."""
        self.signal(signal.SIGKILL)
        done = await self.gone(KILLED)
        self._close_pipe()
        return done


class Guardian:
    """The process that kills what is left when this one dies, grandchildren included. Started with the first child."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._groups: set[int] = set()
        self._popen: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """Announce a group, after `ensure`."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def ensure(self) -> None:
        """Start it if it does not run. Raises OSError when it can't be."""
        if self._popen is None or self._popen.poll() is not None:
            self._start()

    def _start(self) -> None:
        self._popen = subprocess.Popen(  # noqa: S603  an argument list, no shell
            python(str(guardian.__file__), self._tag),
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for group in self._groups:
            self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """A group is gone: its number may belong to others soon."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        if self._popen is not None and self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.write(line.encode())
                self._popen.stdin.flush()

    async def close(self) -> None:
        """End it: nothing is left to guard."""
        if self._popen is not None and self._popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._popen.stdin.close()
            await asyncio.to_thread(self._popen.wait)


PASSED = (
    "PATH", "HOME", "USER", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "HSA_OVERRIDE_GFX_VERSION", "GGML_VK_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR", "OMP_NUM_THREADS",
)  # fmt: skip
"""What a child inherits; nothing else of paddock's own environment, which holds keys."""


def environment(*given: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: the few inherited variables, then each of `given` over the former."""
    found = {name: os.environ[name] for name in PASSED if name in os.environ}
    for more in given:
        found |= more
    return found


def find_command(command: str, path: str | None = None) -> str | None:
    """The absolute path of an executable by name or path, or None."""
    found = shutil.which(os.path.expanduser(command), path=path)  # noqa: PTH111  which takes text
    return None if found is None else str(Path(found).absolute())
