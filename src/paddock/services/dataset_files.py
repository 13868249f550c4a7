"""The files of datasets: rows in the state database. Their bytes are kept by `StoredBytes`."""

from __future__ import annotations

import mimetypes
import re
import time
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

import msgspec

from paddock.contracts.providers import Source
from paddock.errors import FileNotFound
from paddock.services.core import Core
from paddock.services.stored_bytes import StoredBytes
from paddock.storage import Connection, Stored

Place = tuple[str, str, str]  # namespace, project, dataset
FileKey = tuple[str, str, str, str]  # and the file's sha256
NAME_LIMIT = 255  # characters of a displayed file name
OCTETS = "application/octet-stream"
_COLUMNS = (
    "namespace, project, dataset, hash, filename, mime, size, uploaded, processed_as, token, parser, chunks, error"
)
_MIME = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}/[A-Za-z0-9][\w.+-]{0,127}", re.ASCII)
_OWN = "namespace = ? AND project = ? AND dataset = ?"


class FileRow(msgspec.Struct, kw_only=True):
    """A file of a dataset. `processed_as` names how its chunks were made, None while it has none."""

    namespace: str
    project: str
    dataset: str
    hash: str
    filename: str
    mime: str
    size: int
    uploaded: float
    processed_as: str | None
    token: str | None
    parser: str | None
    chunks: int
    error: str | None

    @property
    def key(self) -> FileKey:
        """What names the file."""
        return self.namespace, self.project, self.dataset, self.hash


class DatasetFiles:
    """Rows and bytes. For one event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.stored = StoredBytes(core)

    # -- coming

    def arriving(self) -> AbstractAsyncContextManager[Callable[[str], None]]:
        """See `StoredBytes.arriving`."""
        return self.stored.arriving()

    async def store(self, pieces: AsyncIterator[bytes], arrived: Callable[[str], None]) -> Stored:
        """Store bytes that arrive. Raises TooLarge, ProviderUnavailable (disk full)."""
        return await self.stored.store(pieces, self._core.settings.uploads.max_bytes, arrived)

    async def add(self, row: FileRow) -> FileRow | None:
        """Write the row of bytes that are stored. Returns the row that was there already, or None."""
        return await self._core.state.write(partial(_insert, row=row))

    # -- looking

    async def find(self, namespace: str, project: str, dataset: str, sha256: str) -> FileRow | None:
        """The file, or None."""
        return await self._core.state.read(partial(_find, key=(namespace, project, dataset, sha256)))

    async def get(self, namespace: str, project: str, dataset: str, sha256: str) -> FileRow:
        """The file. Raises FileNotFound."""
        row = await self.find(namespace, project, dataset, sha256)
        if row is None:
            shown = sha256[:64].encode("ascii", "backslashreplace").decode()
            raise FileNotFound(f"dataset {dataset} has no file {shown!r}: GET …/datasets lists the hashes of its files")
        return row

    async def of_dataset(self, namespace: str, project: str, dataset: str) -> list[FileRow]:
        """The files of a dataset, oldest first."""
        return await self._core.state.read(partial(_select, where=_OWN, given=(namespace, project, dataset)))

    async def of_project(self, namespace: str, project: str) -> dict[str, list[FileRow]]:
        """The files of a project by dataset, oldest first."""
        where = "namespace = ? AND project = ?"
        found: dict[str, list[FileRow]] = {}
        for row in await self._core.state.read(partial(_select, where=where, given=(namespace, project))):
            found.setdefault(row.dataset, []).append(row)
        return found

    def source(self, row: FileRow) -> Source:
        """The file as parsers see it."""
        return Source(
            path=self._core.blobs.path(row.hash), filename=row.filename, mime=row.mime, size=row.size, sha256=row.hash
        )

    # -- going

    async def delete(self, row: FileRow, *, bytes_too: bool) -> bool:
        """Delete a file's row, and its bytes when nobody else needs them; whether they went."""
        await self._core.state.write(partial(_delete, where=f"{_OWN} AND hash = ?", given=row.key))
        return bytes_too and await self.stored.drop(row.hash)

    async def delete_all(self, namespace: str, project: str, dataset: str | None = None) -> None:
        """Delete the files of a project, or of one of its datasets, and the bytes that nobody else needs."""
        given = (namespace, project) if dataset is None else (namespace, project, dataset)
        where = "namespace = ? AND project = ?" if dataset is None else _OWN
        rows = await self._core.state.read(partial(_select, where=where, given=given))
        await self._core.state.write(partial(_delete, where=where, given=given))
        for sha256 in {row.hash for row in rows}:
            await self.stored.drop(sha256)


# -- statements; each runs inside `Database.read` or `Database.write`


def _row(values: Iterable[Any]) -> FileRow:
    return FileRow(**dict(zip(FileRow.__struct_fields__, values, strict=True)))


def _select(connection: Connection, where: str, given: tuple[Any, ...]) -> list[FileRow]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM files WHERE {where} ORDER BY id", given)  # noqa: S608  fixed texts
    return [_row(row) for row in rows]


def _find(connection: Connection, key: FileKey) -> FileRow | None:
    found = _select(connection, f"{_OWN} AND hash = ?", key)
    return found[0] if found else None


def _insert(connection: Connection, row: FileRow) -> FileRow | None:
    known = _find(connection, row.key)
    if known is None:
        marks = ", ".join("?" * len(FileRow.__struct_fields__))
        connection.execute(f"INSERT INTO files ({_COLUMNS}) VALUES ({marks})", msgspec.structs.astuple(row))  # noqa: S608  fixed texts
    return known


def _delete(connection: Connection, where: str, given: tuple[Any, ...]) -> None:
    connection.execute(f"DELETE FROM files WHERE {where}", given)  # noqa: S608  fixed texts


def set_processed(
    connection: Connection, key: FileKey, *, processed_as: str, token: str, parser: str, chunks: int
) -> None:
    """Note how a file was processed; in the transaction that finishes its item."""
    connection.execute(
        "UPDATE files SET processed_as = ?, token = ?, parser = ?, chunks = ?, error = NULL "  # noqa: S608  fixed texts
        f"WHERE {_OWN} AND hash = ?",
        (processed_as, token, parser, chunks, *key),
    )


def set_failed(connection: Connection, key: FileKey, message: str) -> None:
    """Note why a file could not be processed. Chunks of an earlier success stay."""
    connection.execute(f"UPDATE files SET error = ? WHERE {_OWN} AND hash = ?", (message, *key))  # noqa: S608  fixed texts


def set_unprocessed(connection: Connection, key: FileKey) -> None:
    """Note that a file has no chunks."""
    connection.execute(
        "UPDATE files SET processed_as = NULL, token = NULL, parser = NULL, chunks = 0, error = NULL "  # noqa: S608  fixed texts
        f"WHERE {_OWN} AND hash = ?",
        key,
    )


def set_all_unprocessed(connection: Connection, namespace: str, project: str, dataset: str) -> None:
    """Note that no file of a dataset has chunks."""
    connection.execute(
        f"UPDATE files SET processed_as = NULL, token = NULL, parser = NULL, chunks = 0, error = NULL WHERE {_OWN}",  # noqa: S608  fixed texts
        (namespace, project, dataset),
    )


# -- names from outside


def new_row(place: Place, stored: Stored, filename: str, mime: str) -> FileRow:
    """The row of a file that has just arrived, its name and type made harmless."""
    name = clean_filename(filename)
    return FileRow(
        namespace=place[0],
        project=place[1],
        dataset=place[2],
        hash=stored.sha256,
        filename=name,
        mime=clean_mime(mime, name),
        size=stored.size,
        uploaded=time.time(),
        processed_as=None,
        token=None,
        parser=None,
        chunks=0,
        error=None,
    )


def clean_filename(name: str) -> str:
    """A client's file name for display: no folders, no control characters, nothing that turns the direction of writing,
    at most 255 characters with the ending kept. "unnamed" when nothing is left. Never use it as a path."""
    text = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2].encode("utf-8", "ignore").decode())
    text = "".join(sign for sign in text if not unicodedata.category(sign).startswith("C"))
    text = " ".join(text.split()).strip()
    if len(text) > NAME_LIMIT:
        stem, dot, ending = text.rpartition(".")
        ending = (dot + ending)[:32] if stem else ""
        text = text[: NAME_LIMIT - len(ending)] + ending
    return "unnamed" if text.strip(".") == "" else text


def clean_mime(given: str, filename: str) -> str:
    """The media type: what the client says when that says something, else what the file's name tells."""
    kind = given.partition(";")[0].strip().lower()
    if _MIME.fullmatch(kind) and kind != OCTETS:
        return kind
    return mimetypes.guess_type(filename)[0] or OCTETS
