"""Project chat through the openai plugin against a fast mock upstream: requests, streams, memory. The event log is on.

python tests/benchmarks/chat.py [--seconds 10] [--runs 3] [--memory]
"""

from __future__ import annotations

import argparse
from typing import Any

from common import ask, folder, goal, median_load, mock_upstream, server, settled_rss, wrk

BODY = {"messages": [{"role": "user", "content": "Hello!"}], "rag_enabled": False}
STATELESS = ("X-No-Session: 1",)


def project(url: str, upstream: str) -> str:
    """A project whose model is the mock; returns its chat path."""
    ask(url, "POST", "/v1/projects/bench", {"name": "chat", "config_template": "server"})
    config = ask(url, "GET", "/v1/projects/bench/chat")["project"]["config"]
    config["runtime"] = {
        "models": [{"name": "mock", "provider": "openai", "model": "mock", "base_url": f"{upstream}/v1"}],
        "default_model": "mock",
    }
    ask(url, "PUT", "/v1/projects/bench/chat", {"config": config})
    return "/v1/projects/bench/chat/chat/completions"


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=10)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--memory", action="store_true", help="only the memory over 50,000 requests")
    given = options.parse_args()
    with folder() as data, mock_upstream() as upstream:
        env = {"PADDOCK_OUTGOING__ALLOW": upstream.removeprefix("http://")}
        with server(data, env) as child:
            path = project(child.url, upstream)
            if not given.memory:
                speed(child.url + path, upstream + "/v1/chat/completions", given.runs, given.seconds)
            memory(child.url + path, child.pid)


def speed(ours: str, direct: str, runs: int, seconds: float) -> None:
    """Requests and streams a second, beside the upstream alone."""
    how: dict[str, Any] = {"runs": runs, "seconds": seconds, "headers": STATELESS}
    through, alone = median_load(ours, BODY, **how), median_load(direct, BODY, **how)
    goal("chat requests a second", through.rate, 2000, least=True)
    print(f"  the mock alone: {alone.rate:,.0f}/s, ratio {through.rate / alone.rate:.3f}; p50 {through.p50:.2f} ms")
    body = {**BODY, "stream": True}
    through, alone = median_load(ours, body, **how), median_load(direct, body, **how)
    goal("streams of 200 chunks a second", through.rate, 600, least=True)
    print(f"  the mock alone: {alone.rate:,.0f}/s, ratio {through.rate / alone.rate:.3f}")


def memory(url: str, pid: int) -> None:
    """Resident memory after 5,000 and after 50,000 requests, a tenth of them streams."""
    served, early = 0, 0.0
    while served < 50_000:
        load = wrk(url, BODY, seconds=2, headers=STATELESS)
        served += load.replies + wrk(url, {**BODY, "stream": True}, seconds=1, headers=STATELESS).replies
        if not early and served >= 5_000:
            early = settled_rss(pid)
    late = settled_rss(pid)
    goal(f"memory growth over {served:,} requests", late - early, 8, unit=" MB")
    print(f"  {early:.1f} MB early, {late:.1f} MB late")


if __name__ == "__main__":
    main()
