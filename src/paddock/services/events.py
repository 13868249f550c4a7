"""The event log: one row for each chat, query, ingest and the like, written in batches off the request path.

::

    event = events.begin(namespace, project, "rag_query", ctx.request_id)
    event.sub("rag_query_start", database=name, query=text)
    …
    event.finish(results=len(hits))          # or event.fail(error)

Everything between costs microseconds and can't fail. What is recorded is redacted on the way in: values of keys that
name secrets are masked, bytes and data URLs become their size, and in events of more than two kilobytes long texts,
lists and deep structures are cut. Data are JSON values; what is not becomes its text.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from itertools import count
from typing import Any

import msgspec

from paddock.contracts.base import Context, hookimpl
from paddock.contracts.events import (
    EventDetail,
    EventFilter,
    EventList,
    EventListPath,
    EventPath,
    Outcome,
    SystemEventPath,
)
from paddock.errors import EventNotFound, PaddockError
from paddock.services.core import Core
from paddock.services.event_rows import COLUMNS, Body, conditions, drop_many, event_detail, event_item
from paddock.services.project_files import ProjectFiles
from paddock.services.redaction import clipped, needs_redaction, redacted
from paddock.storage import Connection, check_name

BATCH_SECONDS = 0.5  # how long an event may wait for company
MAX_WAITING = 10_000  # events; beyond that the newest are dropped and counted
MAX_WAITING_BYTES = 32 * 1024 * 1024
MAX_BODY = 32 * 1024
SMALL_BODY = 2048  # bytes of JSON that are kept as they are unless something in them looks like a secret
MAX_STEPS = 100
REMEMBERED = 1000  # deleted projects whose running events are still kept out

_BYTES = frozenset({bytes, bytearray, memoryview})
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Event:
    """An event while it happens. `sub` and `finish` never raise; only the first `finish` or `fail` counts."""

    __slots__ = (
        "_begun", "_last", "_log", "_steps", "config_hash", "first_token_ms", "namespace", "project", "request_id", "started",
        "type",
    )  # fmt: skip

    def __init__(self, log: EventLog, namespace: str, project: str, event_type: str, request_id: str) -> None:
        self._log: EventLog | None = log
        self.namespace = namespace
        self.project = project
        self.type = event_type
        self.request_id = request_id
        self.config_hash: str | None = None
        self.started = log.clock()
        self._begun = self._last = time.perf_counter()
        self._steps: list[tuple[str, float, float, dict[str, Any]]] = []
        self.first_token_ms: float | None = None

    def earlier(self, seconds: float) -> None:
        """Let the event have begun so long ago."""
        self.started -= seconds
        self._begun -= seconds

    def sub(self, name: str, /, **data: Any) -> None:
        """Record a step; its duration is the time since the step before."""
        if len(self._steps) >= MAX_STEPS:
            return
        now = time.perf_counter()
        self._steps.append((name, now - self._begun, (now - self._last) * 1000, data))
        self._last = now

    def first_token(self) -> None:
        """Record that the model began to answer (once)."""
        if self.first_token_ms is None:
            self.first_token_ms = (time.perf_counter() - self._begun) * 1000
            self.sub("llm_first_token")

    def finish(self, /, **data: Any) -> None:
        """End well. ``model`` and ``tokens`` (``{prompt, completion, total}``) appear in the list of events."""
        self._end("completed", None, data)

    def fail(self, error: BaseException | str, /, **data: Any) -> None:
        """End badly. Of an error that is not a `PaddockError` only the name of its class is kept."""
        known = error.message if isinstance(error, PaddockError) else error
        self._end("failed", known if isinstance(known, str) else type(error).__name__, data)

    def _end(self, status: Outcome, error: str | None, data: dict[str, Any]) -> None:
        log, self._log = self._log, None
        if log is None:
            return
        elapsed = (time.perf_counter() - self._begun) * 1000
        body = Body(
            request_id=self.request_id,
            config_hash=self.config_hash,
            data=data,
            steps=self._steps,
            error=error,
            first_token_ms=self.first_token_ms,
        )
        log.put(self, status, elapsed, body)


_Row = tuple[str, str, str, str, str, float, float, bytes]


class EventLog:
    """Takes events and keeps them: by count for each project, fairly among their types, and by age (settings ``events``)."""

    def __init__(self, core: Core, *, clock: Callable[[], float] = time.time) -> None:
        self._core = core
        self._settings = core.settings.events
        self.clock = clock
        self._waiting: deque[_Row] = deque()
        self._bytes = 0
        self._dropped = 0
        self._wake = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._second = (-1, "")
        self._numbers = count(secrets.randbits(24))
        self._written: dict[tuple[str, str], int] = {}
        self._forgotten: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def start(self) -> None:
        """Drop what is too old and begin to write."""
        await self._core.state.write(self._drop_old)
        self._writer = asyncio.create_task(self._write_batches(), name="event-log")

    async def close(self) -> None:
        """Write what waits and stop. Idempotent."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writer
        await self.flush()

    def begin(
        self,
        namespace: str,
        project: str,
        event_type: str,
        request_id: str | None = None,
        config_hash: str | None = None,
    ) -> Event:
        """Start an event; nothing is kept until it ends. `config_hash` is the revision of the project's file."""
        event = Event(self, namespace, project, event_type, request_id or f"req_{secrets.token_hex(6)}")
        event.config_hash = config_hash
        return event

    def record(
        self,
        namespace: str,
        project: str,
        event_type: str,
        *,
        error: BaseException | str | None = None,
        seconds: float = 0.0,
        **data: Any,
    ) -> None:
        """An event without steps that is over already, and took so many seconds."""
        event = self.begin(namespace, project, event_type)
        event.earlier(seconds)
        if error is None:
            event.finish(**data)
        else:
            event.fail(error, **data)

    def put(self, event: Event, status: Outcome, elapsed_ms: float, body: Body) -> None:
        """Queue an event that ended; `Event` calls it."""
        if not self._settings.enabled:
            return
        encoded = _kept(body)
        if len(self._waiting) >= MAX_WAITING or self._bytes + len(encoded) > MAX_WAITING_BYTES:
            self._dropped += 1
            return
        self._bytes += len(encoded)
        event_id = f"evt_{self._stamp(int(event.started))}_{event.type}_{self._number():06x}"
        row = (
            event_id,
            event.namespace,
            event.project,
            event.type,
            status,
            event.started,
            round(elapsed_ms, 3),
            encoded,
        )
        self._waiting.append(row)
        if not self._wake.is_set():
            self._wake.set()

    def _stamp(self, second: int) -> str:
        if second != self._second[0]:
            self._second = (second, time.strftime("%Y%m%d_%H%M%S", time.gmtime(second)))
        return self._second[1]

    def _number(self) -> int:
        # Counted from a random start: two events of one second never get the same id.
        return next(self._numbers) & 0xFFFFFF

    async def _write_batches(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_SECONDS)
            try:
                await self.flush()
            except PaddockError as error:  # a full disk: the events of this batch are lost, the server goes on
                self._core.log.event("event_log_failed", "error", error=error.message)

    async def flush(self) -> None:
        """Write everything that ended before this call; when it returns, it is on disk. Raises ProviderUnavailable when
        that is impossible; what could not be written is lost."""
        async with self._flushing:  # one that has begun is waited for
            self._wake.clear()
            batch, self._waiting, self._bytes = self._waiting, deque(), 0
            rows = [row for row in batch if row[5] >= self._forgotten.get((row[1], row[2]), 0)]
            if self._dropped:
                self._core.log.event("events_dropped", "warning", count=self._dropped)
                self._dropped = 0
            if rows:
                full = self._full_projects(rows)
                await self._core.state.write(lambda db: self._write(db, rows, full))

    def _full_projects(self, rows: list[_Row]) -> list[tuple[str, str]]:
        """The projects that have got enough new events to look for those beyond the limit."""
        slack = min(500, self._settings.keep_count // 20)
        for row in rows:
            key = (row[1], row[2])
            # A project met for the first time is looked at once: an earlier run may have left it full.
            self._written[key] = self._written.get(key, slack) + 1
        return [key for key in dict.fromkeys((row[1], row[2]) for row in rows) if self._written[key] > slack]

    def _write(self, db: Connection, rows: list[_Row], full: list[tuple[str, str]]) -> None:
        db.executemany(
            "INSERT OR IGNORE INTO events (event_id, namespace, project, type, status, started, duration_ms, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        for key in full:
            drop_many(db, key, self._settings.keep_count)
            self._written[key] = 0
        if full:
            self._drop_old(db)

    def _drop_old(self, db: Connection) -> None:
        # Ids follow time closely, so the old ones stand together at the start of the table.
        oldest = self.clock() - self._settings.keep_days * 86_400
        first_kept = db.execute("SELECT id FROM events WHERE started >= ? ORDER BY id LIMIT 1", (oldest,)).get
        if first_kept is None:
            db.execute("DELETE FROM events")
        else:
            db.execute("DELETE FROM events WHERE id < ? AND started < ?", (first_kept, oldest))

    async def forget(self, namespace: str, project: str) -> None:
        """Delete a project's events, also those that are still happening."""
        key = (namespace, project)
        self._forgotten[key] = self.clock()
        self._forgotten.move_to_end(key)
        while len(self._forgotten) > REMEMBERED:
            self._forgotten.popitem(last=False)
        self._written.pop(key, None)
        await self.flush()
        await self._core.state.write(lambda db: _delete(db, key))

    async def page(self, namespace: str, project: str, params: EventFilter) -> EventList:
        """What `event_logs_list` answers; empty names are for what belongs to no project. Raises ValidationFailed for a time
        that is none."""
        where, values = conditions(namespace, project, params)
        await self.flush()

        def read(db: Connection) -> tuple[int, list[Any]]:
            total = db.execute(f"SELECT count(*) FROM events WHERE {where}", values).get  # noqa: S608  fixed texts only
            found = db.execute(
                f"SELECT {COLUMNS} FROM events WHERE {where} ORDER BY id DESC LIMIT ? OFFSET ?",  # noqa: S608  as above
                (*values, params.limit, params.offset),
            )
            return total, found.fetchall()

        total, rows = await self._core.state.read(read)
        return EventList(
            total=total, events=[event_item(row) for row in rows], limit=params.limit, offset=params.offset
        )

    async def one(self, namespace: str, project: str, event_id: str) -> EventDetail:
        """What `event_log_get` answers. Raises EventNotFound."""
        await self.flush()
        row = await self._core.state.read(
            lambda db: db.execute(
                f"SELECT {COLUMNS} FROM events WHERE event_id = ? AND namespace = ? AND project = ?",  # noqa: S608  fixed
                (event_id, namespace, project),
            ).fetchone()
        )
        if row is None:
            who = f"project {namespace}/{project}" if namespace else "the server"
            raise EventNotFound(f"{who} has no event {event_id}: GET …/event_logs lists them")
        return event_detail(row)


def _delete(db: Connection, key: tuple[str, str]) -> None:
    db.execute("DELETE FROM events WHERE namespace = ? AND project = ?", key)


def _kept(body: Body) -> bytes:
    """The body as it is stored. Most are small and harmless, and are not walked through."""
    encoded = _as_it_is(body)
    if encoded is not None:
        return encoded
    data, error = redacted(body.data), clipped(body.error) if body.error is not None else None
    steps = [(name, at, since, redacted(data)) for name, at, since, data in body.steps]
    encoded = _try(msgspec.structs.replace(body, data=data, steps=steps, error=error))
    if encoded is not None and len(encoded) <= MAX_BODY:
        return encoded
    reason = "they can't be written as JSON" if encoded is None else f"they take {len(encoded)} bytes"
    few = {key: value for key, value in data.items() if key in ("model", "tokens")}
    bare: list[tuple[str, float, float, dict[str, Any]]] = [(*step[:3], {}) for step in steps]
    short = msgspec.structs.replace(body, data={**few, "left_out": reason}, steps=bare, error=error)
    return _try(short) or _encode(Body(request_id=body.request_id, data={"left_out": reason}))


def _as_it_is(body: Body) -> bytes | None:
    """The body encoded, or None when it is large or holds what must not be kept."""
    for data in (body.data, *[step[3] for step in body.steps]):
        for value in data.values():
            if type(value) in _BYTES:
                return None
    encoded = _try(body)
    return encoded if encoded is not None and len(encoded) <= SMALL_BODY and not needs_redaction(encoded) else None


def _try(body: Body) -> bytes | None:
    try:
        return _encode(body)
    except (RecursionError, TypeError, ValueError):  # too deep, keys that JSON does not have, half of a surrogate pair
        return None


# --- endpoints ---------------------------------------------------------------------------------------------------------


class EventService:
    """The endpoints."""

    def __init__(self, log: EventLog, projects: ProjectFiles) -> None:
        self._log = log
        self._projects = projects

    @hookimpl
    async def event_logs_list(self, ctx: Context, params: EventListPath) -> EventList:
        """See the contract."""
        await self._projects.load(params.namespace, params.project)
        return await self._log.page(params.namespace, params.project, params)

    @hookimpl
    async def event_log_get(self, ctx: Context, params: EventPath) -> EventDetail:
        """See the contract."""
        await self._projects.load(params.namespace, params.project)
        check_name(params.event_id, "event id")
        return await self._log.one(params.namespace, params.project, params.event_id)

    @hookimpl
    async def system_event_logs_list(self, ctx: Context, params: EventFilter) -> EventList:
        """See the contract."""
        return await self._log.page("", "", params)

    @hookimpl
    async def system_event_log_get(self, ctx: Context, params: SystemEventPath) -> EventDetail:
        """See the contract."""
        check_name(params.event_id, "event id")
        return await self._log.one("", "", params.event_id)
