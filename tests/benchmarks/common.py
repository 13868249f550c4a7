"""What the benchmarks share: a server as a child process, wrk as the load generator, figures of a process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent


class Child(NamedTuple):
    """A running child: where it answers, and its process id."""

    url: str
    pid: int


@contextlib.contextmanager
def server(data_dir: Path, env: Mapping[str, str] | None = None, log: str = "error") -> Iterator[Child]:
    """`paddock serve` on a free port; the data stays in `data_dir`."""
    command = [sys.executable, "-m", "paddock", "serve", "--port", "0", "--data-dir", str(data_dir)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PADDOCK_")}
    clean |= {"PADDOCK_LOG__FORMAT": "json", **(env or {})}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=clean)
    assert child.stdout
    try:
        url = next((json.loads(line)["url"] for line in child.stdout if b'"serving"' in line), None)
        if url is None:
            sys.exit("the server did not start")
        # The log goes on; somebody has to read it, or the pipe fills.
        with subprocess.Popen(["cat"], stdin=child.stdout, stdout=subprocess.DEVNULL):
            try:
                yield Child(url, child.pid)
            finally:
                child.send_signal(signal.SIGTERM)
                child.wait()
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def mock_upstream(*arguments: str) -> Iterator[str]:
    """The fast mock upstream; yields its address."""
    command = [sys.executable, str(HERE / "mock_upstream.py"), "--port", "0", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    try:
        port = child.stdout.readline().split()[-1]
        yield f"http://127.0.0.1:{port}"
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="paddock-bench-") as name:
        yield Path(name)


def ask(url: str, method: str, path: str, body: Any = None) -> Any:
    """Send JSON, return JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, method=method, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return json.load(reply)


class Load(NamedTuple):
    """What wrk saw: replies a second, median and 99th percentile in milliseconds, replies that were not 2xx or broke."""

    rate: float
    p50: float
    p99: float
    errors: int
    replies: int


def wrk(url: str, body: Any = None, *, connections: int = 16, seconds: float = 10, headers: Sequence[str] = ()) -> Load:
    """Load a URL. Needs wrk (Debian package wrk)."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    with folder() as work:
        script = work / "post.lua"
        lines = [
            f"wrk.headers[{json.dumps(key)}] = {json.dumps(value)}" for key, value in (h.split(": ") for h in headers)
        ]
        if body is not None:
            lines += ['wrk.method = "POST"', f"wrk.body = {json.dumps(json.dumps(body))}"]
            lines += ['wrk.headers["Content-Type"] = "application/json"']
        script.write_text("\n".join(lines))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds:g}s",
            "--latency",
            "--timeout",
            "30s",
            "-s",
            str(script),
            url,
        ]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    non2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    errors = int(non2xx.group(1)) if non2xx else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    replies = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert rate, text
    assert replies, text
    return Load(float(rate.group(1)), _latency(text, "50%"), _latency(text, "99%"), errors, int(replies.group(1)))


def _latency(text: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", text)
    assert found, text
    return float(found.group(1)) * {"us": 0.001, "ms": 1, "s": 1000}[found.group(2)]


def median_load(url: str, body: Any = None, *, runs: int = 3, **given: Any) -> Load:
    """The run with the median rate of several; all replies must be good."""
    loads = sorted((wrk(url, body, **given) for _ in range(runs)), key=lambda load: load.rate)
    if any(load.errors for load in loads):
        sys.exit(f"{url}: {sum(load.errors for load in loads)} replies were errors")
    return loads[len(loads) // 2]


def rss(pid: int) -> float:
    """Resident memory in MB (10^6 bytes) of a process and its children."""
    import psutil

    top = psutil.Process(pid)
    return float(sum(one.memory_info().rss for one in (top, *top.children(recursive=True)))) / 1e6


def settled_rss(pid: int, seconds: float = 2) -> float:
    """The median of the resident memory over a while."""
    values = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        values.append(rss(pid))
        time.sleep(0.1)
    return statistics.median(values)


def goal(name: str, value: float, limit: float, *, least: bool = False, unit: str = "") -> None:
    """Print a figure beside its goal."""
    good = value >= limit if least else value <= limit
    print(
        f"{name}: {value:,.3f}{unit} (goal {'≥' if least else '≤'} {limit:,g}{unit}) {'ok' if good else 'MISSED'}",
        flush=True,
    )
