"""What a derived index is: a copy of one aspect of the store that answers faster, and may be lost at any moment.

An index follows SQLite by its `Position`. It holds every chunk with an id up to `top` that existed when the change `seq`
was the newest one; `stamp` is that change's random number, so an index that belongs to another history (a restored
backup) is recognised. Later chunks are searched in SQLite by whoever asks, and chunks that are gone are dropped when
their contents are fetched; therefore an index never has to be level to give right answers.

On disk an index is a folder with a manifest that is replaced last: position, what it was made for, and the sha256 of
its files. What does not fit is deleted and made anew.
"""

from __future__ import annotations

import hashlib
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from paddock.storage import Connection, replace_file
from paddock_sqlite_vec.schema import fetch, snapshot, value

VERSION = 1
MANIFEST = "manifest.json"
BATCH = 2048  # chunks that are read and added in one step


class Damaged(Exception):
    """The files of an index can't be used; it is made anew."""


class Position(msgspec.Struct, frozen=True):
    """How far an index is."""

    seq: int = 0
    stamp: int = 0
    top: int = 0


class Manifest(msgspec.Struct, frozen=True):
    """What stands beside the files of an index."""

    version: int
    made_for: str
    position: Position
    files: dict[str, str]


class Step(msgspec.Struct, frozen=True):
    """What an index lacks, or the first part of it: new rows, ids of chunks that went, and where it is afterwards."""

    rows: list[tuple[Any, ...]]
    removed: list[tuple[int, int]]
    position: Position
    level: bool


class Derived(ABC):
    """One index. Its methods run in threads; only searches run concurrently with others."""

    name: ClassVar[str]
    rows_sql: ClassVar[str]  # selects what `add` takes, for chunks with ids between two parameters, in order of id

    def __init__(self, root: Path, made_for: str) -> None:
        self.folder = root / self.name
        self.made_for = made_for
        self.position = Position()
        self.saved = Position()

    @abstractmethod
    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Take in new rows."""

    @abstractmethod
    def remove(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Forget chunks by ranges of ids; an index may also ignore it."""

    @abstractmethod
    def finish(self) -> None:
        """Make what was added and removed visible to searches."""

    @abstractmethod
    def restore(self, manifest: Manifest) -> None:
        """Read the files. Any exception means that they are damaged."""

    @abstractmethod
    def write(self) -> Iterable[str]:
        """Write the files; returns the names of those that will not change any more."""

    @abstractmethod
    def clear(self) -> None:
        """Begin with nothing in memory; the folder is empty."""

    def again(self) -> Derived | None:
        """An empty index beside this one, to be filled and put in its place."""
        return None

    @abstractmethod
    def wasteful(self, live: int) -> bool:
        """Whether so much of the index is dead that it should be built again; `live` is the number of chunks."""

    def load(self) -> str | None:
        """Read what an earlier run saved. If that can't be used, begin anew, and return why."""
        try:
            if not self.folder.is_dir():
                self.begin()
                return None
            manifest = self._checked_manifest()
            self.restore(manifest)
        except BaseException as error:  # whatever a damaged file makes a library raise
            if not is_failure(error):
                raise
            self.begin()
            return str(error)
        self.position = self.saved = manifest.position
        return None

    def _checked_manifest(self) -> Manifest:
        manifest = msgspec.json.decode((self.folder / MANIFEST).read_bytes(), type=Manifest)
        if (manifest.version, manifest.made_for) != (VERSION, self.made_for):
            raise Damaged(f"made for {manifest.made_for}, now it is {self.made_for}")
        for name, digest in manifest.files.items():
            path = self.folder / name
            if path.is_file() and sha256(path) != digest:
                raise Damaged(f"{name} has changed")
        return manifest

    def begin(self) -> None:
        """Throw everything away and begin with nothing."""
        self.position = self.saved = Position()
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        self.clear()

    def save(self) -> None:
        """Make the current position survive. A crash at any moment leaves the earlier state, or none."""
        position = self.position
        files = {name: sha256(self.folder / name) for name in self.write()}
        manifest = Manifest(VERSION, self.made_for, position, files)
        replace_file(self.folder / MANIFEST, msgspec.json.encode(manifest))
        self.saved = position
        self.tidy(files)

    def tidy(self, files: Iterable[str]) -> None:  # noqa: B027  most have nothing to tidy
        """Delete files that the manifest no longer names."""

    def apply(self, step: Step) -> None:
        """Do a step."""
        if step.removed:
            self.remove(step.removed)
        if step.rows:
            self.add(step.rows)
        if step.rows or step.removed:
            self.finish()
        self.position = step.position

    def next_step(self, connection: Connection) -> Step | None:
        """What to do next, or None when the index does not belong to this file's history."""
        here = self.position
        with snapshot(connection):
            if here.seq and value(connection, "SELECT stamp FROM changes WHERE seq = ?", (here.seq,)) != here.stamp:
                return None
            newest = fetch(connection, "SELECT seq, stamp FROM changes ORDER BY seq DESC LIMIT 1")
            seq, stamp = newest[0] if newest else (0, 0)
            sql = "SELECT max(id) FROM (SELECT id FROM chunks WHERE id > ? ORDER BY id LIMIT ?)"
            top = value(connection, sql, (here.top, BATCH)) or here.top
            rows = fetch(connection, self.rows_sql, (here.top + 1, top))
            sql = "SELECT first, last FROM changes WHERE seq > ? AND NOT added AND first <= ? AND first <= last"
            removed = fetch(connection, sql, (here.seq, here.top))
            level = value(connection, "SELECT 1 FROM chunks WHERE id > ? LIMIT 1", (top,)) is None
        return Step(rows, [(first, last) for first, last in removed], Position(seq, stamp, top), level)


def is_failure(error: BaseException) -> bool:
    """Whether something went wrong: an exception, or a panic of Rust code, which is no Exception in Python."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
