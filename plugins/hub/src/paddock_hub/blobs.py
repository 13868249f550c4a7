"""Blobs on disk: the lock that other tools take too, the partial file, and the step that makes it whole.

Everything here does file I/O: call it in a thread.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from paddock.builtin.hub_cache import PARTIAL
from paddock.errors import Conflict
from paddock.storage.files import fsync_folder
from paddock_hub.selection import Wanted

PIECE = 1024 * 1024


class Mismatch(Exception):
    """The bytes of a whole file do not have its hash."""


def own_folder(folder: Path) -> Path:
    """Make a folder of the cache. Raises Conflict when a link stands in its place: nothing is written through links."""
    if folder.is_symlink():
        raise Conflict(f"{folder.name} in the model cache is a symbolic link: remove it")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_whole(blobs: Path, file: Wanted) -> bool:
    """Whether a blob is there, its size being right."""
    path = blobs / file.etag
    return path.is_file() and path.stat().st_size == file.size


def arrived(blobs: Path, file: Wanted) -> int:
    """How many bytes of a file are here, whole or partial."""
    if is_whole(blobs, file):
        return file.size
    partial = blobs / (file.etag + PARTIAL)
    return min(partial.stat().st_size, file.size) if partial.is_file() else 0


class BlobLock:
    """The hub's own lock of a blob, between processes: ``.locks/models--…/ETAG.lock``, held by flock."""

    def __init__(self, cache: Path, folder: Path, etag: str) -> None:
        self._path = own_folder(own_folder(cache / ".locks") / folder.name) / f"{etag}.lock"
        self._held: BinaryIO | None = None

    def take(self) -> bool:
        """Try to take it; False when somebody else holds it."""
        held = self._path.open("ab")
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            return False
        self._held = held
        return True

    def release(self) -> None:
        """Let others have it. Idempotent."""
        if self._held is not None:
            self._held.close()
            self._held = None


class Partial:
    """A blob that is arriving, ``ETAG.incomplete``: it goes on where an earlier attempt ended. For whoever holds the lock.

    At the end of the `with` it stays as it is unless `keep` or `drop` was called.
    """

    def __init__(self, blobs: Path, file: Wanted) -> None:
        self._path = blobs / (file.etag + PARTIAL)
        self._blob = blobs / file.etag
        self._file = file
        self._busy = threading.Lock()  # a cancelled caller closes while its thread may still write
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        self._out = os.fdopen(os.open(self._path, flags, 0o644), "r+b", buffering=0)
        self.size = 0
        self.resumed = False
        self._restart()
        self._reread()

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _restart(self) -> None:
        start = b"blob %d\0" % self._file.size if self._file.algorithm == "git" else b""
        # Git's names of blobs are sha1: not our choice, and large files have sha256.
        made = hashlib.sha1(usedforsecurity=False) if self._file.algorithm == "git" else hashlib.sha256()
        made.update(start)
        self._hash, self.size = made, 0

    def _reread(self) -> None:
        """Take in what an earlier attempt left; more than the whole file is somebody else's mistake."""
        if os.fstat(self._out.fileno()).st_size > self._file.size:
            self._out.truncate(0)
        while piece := self._out.read(PIECE):
            self._hash.update(piece)
            self.size += len(piece)
        self.resumed = self.size > 0

    def reset(self) -> None:
        """Forget what is there."""
        with self._busy:
            self._out.seek(0)
            self._out.truncate(0)
            self._restart()
            self.resumed = False

    def write(self, data: bytes) -> None:
        """Append."""
        with self._busy:
            if self._out.closed:
                return
            view = memoryview(data)
            while view:
                view = view[self._out.write(view) :]
            self._hash.update(data)
            self.size += len(data)

    def keep(self) -> None:
        """Make it the blob. Raises Mismatch when size or hash are not the promised ones."""
        with self._busy:
            if self.size != self._file.size or self._hash.hexdigest() != self._file.etag:
                raise Mismatch
            os.fsync(self._out.fileno())
            self._path.replace(self._blob)
        fsync_folder(self._blob.parent)

    def drop(self) -> None:
        """Delete it."""
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close. Idempotent."""
        with self._busy:
            self._out.close()
