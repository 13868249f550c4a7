"""Instances as figures for ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paddock.contracts.providers import Sample
from paddock_llama_server.spec import Instance


def samples(instances: Iterable[Instance]) -> Iterator[Sample]:
    """State, requests, queue, restarts and memory of every instance."""
    for one in instances:
        labels = {"instance": one.name}
        state = {**labels, "state": one.status}
        yield Sample(name="instance_state", help="1 for the state that an instance is in.", value=1, labels=state)
        yield Sample(name="instance_requests", help="Requests that it has now.", value=one.in_flight, labels=labels)
        yield Sample(name="instance_waiting", help="Requests that wait for it.", value=one.waiting, labels=labels)
        yield Sample(
            name="instance_restarts", help="Restarts after a crash.", value=one.restarts, labels=labels, kind="counter"
        )
        if one.memory_bytes is not None:
            help_text = "Resident memory of its whole process group."
            yield Sample(name="instance_memory_bytes", help=help_text, value=one.memory_bytes, labels=labels)
