"""The projects on disk: ``{data}/projects/{namespace}/{project}/llamafarm.yaml``, read, checked, changed, deleted.

The file belongs to the user: what is written by hand is seen with the next request, and what the server writes keeps the
user's comments. A file is replaced whole or not at all, and the one before it stays as ``llamafarm.yaml.bak``.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import os
import secrets
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from paddock.contracts.base import Json
from paddock.contracts.config import ProjectConfig
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    FieldError,
    ProjectNotFound,
    ProviderUnavailable,
    ValidationFailed,
)
from paddock.services.core import Core
from paddock.services.keyed_locks import KeyedLocks
from paddock.services.project_checks import Checked, check, check_file
from paddock.services.project_merge import merge
from paddock.services.project_secrets import masked, restore
from paddock.services.project_yaml import FILE, MAX_BYTES, Parsed, check_plain, dump, failed, parse, same
from paddock.storage import check_name, inside, replace_file

__all__ = ["RESERVED", "LoadedProject", "ProjectFiles", "check_file", "masked"]

T = TypeVar("T")
Signature = tuple[int, int, int]
Change = Callable[[ProjectConfig, ProjectConfig], Awaitable[None]]
Names = list[str]  # inside the class, `list` is the method
RESERVED = "llamafarm"
_FILES = (FILE, "llamafarm.yml")
_TRASH = ".deleted-"
_CACHED = 1024


@dataclass(frozen=True, kw_only=True)
class LoadedProject:
    """A project as its file stands. Shared between requests: change nothing in it.

    `raw` is what the user wrote, secrets included (`masked` before it is shown), {} when the file can't be parsed.
    `config` is None exactly when `validation_error` is set. `last_modified` is ISO 8601 in UTC; `revision` changes with
    every byte of the file.
    """

    namespace: str
    name: str
    folder: Path
    raw: dict[str, Json]
    config: ProjectConfig | None
    last_modified: str
    revision: str
    warnings: list[str] = field(default_factory=list)
    errors: list[FieldError] = field(default_factory=list)

    @property
    def validation_error(self) -> str | None:
        """All errors in one sentence, or None."""
        return ValidationFailed.of(self.errors).message if self.errors else None


@dataclass
class _Kept:
    """A loaded project with the file it came from and what that file looked like."""

    path: Path
    signature: Signature
    project: LoadedProject


class ProjectFiles:
    """All projects of a data folder. For one event loop; file work runs in threads, except the `stat` of a cached file."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._root = core.projects_dir
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._locks = KeyedLocks()

    async def prepare(self) -> None:
        """Remove what a deletion left that a crash cut short. Call once at start."""
        await asyncio.to_thread(self._sweep)

    def folder(self, namespace: str, name: str) -> Path:
        """The project's folder, whether it exists or not. Raises BadName."""
        check_name(namespace, "namespace")
        check_name(name, "project name")
        return inside(self._root, namespace, name)

    async def load(self, namespace: str, name: str) -> LoadedProject:
        """The project, even when its file is invalid. Raises BadName, ProjectNotFound."""
        kept = self._kept.get((namespace, name))
        if kept is not None:
            with suppress(OSError):
                if _signature(os.stat(kept.path)) == kept.signature:  # noqa: PTH116  microseconds, and hot
                    return kept.project
        return await self._reload(namespace, name)

    async def config(self, namespace: str, name: str) -> ProjectConfig:
        """The checked configuration. Raises BadName, ProjectNotFound, and ValidationFailed when the file is invalid."""
        project = await self.load(namespace, name)
        if project.config is None:
            raise ValidationFailed(
                f"project {namespace}/{name} has an invalid llamafarm.yaml: {project.validation_error}", project.errors
            )
        return project.config

    async def namespaces(self) -> Names:
        """The namespaces that have a folder, by name."""
        return await asyncio.to_thread(self._namespaces)

    def _namespaces(self) -> Names:
        if not self._root.is_dir():
            return []
        return sorted(
            folder.name for folder in self._root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
        )

    async def list(self, namespace: str) -> list[LoadedProject]:
        """The projects of a namespace by name; none when the namespace is unknown. Raises BadName."""
        check_name(namespace, "namespace")
        names = await asyncio.to_thread(self._names, namespace)
        found = []
        for name in names:
            with suppress(ProjectNotFound, BadName):  # deleted in the meantime; a link that leads elsewhere
                found.append(await self.load(namespace, name))
        return found

    async def create(self, namespace: str, name: str, template: str) -> LoadedProject:
        """Create a project from the YAML text `template`, with its own name and namespace put in.

        Raises BadName, BadRequest (reserved namespace), Conflict (it exists), ValidationFailed (the template is invalid).
        """
        folder = self.folder(namespace, name)
        if namespace.lower() == RESERVED:
            raise BadRequest(f"the namespace {RESERVED} is reserved: choose another one")
        async with self._locks.holding(namespace, name):
            if await asyncio.to_thread(_file_in, folder) is not None:
                raise Conflict(f"project {namespace}/{name} exists already: change it with PUT, or delete it first")
            old = await asyncio.to_thread(parse, template.encode())
            await self._write(folder, namespace, name, old, old.raw)
        return await self.load(namespace, name)

    async def save(
        self, namespace: str, name: str, raw: dict[str, Json], before: Change | None = None
    ) -> LoadedProject:
        """Replace the whole configuration. Masked secrets keep their stored values; name and namespace are the path's.

        `before` sees the old and the new configuration where both are valid; what it raises reaches the caller. It must not
        change this project itself. Raises BadName, ProjectNotFound, ValidationFailed (nothing is written then). Idempotent.
        """
        check_plain(raw)
        async with self._locks.holding(namespace, name):
            folder, old = await self._current(namespace, name)
            values = {**restore(raw, old.raw if old else {}), "name": name, "namespace": namespace}
            if before is not None:
                await self._tell(before, namespace, name, values)
            await self._write(folder, namespace, name, old, values)
        return await self.load(namespace, name)

    async def _tell(self, before: Change, namespace: str, name: str, values: dict[str, Json]) -> None:
        former = (await self.load(namespace, name)).config
        core = self._core
        checked = await asyncio.to_thread(check, values, namespace, name, core.plugins, core.settings)
        if former is not None and checked.config is not None:
            await before(former, checked.config)

    async def edit(self, namespace: str, name: str, change: Callable[[dict[str, Json]], T]) -> T:
        """Read, let `change` alter the plain values in place, check, write; returns what `change` returned.

        No other change of the project comes between. `change` must not block; what it raises reaches the caller and
        nothing is written. It sees what the user wrote, in the form the user chose, secrets included; a masked secret that
        it puts in keeps its stored value. Raises ProjectNotFound, and ValidationFailed when the file is not YAML or the
        result is invalid.
        """
        async with self._locks.holding(namespace, name):
            folder, old = await self._current(namespace, name)
            if old is None:
                project = await self.load(namespace, name)
                raise ValidationFailed(f"llamafarm.yaml can't be changed: {project.validation_error}", project.errors)
            values = copy.deepcopy(old.raw)
            result = change(values)
            check_plain(values)
            await self._write(folder, namespace, name, old, restore(values, old.raw))
        return result

    async def delete(
        self, namespace: str, name: str, before: Callable[[LoadedProject], Awaitable[None]] | None = None
    ) -> LoadedProject:
        """Delete the project's folder with all that is in it, an invalid file included; returns what it was.

        `before` runs first; what it raises reaches the caller and nothing is deleted. It must not save, edit or delete this
        project itself. Raises BadName, ProjectNotFound.
        """
        async with self._locks.holding(namespace, name):
            project = await self.load(namespace, name)
            if before is not None:
                await before(project)
            await asyncio.to_thread(self._remove, self.folder(namespace, name))
            self._kept.pop((namespace, name), None)
        return project

    # -- reading

    async def _reload(self, namespace: str, name: str) -> LoadedProject:
        kept = await asyncio.to_thread(self._read, namespace, name)
        if kept is None:
            self._kept.pop((namespace, name), None)
            raise _missing(namespace, name)
        while len(self._kept) >= _CACHED:
            self._kept.pop(next(iter(self._kept)))
        self._kept[namespace, name] = kept
        return kept.project

    def _file(self, namespace: str, name: str) -> Path | None:
        """The project's file; BadName when it is a link that leads out of the data folder."""
        path = _file_in(self.folder(namespace, name))
        return path and inside(self._root, namespace, name, path.name)

    def _read(self, namespace: str, name: str) -> _Kept | None:
        path = self._file(namespace, name)
        if path is None:
            return None
        # The signature is taken first: a change in between is seen as one with the next request.
        try:
            stat = path.stat()
        except FileNotFoundError:  # deleted a moment ago
            return None
        raw: dict[str, Json] = {}
        data = b""
        try:
            data = _bytes(path)
            raw = parse(data).raw
            checked = check(raw, namespace, name, self._core.plugins, self._core.settings)
        except ValidationFailed as error:
            checked = Checked(config=None, errors=error.errors, warnings=[])
        project = LoadedProject(
            namespace=namespace,
            name=name,
            folder=path.parent,
            raw=raw,
            config=checked.config,
            last_modified=_time(stat.st_mtime),
            revision=hashlib.sha256(data).hexdigest()[:16],
            warnings=checked.warnings,
            errors=checked.errors,
        )
        return _Kept(path, _signature(stat), project)

    async def _current(self, namespace: str, name: str) -> tuple[Path, Parsed | None]:
        """The folder, and the file as it stands; None for one that is not YAML."""
        path = await asyncio.to_thread(self._file, namespace, name)
        if path is None:
            raise _missing(namespace, name)
        try:
            return path.parent, await asyncio.to_thread(lambda: parse(_bytes(path)))
        except ValidationFailed:
            return path.parent, None

    def _names(self, namespace: str) -> Names:
        try:
            folder = inside(self._root, namespace)
            entries = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [name for name in entries if not name.startswith(".")]

    # -- writing

    async def _write(self, folder: Path, namespace: str, name: str, old: Parsed | None, raw: dict[str, Json]) -> None:
        values = {**raw, "name": name, "namespace": namespace}
        await asyncio.to_thread(self._check_and_write, folder, namespace, name, old, values)
        self._kept.pop((namespace, name), None)

    def _check_and_write(
        self, folder: Path, namespace: str, name: str, old: Parsed | None, values: dict[str, Json]
    ) -> None:
        checked = check(values, namespace, name, self._core.plugins, self._core.settings)
        if checked.errors:
            raise ValidationFailed.of(checked.errors)
        path = _file_in(folder)
        if old is not None and path is not None and path.name == FILE and same(old.raw, values):
            return
        text = merge(old, values) if old else dump(values)
        if not same(parse(text.encode()).raw, values):
            raise failed("it can't be written so that it reads back the same: remove unusual characters from its texts")
        _store(folder, path, text.encode())

    def _remove(self, folder: Path) -> None:
        trash = folder.with_name(f"{_TRASH}{secrets.token_hex(8)}")
        try:
            folder.rename(trash)  # gone at once for everybody; what follows may take its time
            shutil.rmtree(trash)
        except OSError as error:
            raise ProviderUnavailable(f"the project's folder can't be deleted: {error.strerror}") from error
        with suppress(OSError):
            folder.parent.rmdir()  # the namespace, when this was its last project

    def _sweep(self) -> None:
        for trash in self._root.glob(f"*/{_TRASH}*"):
            shutil.rmtree(trash, ignore_errors=True)  # tried again at the next start


def _missing(namespace: str, name: str) -> ProjectNotFound:
    return ProjectNotFound.of(namespace, name)


def _file_in(folder: Path) -> Path | None:
    return next((path for path in (folder / name for name in _FILES) if path.is_file()), None)


def _bytes(path: Path) -> bytes:
    """At most one byte more than a file may have: enough to see that it is too large."""
    try:
        with path.open("rb") as source:
            return source.read(MAX_BYTES + 1)
    except OSError as error:
        raise failed(f"can't be read: {error.strerror}") from error


def _store(folder: Path, former: Path | None, data: bytes) -> None:
    try:
        if former is None:
            replace_file(folder / FILE, data)
            return
        mode = former.stat().st_mode & 0o777  # a file that only its owner may read stays so
        for target, content in ((folder / f"{FILE}.bak", former.read_bytes()), (folder / FILE, data)):
            replace_file(target, content)
            target.chmod(mode)
        if former.name != FILE:
            former.unlink()
    except OSError as error:
        raise ProviderUnavailable(f"llamafarm.yaml can't be written: {error.strerror}") from error


def _signature(stat: os.stat_result) -> Signature:
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
