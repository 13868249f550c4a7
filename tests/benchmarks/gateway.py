"""The gateway in front of a fast mock upstream: requests, streams, what it adds, memory. Everything is on, the event log too.

python tests/benchmarks/gateway.py [--seconds 10] [--runs 3] [--memory] [--against litellm]
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from common import folder, goal, median_load, mock_upstream, server, settled_rss, wrk

PATH = "/v1/chat/completions"
BODY = {"model": "mock", "messages": [{"role": "user", "content": "Hello!"}]}
STREAM = {**BODY, "stream": True}
VENV = Path("~/.cache/paddock/litellm").expanduser()
START = 120  # seconds that LiteLLM may take to start


class Given(NamedTuple):
    """How often and how long."""

    runs: int
    seconds: float


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--memory", action="store_true", help="only the memory over 50,000 requests")
    options.add_argument("--against", choices=["litellm"], help="another gateway in front of the same upstream")
    given = options.parse_args()
    how = Given(given.runs, given.seconds)
    with folder() as data, mock_upstream() as upstream:
        env = {"PADDOCK_GATEWAY__UPSTREAMS": json.dumps({"mock": {"base_url": f"{upstream}/v1"}})}
        with server(data, env) as child:
            ours, direct = child.url + PATH, upstream + PATH
            wrk(ours, BODY, seconds=1)
            if given.against:
                against(ours, upstream, data, how)
                return
            if not given.memory:
                throughput(ours, direct, how)
                delays(ours, direct, how)
            memory(ours, child.pid)


def throughput(ours: str, direct: str, how: Given) -> None:
    """Requests and streams a second at concurrency 16, beside the upstream alone."""
    for name, body, least in (("requests", BODY, 2000), ("streams of 200 chunks", STREAM, 700)):
        through, alone = (median_load(url, body, **how._asdict()) for url in (ours, direct))
        goal(f"gateway {name} a second", through.rate, least, least=True)
        print(f"  the mock alone: {alone.rate:,.0f}/s; p50 {through.p50:.2f} ms, alone {alone.p50:.2f} ms")


def delays(ours: str, direct: str, how: Given) -> None:
    """What the gateway adds to one request, to a first token, and whether it holds at concurrency 64."""
    through, alone = (median_load(url, BODY, connections=1, **how._asdict()) for url in (ours, direct))
    goal("added median at concurrency 1", through.p50 - alone.p50, 1.5, unit=" ms")
    firsts = [statistics.median(first_pieces(url, how.seconds) for _ in range(how.runs)) for url in (ours, direct)]
    goal("first token later by", firsts[0] - firsts[1], 2, unit=" ms")
    through, alone = (median_load(url, BODY, connections=64, **how._asdict()) for url in (ours, direct))
    goal("p99 at concurrency 64 over the mock's own", through.p99 / alone.p99, 20, unit=" times")
    print(f"  {through.rate:,.0f}/s, p50 {through.p50:.1f} ms, p99 {through.p99:.1f} ms; alone p99 {alone.p99:.1f} ms")


def first_pieces(url: str, seconds: float) -> float:
    """The median time from asking for a stream to its first byte, in milliseconds, one stream after the other."""
    parts = urlsplit(url)
    assert parts.hostname
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    body, headers = json.dumps(STREAM), {"Content-Type": "application/json"}
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times) < 20:
        begun = time.perf_counter()
        connection.request("POST", parts.path, body, headers)
        reply = connection.getresponse()
        reply.read(1)
        times.append((time.perf_counter() - begun) * 1000)
        reply.read()
    connection.close()
    return statistics.median(times)


def memory(url: str, pid: int) -> None:
    """Resident memory after 5,000 and after 50,000 requests, streams among them."""
    served, early = 0, 0.0
    while served < 50_000:
        served += wrk(url, BODY, seconds=2).replies + wrk(url, STREAM, seconds=1).replies
        if not early and served >= 5_000:
            early = settled_rss(pid)
    late = settled_rss(pid)
    goal(f"memory growth over {served:,} requests", late - early, 8, unit=" MB")
    print(f"  {early:.1f} MB early, {late:.1f} MB late")


# --- LiteLLM -----------------------------------------------------------------------------------------------------------


def against(ours: str, upstream: str, work: Path, how: Given) -> None:
    """The same load on LiteLLM's proxy, and the ratio."""
    with litellm(upstream, work) as other:
        for name, body in (("requests", BODY), ("streams of 200 chunks", STREAM)):
            wrk(other + PATH, body, seconds=1)
            mine, theirs = (median_load(url, body, **how._asdict()) for url in (ours, other + PATH))
            print(
                f"{name} a second: {mine.rate:,.0f}, LiteLLM {theirs.rate:,.1f}; p50 {mine.p50:.1f}, {theirs.p50:.1f} ms"
            )
            if body is BODY:
                goal("throughput over LiteLLM's", mine.rate / theirs.rate, 40, least=True, unit=" times")
            else:
                print(f"  ratio {mine.rate / theirs.rate:.1f}")


@contextlib.contextmanager
def litellm(upstream: str, work: Path) -> Iterator[str]:
    """LiteLLM's proxy from a virtual environment of its own, made at the first run; yields its address."""
    command = VENV / "bin" / "litellm"
    if not command.exists():
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(VENV)], check=True)
        python = str(VENV / "bin" / "python")
        subprocess.run(["uv", "pip", "install", "--quiet", "--python", python, "litellm[proxy]"], check=True)
    model = {"model": "openai/mock", "api_base": f"{upstream}/v1", "api_key": "none"}
    config: dict[str, Any] = {
        "model_list": [{"model_name": "mock", "litellm_params": model}],
        # Without keys, as paddock is measured: it is quicker so.
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},
    }
    (work / "litellm.yaml").write_text(json.dumps(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["--config", str(work / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    child = subprocess.Popen(
        [str(command), *arguments], env=clean, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health/liveliness", child)
        yield url
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def wait_for(url: str, child: subprocess.Popen[bytes]) -> None:
    """Until somebody answers."""
    begun = time.monotonic()
    while time.monotonic() - begun < START and child.poll() is None:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=1):
            print(f"LiteLLM answers after {time.monotonic() - begun:.1f} s", flush=True)
            return
        time.sleep(0.2)
    sys.exit("LiteLLM did not start")


if __name__ == "__main__":
    main()
