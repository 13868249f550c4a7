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
    role TEXT NOT NULL,
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

# Which uploaded bytes belong to which dataset. `processed_as` names the way in which the file's chunks were made (NULL
# while it has none) and `token` the task item that made them; `error` is why the last attempt failed.
FILES = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    project TEXT NOT NULL,
    dataset TEXT NOT NULL,
    hash TEXT NOT NULL,
    filename TEXT NOT NULL,
    mime TEXT NOT NULL,
    size INTEGER NOT NULL,
    uploaded REAL NOT NULL,
    processed_as TEXT,
    token TEXT,
    parser TEXT,
    chunks INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    UNIQUE (namespace, project, dataset, hash)
);
CREATE INDEX files_by_hash ON files (hash);
"""

# Tasks and their items. `cancel` is NULL, then {} from the request to cancel on, then the reply of the cancel that is done.
# An item that was running when the server stopped is pending with `interrupted` 1: its work may be done already.
TASKS = """
CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL,
    project TEXT NOT NULL,
    dataset TEXT,
    payload BLOB NOT NULL,
    state TEXT NOT NULL,
    cancel BLOB,
    created REAL NOT NULL,
    finished REAL
);
CREATE INDEX tasks_by_project ON tasks (namespace, project, created);
CREATE INDEX tasks_open ON tasks (finished) WHERE finished IS NULL;
CREATE TABLE task_items (
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    label TEXT NOT NULL,
    payload BLOB NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL DEFAULT 0,
    stored INTEGER NOT NULL DEFAULT 0,
    skipped INTEGER NOT NULL DEFAULT 0,
    result BLOB,
    error TEXT,
    PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE INDEX task_items_by_state ON task_items (task, state);
"""

# Rows of plugins, each plugin's own: JSON bodies by kind and name.
RECORDS = """
CREATE TABLE records (
    id INTEGER PRIMARY KEY,
    plugin TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (plugin, kind, name)
);
"""

# Keys that the API made: `digest` is the SHA-256 of the key, `prefix` its visible beginning. `scope` is JSON, NULL for a
# management key. `revoked` keeps the row for those who look up what a key was.
KEYS = """
CREATE TABLE keys (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    scope BLOB,
    created REAL NOT NULL,
    expires REAL,
    revoked REAL
);
"""

# Users of the older API. `password` is an argon2id hash in its own text form. Tokens carry the `epoch` of their user: raising
# it revokes them all. `secrets` holds what signs the tokens. `revoked_tokens` are single ones, kept until they expire.
USERS = """
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL
);
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE revoked_tokens (id TEXT PRIMARY KEY, expires REAL NOT NULL);
"""

# Files that were uploaded by themselves, outside of datasets, until they expire. `owner` is the id of the key that may see
# them, empty for callers without one. `dpi` is the resolution of their pages, NULL when these were not wanted.
UPLOADS = """
CREATE TABLE uploads (
    id INTEGER PRIMARY KEY,
    file_id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    hash TEXT NOT NULL,
    filename TEXT NOT NULL,
    mime TEXT NOT NULL,
    size INTEGER NOT NULL,
    purpose TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    pages INTEGER,
    dpi INTEGER
);
CREATE INDEX uploads_by_hash ON uploads (hash);
CREATE INDEX uploads_by_end ON uploads (expires);
"""

# How many events a project has of each type, without looking at the events themselves.
EVENT_TYPES = """
CREATE INDEX events_by_type ON events (namespace, project, type);
"""

MIGRATIONS: list[Migration] = [SESSIONS + EVENTS + FILES + TASKS, RECORDS + KEYS + USERS + UPLOADS, EVENT_TYPES]
