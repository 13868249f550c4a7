"""Trained models on disk.

A model is a folder with an ONNX file named after its bytes and a ``model.json`` that names it. The JSON is written last
and replaced in one step, so a model is there with both or not at all, also after a crash in the middle of a replacement.
All functions block: call them in a thread.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from paddock.builtin.trained.names import meanings
from paddock.contracts.base import Json
from paddock.errors import ModelNotFound, ProviderUnavailable
from paddock.storage import inside, replace_file
from paddock.storage.files import fsync_folder
from paddock.storage.paths import NAME

Key = tuple[str, ...]
_NOTE = "model.json"
_FORMAT = 1
MAX_NOTE = 256 * 1024 * 1024  # bytes of a model.json: more is no file of ours
MAX_GRAPH = 2 * 1024 * 1024 * 1024 - 1  # bytes of an ONNX file, a limit of the format itself


class Damaged(ProviderUnavailable):
    """A saved model can't be read; the message names it and the next step."""


class Saved(msgspec.Struct, kw_only=True):
    """A model's ``model.json``. `facts` are the plugin's own; `created` and `modified` are seconds since 1970."""

    format: int = _FORMAT
    graph: Annotated[str, msgspec.Meta(pattern="^graph-[0-9a-f]{16}[.]onnx$")]
    sha256: str
    created: float
    modified: float
    description: str | None = None
    facts: dict[str, Json]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a list; `saved` is None when it can't be read, for the reason in `error`."""

    key: Key
    path: Path
    size: int
    saved: Saved | None
    error: str | None


def shown(path: Path, levels: int) -> str:
    """A place as replies show it, `levels` folders below its kind: ``models/classifier/NAME``. Where the data folder is
    belongs to those who manage the server."""
    return "/".join(path.parts[-2 - levels :])


class ModelFiles:
    """The models of one kind. A key is one or more names, each a folder in the one before."""

    def __init__(self, root: Path, depth: int = 1) -> None:
        self.root = root
        self._depth = depth
        self._changing = threading.Lock()  # a deletion must not meet the two halves of a write

    def path(self, key: Key) -> Path:
        """The model's folder, there or not. Raises BadName."""
        return inside(self.root, *key)

    def write(self, key: Key, graph: bytes, facts: dict[str, Json], description: str | None = None) -> Path:
        """Save a model, replacing what has the key. Raises BadName, ProviderUnavailable (the disk)."""
        folder = self.path(key)
        digest = hashlib.sha256(graph).hexdigest()
        now = time.time()
        saved = Saved(
            graph=f"graph-{digest[:16]}.onnx",
            sha256=digest,
            created=now,
            modified=now,
            description=description,
            facts=facts,
        )
        try:
            with self._changing:
                replace_file(folder / saved.graph, graph)
                replace_file(folder / _NOTE, msgspec.json.encode(saved))
                _tidy(folder, keep=saved.graph)
                for parent in folder.parents[: len(key)]:
                    fsync_folder(parent)
        except OSError as error:
            raise unsaved(key, error) from error
        return folder

    def describe(self, key: Key, description: str | None) -> Saved:
        """Set the description unless it is None. Raises ModelNotFound, Damaged, ProviderUnavailable."""
        with self._changing:
            saved = self.note(key)
            if description is None or description == saved.description:
                return saved
            saved.description, saved.modified = description, time.time()
            try:
                replace_file(self.path(key) / _NOTE, msgspec.json.encode(saved))
            except OSError as error:
                raise unsaved(key, error) from error
            return saved

    def note(self, key: Key) -> Saved:
        """The model's JSON. Raises ModelNotFound, Damaged."""
        name, path = "/".join(key), self.path(key) / _NOTE
        try:
            data = _read(path, MAX_NOTE)
            saved = msgspec.json.decode(data, type=Saved)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelNotFound(f"no model {name} is saved") from error
        except (OSError, ValueError, RecursionError) as error:
            raise Damaged(f"the saved model {name} is damaged ({_NOTE}): delete it and fit it again") from error
        if saved.format != _FORMAT:
            raise Damaged(
                f"the saved model {name} has format {saved.format}, this server reads {_FORMAT}: fit it again"
            )
        return saved

    def read(self, key: Key) -> tuple[Saved, bytes]:
        """The JSON and the graph, whose checksum was compared. Raises ModelNotFound, Damaged."""
        for attempt in range(2):
            saved = self.note(key)
            try:
                graph = _read(self.path(key) / saved.graph, MAX_GRAPH)
            except OSError:
                if attempt == 0:
                    continue  # replaced between the two reads
                break
            if hashlib.sha256(graph).hexdigest() == saved.sha256:
                return saved, graph
            break
        raise Damaged(f"the saved model {'/'.join(key)} is damaged ({saved.graph}): delete it and fit it again")

    def delete(self, key: Key) -> None:
        """Delete a model, a damaged one too. Raises ModelNotFound, ProviderUnavailable."""
        folder = self.path(key)
        try:
            with self._changing:
                (folder / _NOTE).unlink()
                _tidy(folder)
                for parent in (folder, *folder.parents)[: len(key)]:
                    if any(parent.iterdir()):
                        break
                    parent.rmdir()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ModelNotFound(f"no model {'/'.join(key)} is saved") from error
        except OSError as error:
            raise ProviderUnavailable(f"the model {'/'.join(key)} can't be deleted ({error.strerror})") from error

    def keys(self, start: str = "") -> list[Key]:
        """The models that are there, damaged ones included, whose first name starts so."""
        return sorted(self._walk(self.root, (), start))

    def find(self, name: str, *, latest: bool, wanted: Callable[[Key], bool] = bool) -> list[Key]:
        """The keys of the model that a first name means, of which `wanted` chooses; with `latest` the name may end so. None
        when it is not there. Opens no other model, of which there may be thousands. Raises BadName."""
        names = [child.name for child in self._children(self.root)] if latest else []
        for meant in meanings(name, names) if latest else (name,):
            keys = sorted(filter(wanted, self._walk(self.path((meant,)), (meant,))))
            if keys:
                return keys
        return []

    def _walk(self, folder: Path, key: Key, start: str = "") -> Iterator[Key]:
        if len(key) == self._depth:
            if (folder / _NOTE).is_file():
                yield key
            return
        for child in self._children(folder):
            if child.name.startswith(start):
                yield from self._walk(folder / child.name, (*key, child.name))

    @staticmethod
    def _children(folder: Path) -> list[os.DirEntry[str]]:
        """What may be part of a model's key; what else lies there is none of ours."""
        try:
            return [one for one in os.scandir(folder) if NAME.fullmatch(one.name) and not one.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def all(self) -> list[Found]:
        """Every model, the newest first."""
        found = [self._found(key) for key in self.keys()]
        return sorted(found, key=lambda one: (-(one.saved.created if one.saved else 0), one.key))

    def _found(self, key: Key) -> Found:
        folder = self.root.joinpath(*key)
        saved, error = None, None
        try:
            saved = self.note(key)
        except (ModelNotFound, ProviderUnavailable) as failure:
            error = failure.message
        sizes = [file.stat().st_size for file in folder.glob("*") if file.is_file()]
        return Found(key=key, path=folder, size=sum(sizes), saved=saved, error=error)


def unsaved(key: Key, error: OSError) -> ProviderUnavailable:
    """The disk's failure as an error that a caller may see."""
    return ProviderUnavailable(
        f"the model {'/'.join(key)} can't be saved ({error.strerror}): free some space, try again"
    )


def _read(path: Path, limit: int) -> bytes:
    """A file's bytes. Raises OSError, also for a file over the limit."""
    if path.stat().st_size > limit:
        raise OSError("larger than any model")
    return path.read_bytes()


def _tidy(folder: Path, keep: str = "") -> None:
    """Remove the graphs of earlier models, and what a crash left of a write."""
    for file in (*folder.glob("graph-*.onnx"), *folder.glob(".*.tmp")):
        if file.name != keep:
            file.unlink(missing_ok=True)
