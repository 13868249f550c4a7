"""Chat sessions: what was said, for as long as somebody goes on saying something."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.errors import PaddockError, SessionNotFound
from paddock.services.core import Core
from paddock.storage import Connection

Message = dict[str, Json]
Key = tuple[str, str, str]  # namespace, project, session id

MAX_HISTORY_BYTES = 16 * 1024 * 1024  # of one session; images in messages count
MAX_SESSIONS = 200_000  # clients that never name a session leave one behind with each request
SWEEP = 500  # sessions deleted in one transaction
_SELECT = "FROM sessions WHERE namespace = ? AND project = ? AND name = ?"


@dataclass
class _Active:
    """A session in which a turn runs or waits. `deleted` counts deletions, so that a turn sees that one came between."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    deleted: int = 0


class Turn:
    """One turn of a session. `history` is what was said before, oldest first."""

    def __init__(self, sessions: Sessions, key: Key, active: _Active, history: list[Message]) -> None:
        self.history = history
        self._sessions = sessions
        self._key = key
        self._active = active
        self._begun = active.deleted

    async def keep(self, messages: Sequence[Message]) -> None:
        """Store what this turn added; all of it or, when the session was deleted in the meantime, nothing."""
        if self._active.deleted == self._begun:
            await self._sessions.append(self._key, messages)


class Sessions:
    """All sessions of all projects. They expire after ``chat.session_ttl`` seconds without a turn that ended."""

    def __init__(self, core: Core, *, clock: Callable[[], float] = time.time) -> None:
        self._core = core
        self._state = core.state
        self._ttl = core.settings.chat.session_ttl
        self._most = core.settings.chat.max_history_messages
        self._clock = clock
        self._active: dict[Key, _Active] = {}
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Delete what expired, now and from time to time."""
        await self.sweep()
        self._sweeper = asyncio.create_task(self._sweep_often(), name="sessions")

    async def close(self) -> None:
        """Stop sweeping. Idempotent."""
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeper

    @asynccontextmanager
    async def turn(self, namespace: str, project: str, name: str) -> AsyncIterator[Turn]:
        """Hold the session: the next turn of it waits until this block is left."""
        key = (namespace, project, name)
        active = self._active.setdefault(key, _Active())
        active.users += 1
        try:
            async with active.lock:
                yield Turn(self, key, active, await self._load(key))
        finally:
            active.users -= 1
            if not active.users:
                del self._active[key]

    async def _load(self, key: Key) -> list[Message]:
        found = await self._state.read(lambda db: self._read(db, key))
        if found is None:
            return []
        messages, alive = found
        if not alive:
            await self._state.write(lambda db: self._delete(db, key))
            return []
        return messages

    def _read(self, db: Connection, key: Key) -> tuple[list[Message], bool] | None:
        row: Any = db.execute(f"SELECT id, used {_SELECT}", key).fetchone()
        if row is None:
            return None
        bodies: list[Any] = db.execute(
            "SELECT body FROM session_messages WHERE session = ? ORDER BY id", (row[0],)
        ).fetchall()
        alive = row[1] >= self._clock() - self._ttl
        return [msgspec.json.decode(body) for (body,) in bodies], alive

    async def append(self, key: Key, messages: Sequence[Message]) -> None:
        """Store the messages of a turn in one transaction and drop the oldest beyond the limits; `Turn` calls it."""
        rows = [(str(message["role"]), msgspec.json.encode(message)) for message in messages]

        def work(db: Connection) -> None:
            now = self._clock()
            db.execute(
                "INSERT INTO sessions (namespace, project, name, created, used) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (namespace, project, name) DO UPDATE SET used = excluded.used",
                (*key, now, now),
            )
            session = db.execute(f"SELECT id {_SELECT}", key).get
            db.executemany(
                "INSERT INTO session_messages (session, role, body) VALUES (?, ?, ?)",
                [(session, *row) for row in rows],
            )
            self._trim(db, session)

        await self._state.write(work)

    def _trim(self, db: Connection, session: int) -> None:
        rows: list[Any] = db.execute(
            "SELECT id, role, length(body) FROM session_messages WHERE session = ? ORDER BY id DESC", (session,)
        ).fetchall()
        size, fits, begins = 0, rows[0][0], None
        for number, (message, role, length) in enumerate(rows, start=1):
            size += length
            if number > self._most or size > MAX_HISTORY_BYTES:
                break
            fits = message
            if role == "user":
                begins = message
        else:
            return
        # History begins with a user's message: models refuse an answer, or a tool's result, to nothing.
        db.execute("DELETE FROM session_messages WHERE session = ? AND id < ?", (session, begins or fits))

    async def history(self, namespace: str, project: str, name: str) -> list[Message]:
        """What was said. Changes nothing. Raises SessionNotFound, also for an expired one."""
        found = await self._state.read(lambda db: self._read(db, (namespace, project, name)))
        if found is None or not found[1]:
            raise SessionNotFound(f"project {namespace}/{project} has no session {name}: it never was, or expired")
        return found[0]

    async def delete(self, namespace: str, project: str, name: str) -> None:
        """Delete a session; a turn that runs in it is no longer stored. Raises SessionNotFound."""
        key = (namespace, project, name)
        active = self._active.get(key)
        if active is not None:
            active.deleted += 1
        if not await self._state.write(lambda db: self._delete(db, key)) and active is None:
            raise SessionNotFound(f"project {namespace}/{project} has no session {name}: it never was, or expired")

    def _delete(self, db: Connection, key: Key) -> int:
        db.execute(f"DELETE {_SELECT}", key)
        return db.changes()

    async def forget(self, namespace: str, project: str) -> int:
        """Delete all sessions of a project, those in which a turn runs included; returns how many were stored."""
        for key, active in self._active.items():
            if key[:2] == (namespace, project):
                active.deleted += 1

        def work(db: Connection) -> int:
            db.execute("DELETE FROM sessions WHERE namespace = ? AND project = ?", (namespace, project))
            return db.changes()

        return await self._state.write(work)

    async def sweep(self) -> int:
        """Delete expired sessions, and the longest unused ones beyond the limit; returns how many."""
        total = 0
        while True:
            busy = set(self._active)
            deleted, more = await self._state.write(lambda db: self._sweep_some(db, busy))  # noqa: B023  awaited here
            total += deleted
            if not more:
                return total

    def _sweep_some(self, db: Connection, busy: set[Key]) -> tuple[int, bool]:
        surplus = db.execute("SELECT max(0, count(*) - ?) FROM sessions", (MAX_SESSIONS,)).get
        rows: list[Any] = db.execute(
            "SELECT id, namespace, project, name, used FROM sessions ORDER BY used LIMIT ?", (SWEEP + len(busy),)
        ).fetchall()
        oldest = self._clock() - self._ttl
        gone = [
            (row[0],)
            for at, row in enumerate(rows)
            if (row[4] < oldest or at < surplus) and (row[1], row[2], row[3]) not in busy
        ]
        db.executemany("DELETE FROM sessions WHERE id = ?", gone)
        return len(gone), len(gone) >= SWEEP

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(min(60, max(1, self._ttl / 4)))
            try:
                await self.sweep()
            except PaddockError as error:  # a full disk: tried again the next time
                self._core.log.event("sessions_sweep_failed", "error", error=error.message)
