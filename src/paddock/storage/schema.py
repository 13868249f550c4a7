"""The schema of the state database, as numbered migrations. A migration that was released is never changed.

Times are seconds since 1970 (REAL). JSON columns hold what msgspec encodes.
"""

from paddock.storage.database import Migration

# Chat sessions and their messages. Deleting a session deletes its messages; `used` is when its last turn ended.
SESSIONS = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    created REAL NOT NULL,
    used REAL NOT NULL,
    UNIQUE (namespace, project, name)
);
CREATE INDEX sessions_by_use ON sessions (used);
CREATE TABLE session_messages (
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    body BLOB NOT NULL
);
CREATE INDEX session_messages_by_session ON session_messages (session);
"""

# The event log. The order of ids is the order in which events ended; `body` is JSON, already redacted.
EVENTS = """
CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL UNIQUE,
    namespace TEXT NOT NULL,
    project TEXT NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    started REAL NOT NULL,
    duration_ms REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX events_by_project ON events (namespace, project);
"""

FILES = ""  # which uploaded bytes belong to which dataset

TASKS = ""  # tasks and their items

MIGRATIONS: list[Migration] = [SESSIONS + EVENTS + FILES + TASKS]
