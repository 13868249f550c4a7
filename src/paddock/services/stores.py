"""The opened databases of all projects, each with the embedder that fills and asks it.

A database lives in ``{project}/lf_data/stores/{database}/``: the store's own files in ``data``, and ``embedder.json``,
which names the embedding space of the vectors in it. A database that holds vectors of one embedder is never filled nor
asked with those of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from paddock.contracts.config import DatabaseConfig, EmbeddingStrategyConfig, ProjectConfig
from paddock.contracts.providers import Embedder, Metric, TextKind, Vectors, VectorStore, VectorStoreProvider
from paddock.errors import Conflict, ProviderUnavailable
from paddock.services.core import Core
from paddock.services.project_files import ProjectFiles
from paddock.services.project_secrets import resolve_env
from paddock.storage import check_name, inside, replace_file

IDLE = 300.0  # seconds that a database which nobody uses stays open
REAP = 30.0  # seconds between two looks
_DATA = "data"
_EMBEDDER = "embedder.json"


class Space(msgspec.Struct, frozen=True):
    """What ``embedder.json`` holds: the fingerprint of the embedder whose vectors are in the database."""

    fingerprint: str


class BoundEmbedder(msgspec.Struct, frozen=True):
    """An embedder with its decoded config; equal ones share batches."""

    strategy: str
    embedder: Embedder
    config: Any

    @property
    def name(self) -> str:
        """The type name, for people."""
        return self.embedder.name

    @property
    def fingerprint(self) -> str:
        """Names the embedding space."""
        return self.embedder.fingerprint(self.config)

    async def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """All texts; see `Embedder.embed`."""
        return await self.embedder.embed(texts, self.config, kind)


class OpenDatabase(msgspec.Struct, kw_only=True):
    """A database while it is used. `embedder` is None when the project names no embedding strategy for it; `space` is the
    fingerprint of the embedder whose vectors it holds, None while that was never written down."""

    config: DatabaseConfig
    store: VectorStore
    embedder: BoundEmbedder | None
    metric: Metric
    space: str | None

    async def check_embedder(self) -> BoundEmbedder:
        """The embedder, once it is certain that it fits what the database holds. Raises Conflict with the next step."""
        if self.embedder is None:
            raise Conflict(
                f"database {self.config.name} has no embedding strategy: add one under embedding_strategies in llamafarm.yaml"
            )
        asked = self.embedder.fingerprint
        if self.space not in (None, asked) and (await self.store.stats()).chunks:
            raise Conflict(
                f"database {self.config.name} was filled by the embedder {self.space}, and now names {asked}: change it "
                f"back, PATCH rag/databases/{self.config.name} with reembed: true, or remove the chunks of its datasets (action "
                "delete_dataset_chunks) and process them again"
            )
        return self.embedder


class _Entry:
    """One database folder: opened at most once, closed when nobody uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = asyncio.Lock()  # held to open and to close
        self.free = asyncio.Event()
        self.free.set()
        self.users = 0
        self.last_used = time.monotonic()
        self.store: VectorStore | None = None
        self.opened_as: tuple[object, ...] = ()
        self.space: str | None = None

    def take(self) -> None:
        self.users += 1
        self.free.clear()

    def give_back(self) -> None:
        self.users -= 1
        self.last_used = time.monotonic()
        if self.users == 0:
            self.free.set()

    async def close(self) -> None:
        """Wait for the users, then close. The lock must be held, so that no new user comes."""
        await self.free.wait()
        store, self.store = self.store, None
        if store is not None:
            await store.close()


class Stores:
    """Hands out databases. Use `using`; what it yields is valid inside the ``async with`` only."""

    def __init__(self, core: Core, files: ProjectFiles) -> None:
        self._core = core
        self._files = files
        self._entries: dict[Path, _Entry] = {}

    @asynccontextmanager
    async def using(
        self, namespace: str, project: str, database: str | None = None, *, embedding: str | None = None
    ) -> AsyncIterator[OpenDatabase]:
        """A database (None: the project's default) with its default embedder, or the strategy named `embedding`.

        It stays open, and is not deleted, until the block ends: keep it short, or be cancellable, and never nest it. Call
        `check_embedder` of what it yields before vectors are compared. Raises ProjectNotFound, DatabaseNotFound,
        StrategyNotFound, ValidationFailed (an invalid project, a damaged database), UnknownType, ProviderUnavailable.
        """
        project_config = await self._files.config(namespace, project)
        config = project_config.database(database)
        embedder = self.bind(config, embedding)
        async with self._held(self.folder(namespace, project, config.name), config) as (entry, store, metric):
            yield OpenDatabase(config=config, store=store, embedder=embedder, metric=metric, space=entry.space)

    @asynccontextmanager
    async def filling(
        self, namespace: str, project: str, database: str
    ) -> AsyncIterator[tuple[OpenDatabase, BoundEmbedder]]:
        """A database with the embedder to fill it with; from now on it is known to hold that embedder's vectors.

        One that is empty may change its embedder. Raises Conflict as `OpenDatabase.check_embedder`, and what `using` does.
        """
        config = (await self._files.config(namespace, project)).database(database)
        folder = self.folder(namespace, project, config.name)
        embedder = self.bind(config)
        async with self._held(folder, config) as (entry, store, metric):
            opened = OpenDatabase(config=config, store=store, embedder=embedder, metric=metric, space=entry.space)
            settled = (await opened.check_embedder()).fingerprint == entry.space
        if not settled and embedder is not None:
            await self._settle(folder, config, embedder.fingerprint)
        async with self._held(folder, config) as (entry, store, metric):
            opened = OpenDatabase(config=config, store=store, embedder=embedder, metric=metric, space=entry.space)
            yield opened, await opened.check_embedder()

    async def _settle(self, folder: Path, config: DatabaseConfig, fingerprint: str) -> None:
        """Begin an empty database anew for another embedder, whose vectors may have another length."""
        provider = self._core.plugins.vector_stores.find(config.type)
        async with self._locked(folder) as entry:
            await entry.free.wait()
            if entry.space == fingerprint:
                return
            if entry.store is None:
                raise ProviderUnavailable(f"database {config.name} was closed in between: try again")
            empty = (await entry.store.stats()).chunks == 0
            if not empty and entry.space is not None:
                raise ProviderUnavailable(f"database {config.name} was filled in between: try again")
            await entry.close()
            if empty:
                await provider.drop(folder / _DATA, self.configured(config, provider))
            await asyncio.to_thread(write_space, folder, Space(fingerprint))
            entry.space = fingerprint

    @asynccontextmanager
    async def _held(self, folder: Path, config: DatabaseConfig) -> AsyncIterator[tuple[_Entry, VectorStore, Metric]]:
        provider = self._core.plugins.vector_stores.find(config.type)
        settled = self.configured(config, provider)
        entry = await self._taken(folder, config, provider, settled)
        try:
            assert entry.store is not None
            yield entry, entry.store, provider.metric(settled)
        finally:
            entry.give_back()

    async def _taken(self, folder: Path, config: DatabaseConfig, provider: VectorStoreProvider, settled: Any) -> _Entry:
        known = self._entries.get(folder)
        ready = known is not None and known.store is not None and not known.lock.locked()
        if known and ready and known.opened_as == (config.type, settled, _identity(folder)):
            known.take()
            return known
        async with self._locked(folder) as entry:
            if entry.store is None or entry.opened_as != (config.type, settled, _identity(folder)):
                await entry.close()
                await asyncio.to_thread((folder / _DATA).mkdir, parents=True, exist_ok=True)
                space = await asyncio.to_thread(read_space, folder)
                entry.store = await provider.open(folder / _DATA, settled)
                entry.space = space.fingerprint if space else None
                entry.opened_as = (config.type, settled, _identity(folder))
            entry.take()
            return entry

    @asynccontextmanager
    async def _locked(self, folder: Path) -> AsyncIterator[_Entry]:
        """The folder's entry for one coroutine alone; users that took it before may still be there."""
        while True:
            entry = self._entries.setdefault(folder, _Entry(folder))
            async with entry.lock:
                if self._entries.get(folder) is entry:
                    yield entry
                    return

    def configured(self, config: DatabaseConfig, provider: VectorStoreProvider) -> Any:
        """The decoded config of a database's store."""
        return provider.configure(config.type, resolve_env(config.config, self._core.settings)).config

    def bind(self, config: DatabaseConfig, name: str | None = None) -> BoundEmbedder | None:
        """The embedder of a database: the strategy `name`, or its default; None when it has no strategy at all."""
        if not config.embedding_strategies and name is None:
            return None
        return self.bind_strategy(config.embedding(name))

    def bind_strategy(self, strategy: EmbeddingStrategyConfig) -> BoundEmbedder:
        """The embedder of a strategy."""
        embedder = self._core.plugins.embedders.find(strategy.type)
        settled = embedder.configure(strategy.type, resolve_env(strategy.config, self._core.settings)).config
        return BoundEmbedder(strategy.name, embedder, settled)

    def folder(self, namespace: str, project: str, database: str) -> Path:
        """Where a database lives. Raises BadName."""
        check_name(database, "database")
        return inside(self._files.folder(namespace, project), "lf_data", "stores", database)

    def exists(self, namespace: str, project: str, config: DatabaseConfig) -> bool:
        """Whether the database was ever opened."""
        return (self.folder(namespace, project, config.name) / _DATA).is_dir()

    async def filled(self, namespace: str, project: str, config: DatabaseConfig) -> bool:
        """Whether the database holds chunks; one that was never opened is not created for the question."""
        folder = self.folder(namespace, project, config.name)
        if not self.exists(namespace, project, config):
            return False
        async with self._held(folder, config) as (_, store, _metric):
            return (await store.stats()).chunks > 0

    async def foreign(self, namespace: str, project: str, config: DatabaseConfig) -> bool:
        """Whether the database is known to hold vectors of another embedder than its entry names."""
        folder, embedder = self.folder(namespace, project, config.name), self.bind(config)
        if embedder is None or not self.exists(namespace, project, config):
            return False
        async with self._held(folder, config) as (entry, _store, _metric):
            return entry.space not in (None, embedder.fingerprint)

    async def drop(self, namespace: str, project: str, config: DatabaseConfig) -> None:
        """Delete a database's data for good, once nobody uses it; a missing one counts as done."""
        folder = self.folder(namespace, project, config.name)
        provider = self._core.plugins.vector_stores.find(config.type)
        async with self._locked(folder) as entry:
            await entry.close()
            if await asyncio.to_thread((folder / _DATA).is_dir):
                await provider.drop(folder / _DATA, self.configured(config, provider))
            await asyncio.to_thread(_remove, folder)
            self._entries.pop(folder)

    async def close(self, namespace: str, project: str, database: str) -> None:
        """Close a database if it is open, once nobody uses it."""
        folder = self.folder(namespace, project, database)
        if folder in self._entries:
            await self._close(folder)

    async def close_project(self, namespace: str, project: str) -> None:
        """Close all databases of a project, once nobody uses them. They open again when they are asked for."""
        root = self._files.folder(namespace, project)
        for folder in [folder for folder in self._entries if folder.is_relative_to(root)]:
            await self._close(folder)

    async def drop_project(self, namespace: str, project: str, config: ProjectConfig | None) -> None:
        """Close and delete all databases of a project that is about to be deleted. Stores that keep their data elsewhere
        delete it there; `config` None (an invalid file) leaves that out."""
        await self.close_project(namespace, project)
        for database in config.rag.databases if config else []:
            await self.drop(namespace, project, database)

    async def _close(self, folder: Path) -> None:
        async with self._locked(folder) as entry:
            await entry.close()
            self._entries.pop(folder)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Close idle databases while this runs, and all at the end."""
        reaper = asyncio.ensure_future(self._reap())
        try:
            yield
        finally:
            reaper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reaper
            for folder in list(self._entries):
                await self._close(folder)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP)
            await self.close_idle(IDLE)

    async def close_idle(self, seconds: float) -> int:
        """Close what nobody used for that long; returns how many."""
        before = time.monotonic() - seconds
        idle = [item for item in self._entries.values() if not item.users and item.last_used <= before]
        for entry in idle:
            await self._close(entry.folder)
        return len(idle)


def read_space(folder: Path) -> Space | None:
    """Whose vectors a database holds; None when nothing was written down yet. Raises ProviderUnavailable for a damaged
    file: to guess could mix the vectors of two embedders."""
    try:
        return msgspec.json.decode((folder / _EMBEDDER).read_bytes(), type=Space)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise ProviderUnavailable(
            f"{_EMBEDDER} of database {folder.name} is damaged: restore it from a backup, or delete the database and process "
            "its datasets again"
        ) from error


def write_space(folder: Path, space: Space) -> None:
    """Write down whose vectors come into a database; before the first of them does."""
    replace_file(folder / _EMBEDDER, msgspec.json.encode(space))


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder this is: a project that was deleted and created anew has another one under the same name."""
    try:
        stat = folder.stat()
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _remove(folder: Path) -> None:
    if folder.is_dir():
        shutil.rmtree(folder)
