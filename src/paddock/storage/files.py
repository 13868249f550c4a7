"""Whole-or-absent files: atomic replacement, and uploaded bytes stored once under their sha256."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import msgspec

from paddock.errors import BadName, ProviderUnavailable, TooLarge
from paddock.storage.paths import is_hash


def fsync_folder(folder: Path) -> None:
    """Make a rename or a deletion in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_own_file(path: Path) -> bool:
    """Whether this is a file itself, not a symbolic link that somebody put in its place."""
    return path.is_file() and not path.is_symlink()


def replace_file(path: Path, data: bytes) -> None:
    """Write `data` under `path` whole or not at all: temporary name, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


class Stored(msgspec.Struct, frozen=True):
    """Bytes that arrived: their sha256, size in bytes, and whether they were stored before."""

    sha256: str
    size: int
    existed: bool


class Blobs:
    """A folder of files named by the sha256 of their bytes. Safe for concurrent uploads of the same bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"

    def prepare(self) -> None:
        """Create the folders and drop what unfinished uploads of an earlier run left."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        for leftover in self._incoming.iterdir():
            leftover.unlink()

    def path(self, sha256: str) -> Path:
        """Where the bytes are, or would be. Raises BadName for anything but a sha256."""
        if not is_hash(sha256):
            raise BadName("a file hash is 64 hexadecimal digits in lower case")
        return self._root / sha256[:2] / sha256

    def exists(self, sha256: str) -> bool:
        """Whether the bytes are stored."""
        return is_own_file(self.path(sha256))

    def delete(self, sha256: str) -> None:
        """Delete the bytes; missing ones count as done."""
        self.path(sha256).unlink(missing_ok=True)

    def hashes(self) -> Iterator[str]:
        """All stored bytes, in no order."""
        for folder in self._root.iterdir():
            if len(folder.name) == 2:
                yield from (path.name for path in folder.iterdir() if is_hash(path.name))

    async def store(
        self,
        pieces: AsyncIterator[bytes],
        limit: int,
        arrived: Callable[[str], None] | None = None,
        setting: str = "uploads.max_bytes",
    ) -> Stored:
        """Store the bytes as they arrive, at most `limit` of them (else TooLarge naming the setting, and nothing is kept).

        `arrived` gets the sha256 before the bytes take their place: from then on nobody must delete them. Raises
        ProviderUnavailable when the disk is full or fails.
        """
        with ExitStack() as stack:
            with told():
                incoming = stack.enter_context(Incoming(self._incoming, limit, setting))
            async for piece in pieces:
                with told():
                    await asyncio.to_thread(incoming.write, piece)
            if arrived is not None:
                arrived(incoming.sha256)
            with told():
                return await asyncio.to_thread(incoming.keep, self)


@contextmanager
def told() -> Iterator[None]:
    """The disk's failures as an error that a caller may see."""
    try:
        yield
    except OSError as error:
        raise ProviderUnavailable(
            f"the upload can't be stored ({error.strerror}): free some space and try again"
        ) from error


class Incoming:
    """One upload under a temporary name; gone at the end of the `with` unless `keep` was called."""

    def __init__(self, folder: Path, limit: int, setting: str) -> None:
        self._setting = setting
        self._path = folder / secrets.token_hex(16)
        self._limit = limit
        self._sha256 = hashlib.sha256()
        self._size = 0
        self._out: BinaryIO

    def __enter__(self) -> Incoming:
        self._out = self._path.open("xb")
        return self

    def write(self, piece: bytes) -> None:
        """Append. Raises TooLarge at the limit."""
        self._size += len(piece)
        if self._size > self._limit:
            raise TooLarge(f"the file is larger than {self._limit} bytes, the setting {self._setting}")
        self._sha256.update(piece)
        self._out.write(piece)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._sha256.hexdigest()

    def keep(self, blobs: Blobs) -> Stored:
        """Put the bytes in their place for good."""
        digest = self.sha256
        target = blobs.path(digest)
        existed = is_own_file(target) and target.stat().st_size == self._size
        if not existed:
            self._out.flush()
            os.fsync(self._out.fileno())
            if not target.parent.is_dir():
                target.parent.mkdir(parents=True, exist_ok=True)
                fsync_folder(target.parent.parent)
            self._path.replace(target)
        fsync_folder(target.parent)
        return Stored(digest, self._size, existed)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()
        self._path.unlink(missing_ok=True)
