"""The dataset endpoints, and what other services ask of datasets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from paddock.contracts.base import Context, Json, Upload, hookimpl
from paddock.contracts.config import DatasetConfig, ProjectConfig
from paddock.contracts.datasets import (
    ActionReply,
    ActionRequest,
    BulkReply,
    CleanupReply,
    DatasetCreate,
    DatasetList,
    DatasetListPath,
    DatasetPath,
    DatasetReply,
    FilePath,
    FileRemove,
    FileRemoved,
    ProcessCancelPath,
    ProcessPath,
    ProcessReply,
    StrategyList,
    UploadPath,
    UploadReply,
)
from paddock.contracts.projects import ProjectPath
from paddock.contracts.tasks import TaskCancelled
from paddock.errors import (
    Conflict,
    DatabaseNotFound,
    FieldError,
    FileNotFound,
    ProjectNotFound,
    TaskNotFound,
    ValidationFailed,
)
from paddock.services import dataset_chunks
from paddock.services.core import Core
from paddock.services.dataset_chunks import ChunkRemoval, DeleteChunksHandler
from paddock.services.dataset_files import DatasetFiles, FileRow
from paddock.services.dataset_uploads import Uploads
from paddock.services.dataset_views import shown
from paddock.services.events import EventLog
from paddock.services.ingest import KIND, Ingest, ProcessHandler
from paddock.services.keyed_locks import KeyedLocks
from paddock.services.project_files import ProjectFiles
from paddock.services.stores import Stores
from paddock.services.tasks import TaskService
from paddock.storage import check_name

Raw = dict[str, Any]


class Datasets:
    """Implements `paddock.contracts.datasets`. Registers its task handlers; open `running` inside the tasks' own."""

    def __init__(self, core: Core, files: ProjectFiles, stores: Stores, tasks: TaskService, events: EventLog) -> None:
        self._core = core
        self._files = files
        self._stores = stores
        self._tasks = tasks
        self.rows = DatasetFiles(core)
        self.ingest = Ingest(core, files, stores, self.rows, events)
        self._removal = ChunkRemoval(self.ingest)
        # One for each project: a dataset is not deleted between the look whether it is there and what relies on it.
        self._places = KeyedLocks()
        self._uploads = Uploads(core, self.rows)
        tasks.register(ProcessHandler(self.ingest))
        tasks.register(DeleteChunksHandler(self._removal))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Remove what interrupted uploads left; close the parser threads at the end."""
        await self.rows.stored.sweep()
        try:
            yield
        finally:
            await self.ingest.close()

    # -- datasets

    @hookimpl
    async def dataset_list(self, ctx: Context, params: DatasetListPath) -> DatasetList:
        config = await self._files.config(params.namespace, params.project)
        rows = await self.rows.of_project(params.namespace, params.project)
        found = [
            shown(dataset, rows.get(dataset.name, []), details=params.include_extra_details)
            for dataset in config.datasets
        ]
        return DatasetList(total=len(found), datasets=found)

    @hookimpl
    async def dataset_create(self, ctx: Context, params: ProjectPath, data: DatasetCreate) -> DatasetReply:
        dataset = await self.create(params.namespace, params.project, data)
        rows = await self.rows.of_dataset(params.namespace, params.project, data.name)
        return DatasetReply(dataset=shown(dataset, rows, details=True))

    async def create(self, namespace: str, project: str, data: DatasetCreate) -> DatasetConfig:
        """Add a dataset to llamafarm.yaml. Raises BadName, Conflict, DatabaseNotFound, StrategyNotFound."""
        check_name(data.name, "dataset name")
        config = await self._files.config(namespace, project)
        entry: dict[str, Json] = {
            "name": data.name,
            "data_processing_strategy": config.processing(data.data_processing_strategy).name,
            "database": config.database(data.database).name,
        }
        if data.auto_process is not None:
            entry["auto_process"] = data.auto_process

        def change(raw: Raw) -> None:
            known = raw.get("datasets") or []
            if any(item.get("name") == data.name for item in known):
                raise Conflict(f"dataset {data.name!r} exists already: choose another name, or delete it first")
            raw["datasets"] = [*known, entry]

        await self._files.edit(namespace, project, change)
        return (await self._files.config(namespace, project)).dataset(data.name)

    @hookimpl
    async def dataset_strategies_list(self, ctx: Context, params: ProjectPath) -> StrategyList:
        config = await self._files.config(params.namespace, params.project)
        return StrategyList(
            data_processing_strategies=[item.name for item in config.strategies()],
            databases=[item.name for item in config.rag.databases],
        )

    @hookimpl
    async def dataset_delete(self, ctx: Context, params: DatasetPath) -> DatasetReply:
        place = (params.namespace, params.project, params.dataset)
        async with self._places.holding(params.namespace, params.project):
            config, dataset = await self._dataset(*place)
            was = shown(dataset, await self.rows.of_dataset(*place), details=True)
            await self._tasks.stop(*place)
            if await self._has_data(params, config, dataset):
                await self._removal.of_dataset(place, dataset.database)
            await self.rows.delete_all(*place)
            await self._files.edit(params.namespace, params.project, lambda raw: _remove_entry(raw, params.dataset))
        return DatasetReply(dataset=was)

    async def _has_data(self, params: DatasetPath, config: ProjectConfig, dataset: DatasetConfig) -> bool:
        try:
            database = config.database(dataset.database)
        except DatabaseNotFound:
            return False
        return await self._stores.filled(params.namespace, params.project, database)

    async def _dataset(self, namespace: str, project: str, name: str) -> tuple[ProjectConfig, DatasetConfig]:
        config = await self._files.config(namespace, project)
        check_name(name, "dataset")
        return config, config.dataset(name)

    # -- files

    @hookimpl
    async def dataset_data_upload(self, ctx: Context, params: UploadPath, data: Upload) -> UploadReply:
        _, dataset = await self._dataset(params.namespace, params.project, params.dataset)
        place = (params.namespace, params.project, params.dataset)
        async with self._uploads.one(place, ctx, data) as row:
            reply = await self._keep(row)
        if _automatic(params, dataset) and not reply.processed:
            reply.task_id = await self._start(params, dataset.name, [row.hash])
            reply.status = "processing"
        return reply

    async def _keep(self, row: FileRow) -> UploadReply:
        """Write the row, if the dataset is still there."""
        async with self._places.holding(row.namespace, row.project):
            await self._dataset(row.namespace, row.project, row.dataset)
            known = await self.rows.add(row)
        return UploadReply(
            filename=row.filename,
            hash=row.hash,
            processed=known is not None and known.processed_as is not None,
            skipped=known is not None,
            status="uploaded" if known is None else "skipped",
            task_id=None,
        )

    @hookimpl
    async def dataset_data_bulk_upload(self, ctx: Context, params: UploadPath, data: Upload) -> BulkReply:
        _, dataset = await self._dataset(params.namespace, params.project, params.dataset)
        place = (params.namespace, params.project, params.dataset)
        replies = [reply async for reply in self._uploads.many(place, data, self._keep)]
        stored = [reply for reply in replies if reply.hash is not None]
        task_id = None
        wanted = [reply for reply in stored if not reply.processed]
        if wanted and _automatic(params, dataset):
            task_id = await self._start(params, dataset.name, list(dict.fromkeys(str(reply.hash) for reply in wanted)))
            for reply in wanted:
                reply.status, reply.task_id = "processing", task_id
        return BulkReply(
            uploaded=sum(not reply.skipped for reply in stored),
            skipped=sum(reply.skipped for reply in stored),
            failed=len(replies) - len(stored),
            task_id=task_id,
            status="processing" if task_id else "uploaded" if stored else "error",
            files=replies,
        )

    @hookimpl
    async def dataset_data_delete(self, ctx: Context, params: FileRemove) -> FileRemoved:
        _, dataset = await self._dataset(params.namespace, params.project, params.dataset)
        row = await self.rows.get(params.namespace, params.project, params.dataset, params.file_hash)
        await self._tasks.stop_items(*row.key)
        count = await self._removal.of_file(row.key, dataset.database)
        gone = await self.rows.delete(row, bytes_too=params.remove_from_disk)
        return FileRemoved(file_hash=row.hash, deleted_chunks=count, removed_from_disk=gone)

    @hookimpl
    async def dataset_file_cleanup(self, ctx: Context, params: FilePath) -> CleanupReply:
        config, dataset = await self._dataset(params.namespace, params.project, params.dataset)
        config.database(dataset.database)
        key = (params.namespace, params.project, params.dataset, params.file_hash)
        row = await self.rows.find(*key)
        count = await self._removal.of_file(key, dataset.database)
        if row is None and not count:
            raise FileNotFound(f"neither dataset {params.dataset} nor its database has anything of this file")
        return CleanupReply(
            message=f"Deleted {count} chunk(s) for file {params.file_hash[:12]}...",
            deleted_count=count,
            file_hash=params.file_hash,
            errors=None,
        )

    # -- processing

    @hookimpl
    async def dataset_actions(self, ctx: Context, params: DatasetPath, data: ActionRequest) -> ActionReply:
        if data.action_type in ("process", "ingest"):
            hashes = None if data.file_hash is None else [data.file_hash]
            task_id = await self._start(params, params.dataset, hashes, data.parser_overrides)
        else:
            task_id = await self._start_removal(params, data)
        path = f"/v1/projects/{params.namespace}/{params.project}/tasks/{task_id}"
        return ActionReply(message="Accepted", task_uri=ctx.base_url.rstrip("/") + path, task_id=task_id)

    async def _start(
        self,
        params: DatasetPath | UploadPath | ProcessPath,
        name: str,
        hashes: Sequence[str] | None = None,
        overrides: dict[str, dict[str, Json]] | None = None,
    ) -> str:
        return await self.start(params.namespace, params.project, name, hashes=hashes, overrides=overrides)

    async def start(
        self,
        namespace: str,
        project: str,
        name: str,
        *,
        hashes: Sequence[str] | None = None,
        overrides: dict[str, dict[str, Json]] | None = None,
    ) -> str:
        """Process the files of a dataset, or only those named, as a task; returns its id.

        Raises FileNotFound for a hash that the dataset does not hold, ValidationFailed for wrong overrides.
        """
        async with self._places.holding(namespace, project):
            config, dataset = await self._dataset(namespace, project, name)
            strategy = config.processing(dataset.data_processing_strategy)
            self.ingest.planner.check_overrides(strategy, overrides or {})
            config.database(dataset.database)
            if hashes is None:
                rows = await self.rows.of_dataset(namespace, project, name)
            else:
                rows = [await self.rows.get(namespace, project, name, sha256) for sha256 in hashes]
            return await self._tasks.create(
                KIND,
                namespace,
                project,
                [(row.filename, {"hash": row.hash}) for row in rows],
                dataset=name,
                payload={"strategy": strategy.name, "database": dataset.database, "overrides": overrides or {}},
            )

    async def _start_removal(self, params: DatasetPath, data: ActionRequest) -> str:
        place = (params.namespace, params.project, params.dataset)
        if data.parser_overrides:
            raise ValidationFailed.of(
                [FieldError("parser_overrides", f"has no meaning for {data.action_type}: leave it out")]
            )
        if (data.file_hash is None) == (data.action_type == "delete_file_chunks"):
            reason = "name the file" if data.file_hash is None else "leave it out, or use delete_file_chunks"
            raise ValidationFailed.of([FieldError("file_hash", f"{data.action_type}: {reason}")])
        async with self._places.holding(params.namespace, params.project):
            config, dataset = await self._dataset(*place)
            config.database(dataset.database)
            item: tuple[str, dict[str, Json]] = (dataset.name, {})
            if data.file_hash is not None:
                row = await self.rows.get(*place, data.file_hash)
                item = (row.filename, {"hash": row.hash})
            return await self._tasks.create(
                dataset_chunks.KIND,
                params.namespace,
                params.project,
                [item],
                dataset=dataset.name,
                payload={"database": dataset.database},
            )

    @hookimpl
    async def dataset_process(self, ctx: Context, params: ProcessPath) -> ProcessReply:
        task_id = await self._start(params, params.dataset)
        look = self._tasks.views.reply if params.async_processing else self._tasks.views.finished
        task = await look(params.namespace, params.project, task_id)
        if task.result is not None:
            return msgspec.convert(task.result, ProcessReply)
        _, dataset = await self._dataset(params.namespace, params.project, params.dataset)
        return ProcessReply(
            message=task.meta.message,
            processed_files=0,
            skipped_files=0,
            failed_files=0,
            strategy=dataset.data_processing_strategy,
            database=dataset.database,
            details=[],
            task_id=task_id,
        )

    @hookimpl
    async def dataset_process_cancel(self, ctx: Context, params: ProcessCancelPath) -> TaskCancelled:
        await self._dataset(params.namespace, params.project, params.dataset)
        task = await self._tasks.views.find(params.namespace, params.project, params.task_id)
        if task.dataset != params.dataset:
            raise TaskNotFound(f"dataset {params.dataset} has no such task")
        return await self._tasks.cancel(task)

    # -- for other services

    async def ensure(self, namespace: str, project: str, name: str, strategy: str, database: str) -> None:
        """Create the dataset; one that exists stays as it is."""
        config = await self._files.config(namespace, project)
        if any(item.name == name for item in config.datasets):
            return
        data = DatasetCreate(name=name, data_processing_strategy=strategy, database=database)
        await self.create(namespace, project, data)

    async def add_file(self, namespace: str, project: str, dataset: str, path: Path) -> UploadReply:
        """Store a file of this machine in the dataset; bytes that are there already stay there once."""
        await self._dataset(namespace, project, dataset)
        async with self._uploads.local((namespace, project, dataset), path) as row:
            return await self._keep(row)

    async def process(self, namespace: str, project: str, dataset: str) -> str:
        """Process what is not processed yet; returns the task's id."""
        return await self.start(namespace, project, dataset)

    async def forget(self, namespace: str, project: str) -> None:
        """A project is about to be deleted: stop its tasks, close and delete its databases, forget its files, and delete
        the bytes that nobody else needs. Also while files are processed or uploaded."""
        async with self._places.holding(namespace, project):
            await self._tasks.forget(namespace, project)
            try:
                config = (await self._files.load(namespace, project)).config
            except ProjectNotFound:
                config = None
            await self._stores.drop_project(namespace, project, config)
            await self.rows.delete_all(namespace, project)


def _automatic(params: UploadPath, dataset: DatasetConfig) -> bool:
    return bool(dataset.auto_process) if params.auto_process is None else params.auto_process


def _remove_entry(raw: Raw, name: str) -> None:
    raw["datasets"] = [item for item in raw.get("datasets") or [] if item.get("name") != name]
