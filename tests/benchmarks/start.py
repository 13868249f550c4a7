"""Start to the first 200 on /health, and idle memory, with all installed plugins; beside a bare Python and a bare Litestar.

python tests/benchmarks/start.py [--runs 7]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

from common import folder, goal, server, settled_rss


@contextlib.contextmanager
def bytecode() -> Iterator[None]:
    """Keep compiled modules in a folder of this run, as an installation keeps them, whatever the environment says."""
    with folder() as cache:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache)
        yield


def first_answer() -> float:
    """Seconds from starting the process to the first 200."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with folder() as data:
        start = time.perf_counter()
        command = [sys.executable, "-m", "paddock", "serve", "--port", str(port), "--data-dir", str(data)]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
                    if reply.status == 200:
                        return time.perf_counter() - start
                time.sleep(0.005)
        finally:
            child.terminate()
            child.wait()


def seconds_of(code: str) -> float:
    """Seconds of a Python process that runs `code`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Read the options and measure."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=7)
    with bytecode():
        measure(options.parse_args().runs)


def measure(runs: int) -> None:
    """Measure and print, once everything is compiled."""
    first_answer()  # the first start compiles the bytecode
    ours = statistics.median(first_answer() for _ in range(runs))
    bare = statistics.median(seconds_of("pass") for _ in range(runs))
    framework = statistics.median(seconds_of("import litestar") for _ in range(runs))
    goal("start to the first 200", ours, 1, unit=" s")
    print(
        f"  a bare Python: {bare:.2f} s; with `import litestar` alone: {framework:.2f} s (ours is {ours / framework:.1f} times)"
    )
    with folder() as data, server(data) as child:
        urllib.request.urlopen(child.url + "/health").read()
        goal("idle memory", settled_rss(child.pid), 130, unit=" MB")


if __name__ == "__main__":
    main()
