"""The rows of uploaded files; each function runs inside `Database.read` or `Database.write`."""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec

from paddock.contracts.base import Caller
from paddock.contracts.files import FileObject, FileQuery
from paddock.errors import BadRequest, TooLarge
from paddock.settings import Files as Limits
from paddock.storage import Connection

_COLUMNS = "file_id, owner, hash, filename, mime, size, purpose, created, expires, pages, dpi"
_ID = re.compile(r"file_[0-9a-f]{20,40}")


def new_id(now: float) -> str:
    """An id that nobody guesses; ids follow the time of their upload, so that a list can go on behind a file that is gone."""
    return f"file_{int(now * 1_000_000):013x}{secrets.token_hex(6)}"


class UploadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A file. `owner` is empty for callers that are not told apart; `dpi` None: no pages are made of it."""

    file_id: str
    owner: str
    hash: str
    filename: str
    mime: str
    size: int
    purpose: str
    created: float
    expires: float
    pages: int | None
    dpi: int | None


def owner_of(caller: Caller) -> str | None:
    """Whose files the caller sees; None for all."""
    return (caller.key_id or caller.label) if caller.kind == "inference" else None


def shown(row: UploadRow) -> FileObject:
    """The file as the API shows it."""
    return FileObject(
        id=row.file_id,
        filename=row.filename,
        content_type=row.mime,
        size=row.size,
        bytes=row.size,
        created_at=int(row.created),
        expires_at=int(row.expires),
        purpose=row.purpose,
        has_images=row.dpi is not None and row.pages is not None,
        page_count=row.pages,
    )


def insert(db: Connection, row: UploadRow, limits: Limits) -> None:
    """Add a file. Raises TooLarge naming the limit that it would break."""
    count, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM uploads").get
    if count >= limits.max_count:
        raise TooLarge(f"there are {count} files already (files.max_count): delete some, or wait until they expire")
    if size + row.size > limits.max_total_bytes:
        raise TooLarge(
            f"all files together would be larger than {limits.max_total_bytes} bytes (files.max_total_bytes): delete some"
        )
    marks = ", ".join("?" * len(UploadRow.__struct_fields__))
    db.execute(f"INSERT INTO uploads ({_COLUMNS}) VALUES ({marks})", msgspec.structs.astuple(row))  # noqa: S608  fixed texts


def find(db: Connection, file_id: str, owner: str | None, now: float) -> UploadRow | None:
    """The file if it is there, the caller's and not expired."""
    asked = f"SELECT {_COLUMNS} FROM uploads WHERE file_id = ? AND expires > ?"  # noqa: S608  fixed texts
    found = db.execute(asked, (file_id, now)).fetchone()
    row = None if found is None else _row(found)
    return row if row is not None and owner in (None, row.owner) else None


def page(db: Connection, query: FileQuery, owner: str | None, now: float) -> list[UploadRow]:
    """One more than `query.limit` files, if there are so many. A file that `after` names may be gone by now. Raises BadRequest
    when it is no id of a file."""
    where: list[str] = ["expires > ?"]
    given: list[Any] = [now]
    if owner is not None:
        where.append("owner = ?")
        given.append(owner)
    if query.purpose is not None:
        where.append("purpose = ?")
        given.append(query.purpose)
    if query.after is not None:
        if not _ID.fullmatch(query.after):
            raise BadRequest(f"after: there is no file {query.after[:64]!r}")
        where.append("file_id > ?" if query.order == "asc" else "file_id < ?")
        given.append(query.after)
    order = "ASC" if query.order == "asc" else "DESC"
    asked = f"SELECT {_COLUMNS} FROM uploads WHERE {' AND '.join(where)} ORDER BY file_id {order} LIMIT ?"  # noqa: S608  fixed texts
    return [_row(found) for found in db.execute(asked, (*given, query.limit + 1))]


def delete(db: Connection, file_id: str) -> None:
    """Delete a file."""
    db.execute("DELETE FROM uploads WHERE file_id = ?", (file_id,))


def delete_expired(db: Connection, now: float) -> list[str]:
    """Delete what has expired; the hashes of the bytes."""
    gone = db.execute("DELETE FROM uploads WHERE expires <= ? RETURNING hash", (now,)).fetchall()
    return [str(found[0]) for found in gone]


def _row(found: Any) -> UploadRow:
    return UploadRow(**dict(zip(UploadRow.__struct_fields__, found, strict=True)))
