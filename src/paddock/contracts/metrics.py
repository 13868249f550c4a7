"""The metrics in Prometheus' format."""

from __future__ import annotations

from collections.abc import Awaitable

from paddock.contracts.base import Context, Reply, endpoint


@endpoint("GET", "/metrics", access="read", kind="reply")
def metrics_get(ctx: Context) -> Awaitable[Reply]:
    """Return requests by operation and status, latencies, tokens by model, open streams, tasks by state, the process, and
    what providers report. Text, not JSON."""
