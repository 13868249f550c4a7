"""The databases of a project: entries of its llamafarm.yaml, and the data behind them."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from paddock.contracts.base import Context, Json, hookimpl
from paddock.contracts.config import DatabaseConfig, ProjectConfig
from paddock.contracts.projects import ProjectPath
from paddock.contracts.rag import (
    DatabaseCreate,
    DatabaseCreated,
    DatabaseDelete,
    DatabaseDeleted,
    DatabaseDetail,
    DatabaseList,
    DatabasePath,
    DatabaseSummary,
    DatabaseUpdate,
    EmbeddingSummary,
    RetrievalSummary,
)
from paddock.errors import BadRequest, Conflict, DatabaseNotFound
from paddock.services.project_files import ProjectFiles
from paddock.services.project_secrets import masked, restore
from paddock.services.project_yaml import check_plain

Raw = dict[str, Any]


class Keeper(Protocol):
    """What must happen to the data when a database's entry changes."""

    async def check_change(
        self, namespace: str, project: str, old: DatabaseConfig, new: DatabaseConfig, *, reembed: bool
    ) -> None:
        """Raise Conflict when `new` can't serve what is stored (another embedder, without `reembed`)."""

    async def carry_out(
        self, namespace: str, project: str, old: DatabaseConfig, new: DatabaseConfig, *, reembed: bool
    ) -> str | None:
        """Apply the change to the stored data, or what an earlier one left to do; returns the id of the task that does it, or
        None."""

    async def drop(self, namespace: str, project: str, database: DatabaseConfig) -> bool:
        """Delete the data; whether there was any to delete."""

    async def release(self, namespace: str, project: str, database: str) -> None:
        """Close the database if it is open."""


class Databases:
    """Implements the databases of contracts/rag.py."""

    def __init__(self, files: ProjectFiles, keeper: Keeper) -> None:
        self._files = files
        self._keeper = keeper

    @hookimpl
    async def database_list(self, ctx: Context, params: ProjectPath) -> DatabaseList:
        config = await self._files.config(params.namespace, params.project)
        default = config.database().name if config.rag.databases else None
        items = [summary(config, database) for database in config.rag.databases]
        return DatabaseList(databases=items, default_database=default)

    @hookimpl
    async def database_get(self, ctx: Context, params: DatabasePath) -> DatabaseDetail:
        config = await self._files.config(params.namespace, params.project)
        return detail(config, config.database(params.database))

    @hookimpl
    async def database_create(self, ctx: Context, params: ProjectPath, data: DatabaseCreate) -> DatabaseCreated:
        entry = {key: value for key, value in msgspec.to_builtins(data).items() if value not in (None, {}, [])}

        def change(raw: Raw) -> None:
            databases = _databases(raw)
            if any(item.get("name") == data.name for item in databases):
                raise Conflict(f"database {data.name!r} exists already: change it with PATCH, or delete it first")
            databases.append(entry)

        await self._files.edit(params.namespace, params.project, change)
        config = await self._files.config(params.namespace, params.project)
        return DatabaseCreated(database=summary(config, config.database(data.name)))

    @hookimpl
    async def database_update(self, ctx: Context, params: DatabasePath, data: DatabaseUpdate) -> DatabaseDetail:
        config = await self._files.config(params.namespace, params.project)
        old = config.database(params.database)
        changes = changed_fields(old, data)
        check_plain(changes)
        new = merged(old, changes)
        await self._keeper.check_change(params.namespace, params.project, old, new, reembed=data.reembed)

        def change(raw: Raw) -> None:
            entry = _entry(raw, params.database)
            for key, value in changes.items():
                if value is None:
                    entry.pop(key, None)
                else:
                    entry[key] = restore(value, entry.get(key))

        await self._files.edit(params.namespace, params.project, change)
        config = await self._files.config(params.namespace, params.project)
        new = config.database(params.database)
        task_id = await self._keeper.carry_out(params.namespace, params.project, old, new, reembed=data.reembed)
        return detail(config, new, task_id)

    @hookimpl
    async def database_delete(self, ctx: Context, params: DatabaseDelete) -> DatabaseDeleted:
        config = await self._files.config(params.namespace, params.project)
        database = config.database(params.database)
        shown = detail(config, database)
        refuse_while_needed(shown)

        def change(raw: Raw) -> None:
            needing = [item["name"] for item in raw.get("datasets") or [] if item.get("database") == params.database]
            refuse_while_needed(msgspec.structs.replace(shown, dependent_datasets=needing))
            _databases(raw).remove(_entry(raw, params.database))
            rag = raw["rag"]
            if rag.get("default_database") == params.database:
                del rag["default_database"]
            if not rag["databases"]:
                del rag["databases"]

        await self._files.edit(params.namespace, params.project, change)
        if params.delete_collection:
            await self._keeper.drop(params.namespace, params.project, database)
        else:
            await self._keeper.release(params.namespace, params.project, database.name)
        return DatabaseDeleted(
            message=f"Database '{database.name}' deleted successfully",
            database=shown,
            collection_deleted=params.delete_collection,
        )


def summary(config: ProjectConfig, database: DatabaseConfig) -> DatabaseSummary:
    """A database as the list shows it."""
    embedding = database.embedding().name if database.embedding_strategies else None
    retrieval = database.retrieval().name if database.retrieval_strategies else None
    return DatabaseSummary(
        name=database.name,
        type=database.type,
        is_default=config.database().name == database.name,
        embedding_strategies=[
            EmbeddingSummary(name=item.name, type=item.type, priority=item.priority, is_default=item.name == embedding)
            for item in database.embedding_strategies
        ],
        retrieval_strategies=[
            RetrievalSummary(name=item.name, type=item.type, is_default=item.name == retrieval)
            for item in database.retrieval_strategies
        ],
    )


def detail(config: ProjectConfig, database: DatabaseConfig, task_id: str | None = None) -> DatabaseDetail:
    """A database with its configuration, secrets masked."""
    shown = shown_config(database)
    return DatabaseDetail(
        name=database.name,
        type=database.type,
        config=shown.config,
        embedding_strategies=shown.embedding_strategies,
        retrieval_strategies=shown.retrieval_strategies,
        default_embedding_strategy=database.embedding().name if database.embedding_strategies else None,
        default_retrieval_strategy=database.retrieval().name if database.retrieval_strategies else None,
        dependent_datasets=[item.name for item in config.datasets if item.database == database.name],
        task_id=task_id,
    )


def shown_config(database: DatabaseConfig) -> DatabaseConfig:
    """The entry with ``********`` for every secret."""
    return msgspec.convert(masked(msgspec.to_builtins(database)), DatabaseConfig)


def refuse_while_needed(database: DatabaseDetail) -> None:
    """Raise Conflict, in the documented words, while datasets depend on the database."""
    needing = database.dependent_datasets
    if needing:
        raise Conflict(
            f"Cannot delete database '{database.name}': {len(needing)} dataset(s) depend on it. "
            f"Delete or reassign these datasets first: {needing}"
        )


def changed_fields(old: DatabaseConfig, data: DatabaseUpdate) -> dict[str, Json]:
    """The fields of a PATCH that were given, as plain values. Raises BadRequest for the immutable ones."""
    changes: dict[str, Json] = {}
    for field in msgspec.structs.fields(data):
        value = getattr(data, field.name)
        if value is msgspec.UNSET or field.name == "reembed":
            continue
        if field.name in ("name", "type"):
            if value != getattr(old, field.name):
                raise BadRequest(f"{field.name} is immutable: create another database and move the datasets to it")
            continue
        changes[field.name] = msgspec.to_builtins(value)
    for kind in ("embedding", "retrieval"):
        name = changes.get(f"default_{kind}_strategy")
        items = changes.get(f"{kind}_strategies", msgspec.to_builtins(getattr(old, f"{kind}_strategies")))
        known = [item["name"] for item in items]
        if name is not None and name not in known:
            raise BadRequest(f"default_{kind}_strategy {name!r} not found. Available: {known}")
    return changes


def merged(old: DatabaseConfig, changes: dict[str, Json]) -> DatabaseConfig:
    """The entry after the change; what does not fit is told when the file is written."""
    values = {**msgspec.to_builtins(old), **changes}
    try:
        return msgspec.convert(values, DatabaseConfig)
    except msgspec.ValidationError as error:
        raise BadRequest(f"Invalid database configuration: {error}") from error


def _databases(raw: Raw) -> list[Raw]:
    rag = raw.get("rag")
    if not isinstance(rag, dict):
        rag = raw["rag"] = {}
    if not isinstance(rag.get("databases"), list):  # `databases:` with nothing behind it is null
        rag["databases"] = []
    databases: list[Raw] = rag["databases"]
    return databases


def _entry(raw: Raw, name: str) -> Raw:
    for item in _databases(raw):
        if item.get("name") == name:
            return item
    raise DatabaseNotFound(f"database {name[:64]!r} was removed in the meantime")
