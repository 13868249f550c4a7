"""Rows of the event log, and the replies made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.events import EventDetail, EventFilter, EventItem, EventSummary, SubEvent
from paddock.errors import FieldError, ValidationFailed
from paddock.storage import Connection

COLUMNS = "event_id, namespace, project, type, status, started, duration_ms, body"


class Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The column `body`. A step is name, seconds since the start, milliseconds since the step before, data."""

    request_id: str
    config_hash: str | None = None
    data: dict[str, Any] = {}
    steps: list[tuple[str, float, float, dict[str, Any]]] = []
    error: str | None = None
    first_token_ms: float | None = None


_body = msgspec.json.Decoder(Body, strict=True).decode


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _facts(row: Any) -> tuple[dict[str, Any], Body]:
    event_id, namespace, project, kind, status, started, duration, encoded = row
    body = _body(encoded)
    tokens, model = body.data.get("tokens"), body.data.get("model")
    total = tokens.get("total") if isinstance(tokens, dict) else tokens
    summary = EventSummary(
        model=model if isinstance(model, str) else None,
        tokens=total if isinstance(total, int) else None,
        duration_ms=duration,
    )
    facts: dict[str, Any] = {
        "event_id": event_id,
        "type": kind,
        "event_type": kind,
        "request_id": body.request_id,
        "timestamp": _stamp(started),
        "namespace": namespace,
        "project": project,
        "status": status,
        "duration_ms": duration,
        "config_hash": body.config_hash,
        "summary": summary,
    }
    return facts, body


def event_item(row: Any) -> EventItem:
    """A row (`COLUMNS`) for a list."""
    return EventItem(**_facts(row)[0])


def event_detail(row: Any) -> EventDetail:
    """A row (`COLUMNS`) in full."""
    facts, body = _facts(row)
    steps = [
        SubEvent(timestamp=_stamp(row[5] + at), event_name=name, duration_ms=round(since, 3), data=data)
        for name, at, since, data in body.steps
    ]
    return EventDetail(
        **facts,
        data={**body.data, "duration_ms": row[6]},
        events=steps,
        sub_events=steps,
        error=body.error,
        metadata={"first_token_ms": body.first_token_ms} if body.first_token_ms is not None else {},
        total_elapsed_time_ms=row[6],
        time_to_first_token_ms=body.first_token_ms,
    )


def conditions(namespace: str, project: str, params: EventFilter) -> tuple[str, list[Json]]:
    """The filters as SQL and its values. Raises ValidationFailed for a time that is none."""
    where = "namespace = ? AND project = ?"
    values: list[Json] = [namespace, project]
    for clause, value in (
        ("type = ?", params.type),
        ("started >= ?", parse_time("start_time", params.start_time)),
        ("started <= ?", parse_time("end_time", params.end_time)),
    ):
        if value is not None:
            where, values = f"{where} AND {clause}", [*values, value]
    return where, values


def parse_time(field: str, text: str | None) -> float | None:
    """ISO 8601 as seconds since 1970; without an offset it is UTC. Raises ValidationFailed naming the field."""
    if text is None:
        return None
    # A plus sign that was not percent-encoded arrives as a space.
    text = re.sub(r"(T[0-9:.,]+) (\d\d:?\d\d)$", r"\1+\2", text[:64])
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValidationFailed.of([FieldError(field, "not an ISO 8601 time such as 2024-01-15T10:30:00Z")]) from error


def drop_many(db: Connection, key: tuple[str, str], keep: int) -> None:
    """Drop the oldest events of a project (namespace, name) that has more than `keep`, so that no type of which there are
    few gives way to one of which there are many."""
    newest_first = (
        "SELECT type, count(*) FROM events WHERE namespace = ? AND project = ? GROUP BY type ORDER BY max(id) DESC"
    )
    rows: list[Any] = db.execute(newest_first, key).fetchall()
    counts: dict[str, int] = dict(rows)
    for kind, share in shares(counts, keep).items():
        if counts[kind] > share:
            db.execute(
                "DELETE FROM events WHERE namespace = ?1 AND project = ?2 AND type = ?3 AND id <= (SELECT id FROM events "
                "WHERE namespace = ?1 AND project = ?2 AND type = ?3 ORDER BY id DESC LIMIT 1 OFFSET ?4)",
                (*key, kind, share),
            )


def shares(counts: Mapping[str, int], keep: int) -> dict[str, int]:
    """How many of each kind may stay, `keep` in all: kinds of which there are few keep theirs, the others get equal parts. What
    can't be divided goes to those that are named first."""
    found: dict[str, int] = {}
    places = {kind: place for place, kind in enumerate(counts)}
    for number, kind in enumerate(sorted(counts, key=lambda kind: (counts[kind], -places[kind]))):
        found[kind] = min(counts[kind], keep // (len(counts) - number))
        keep -= found[kind]
    return found
