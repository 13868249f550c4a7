"""The first request to a stopped instance: what paddock adds to the time that llama-server itself takes to start.

    python tests/benchmarks/cold_start.py [--command LLAMA_SERVER] [--runs 7]

With the tiny model that the tests write. Prints the median of what is added, and the whole wait beside llama-server's own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

from common import ask, folder, goal, server
from paddock_llama_server.tiny import write_tiny_model

BODY = {"model": "cold", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def own_start(command: str, model: Path) -> float:
    """Seconds from spawning llama-server to its first answer to a request."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = time.perf_counter()
    words = [command, "--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as reply:
                if reply.status == 200:
                    ask(f"http://127.0.0.1:{port}", "POST", "/v1/chat/completions", BODY)
                    return time.perf_counter() - start
            time.sleep(0.002)
    finally:
        child.terminate()
        child.wait()


def through_paddock(url: str) -> float:
    """Seconds of a request that starts the instance."""
    ask(url, "POST", "/api/v1/instances/cold/stop")
    while ask(url, "GET", "/api/v1/instances/cold")["status"] != "stopped":
        time.sleep(0.01)
    start = time.perf_counter()
    ask(url, "POST", "/v1/chat/completions", BODY)
    return time.perf_counter() - start


def main() -> None:
    """Read the options and measure, the two in turn."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--command", default=os.environ.get("PADDOCK_LLAMA_SERVER__COMMAND", "llama-server"))
    options.add_argument("--runs", type=int, default=7)
    given = options.parse_args()
    with folder() as data:
        model = data / "tiny.gguf"
        write_tiny_model(model)
        with server(data / "data", {"PADDOCK_LLAMA_SERVER__COMMAND": given.command}) as child:
            ask(child.url, "POST", "/api/v1/instances/cold", {"model": str(model)})
            through_paddock(child.url)  # libraries are loaded, the file is in the page cache
            pairs = [(through_paddock(child.url), own_start(given.command, model)) for _ in range(given.runs)]
    ours, alone = (statistics.median(times) for times in zip(*pairs, strict=True))
    goal("added to a cold start", statistics.median(one - other for one, other in pairs), 0.5, unit=" s")
    print(f"  through paddock {ours:.3f} s, llama-server alone {alone:.3f} s, ratio {ours / alone:.2f}")


if __name__ == "__main__":
    main()
