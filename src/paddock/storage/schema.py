"""The schema of the state database, as numbered migrations. A migration that was released is never changed.

Times are seconds since 1970 (REAL). JSON columns hold what msgspec encodes.
"""

from paddock.storage.database import Migration

SESSIONS = ""  # chat sessions and their messages

EVENTS = ""  # the event log

FILES = ""  # which uploaded bytes belong to which dataset

TASKS = ""  # tasks and their items

MIGRATIONS: list[Migration] = [SESSIONS + EVENTS + FILES + TASKS]
