"""The event log: what happened in a project, or outside of all of them, newest first.

Replies carry both sets of names that clients of this API read: ``type, summary, data, sub_events`` of its document, and
``event_type, status, duration_ms, events`` of its server. Times are ISO 8601 in UTC, durations in milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Json, Name, endpoint
from paddock.contracts.projects import ProjectPath
from paddock.errors import BadName, EventNotFound, ProjectNotFound, ValidationFailed

Outcome = Literal["completed", "failed"]


class EventFilter(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events.

    `type` is one type (inference, rag_query, …). `start_time` and `end_time` are ISO 8601, both inclusive, and compare
    with the time at which the event began; a time without offset is UTC.
    """

    type: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0


class EventListPath(EventFilter, frozen=True, kw_only=True):
    """A page of a project's events."""

    namespace: Name
    project: Name


class SystemEventPath(msgspec.Struct, frozen=True, kw_only=True):
    """One event that belongs to no project."""

    event_id: Name


class EventPath(ProjectPath, frozen=True, kw_only=True):
    """One event."""

    event_id: Name


class EventSummary(msgspec.Struct, kw_only=True):
    """The figures that a list shows; null where the event has no such figure."""

    model: str | None
    tokens: int | None
    duration_ms: float


class EventItem(msgspec.Struct, kw_only=True):
    """An event in a list; `config_hash` tells which revision of llamafarm.yaml it ran with."""

    event_id: str
    type: str
    event_type: str
    request_id: str
    timestamp: str
    namespace: str
    project: str
    status: Outcome
    duration_ms: float
    config_hash: str | None
    summary: EventSummary


class SubEvent(msgspec.Struct, kw_only=True):
    """A step within an event; `duration_ms` is the time since the step before."""

    timestamp: str
    event_name: str
    duration_ms: float
    data: dict[str, Json]


class EventDetail(EventItem, kw_only=True):
    """An event with all its steps (`events` and `sub_events` are the same list). Secrets are masked, long texts cut."""

    data: dict[str, Json]
    events: list[SubEvent]
    sub_events: list[SubEvent]
    error: str | None
    metadata: dict[str, Json]
    total_elapsed_time_ms: float
    time_to_first_token_ms: float | None


class EventList(msgspec.Struct, kw_only=True):
    """A page of events, the one that ended last first. `total` counts all that the filters let through."""

    total: int
    events: list[EventItem]
    limit: int
    offset: int


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/event_logs",
    access="read",
    tags=("events",),
    raises=(BadName, ProjectNotFound, ValidationFailed),
)
def event_logs_list(ctx: Context, params: EventListPath) -> Awaitable[EventList]:
    """List the project's events, the one that ended last first. Everything that ended before the call is there."""


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/event_logs/{event_id}",
    access="read",
    tags=("events",),
    raises=(BadName, ProjectNotFound, EventNotFound),
)
def event_log_get(ctx: Context, params: EventPath) -> Awaitable[EventDetail]:
    """Return one event with its steps. Another project's event is not found."""


@endpoint("GET", "/v1/system/event_logs", access="read", tags=("events",), raises=(ValidationFailed,))
def system_event_logs_list(ctx: Context, params: EventFilter) -> Awaitable[EventList]:
    """List the events that belong to no project (requests of the gateway, instances, keys), as `event_logs_list` does those
    of one; their namespace and project are empty."""


@endpoint("GET", "/v1/system/event_logs/{event_id}", access="read", tags=("events",), raises=(BadName, EventNotFound))
def system_event_log_get(ctx: Context, params: SystemEventPath) -> Awaitable[EventDetail]:
    """Return one of them with its steps."""
