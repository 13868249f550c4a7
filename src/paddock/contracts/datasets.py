"""Datasets: named sets of files of a project, and how their files get into a database.

A dataset's name, database and processing strategy stand in llamafarm.yaml; which files it holds is kept by the server.
The bytes of a file are stored once, however many datasets hold it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal

import msgspec

from paddock.contracts.base import Context, Json, Name, Upload, endpoint
from paddock.contracts.projects import ProjectPath
from paddock.contracts.tasks import TaskCancelled
from paddock.errors import (
    BadName,
    Conflict,
    DatabaseNotFound,
    DatasetNotFound,
    FileNotFound,
    ProjectNotFound,
    ProviderUnavailable,
    StrategyNotFound,
    TaskNotFound,
    TooLarge,
    ValidationFailed,
)

FileStatus = Literal["uploaded", "processed", "failed"]
UPLOAD_LIMIT = 1 << 40  # bytes of a whole upload; each file in it is bounded by the setting uploads.max_bytes


class DatasetListPath(ProjectPath, frozen=True, kw_only=True):
    """A project; without `include_extra_details` the lists of files are left out."""

    include_extra_details: bool = True


class DatasetPath(ProjectPath, frozen=True, kw_only=True):
    """A dataset of a project."""

    dataset: Name


class UploadPath(ProjectPath, frozen=True, kw_only=True):
    """A dataset to upload to. `auto_process` null: as the dataset says, which says no unless it was told otherwise."""

    dataset: Name
    auto_process: bool | None = None


class FilePath(ProjectPath, frozen=True, kw_only=True):
    """A file of a dataset."""

    dataset: Name
    file_hash: Name


class FileRemove(ProjectPath, frozen=True, kw_only=True):
    """A file to remove; with `remove_from_disk` its bytes go too, unless another dataset holds them."""

    dataset: Name
    file_hash: Name
    remove_from_disk: bool = False


class ProcessPath(ProjectPath, frozen=True, kw_only=True):
    """A dataset to process; with `async_processing` the reply does not wait for the end."""

    dataset: Name
    async_processing: bool = False


class ProcessCancelPath(ProjectPath, frozen=True, kw_only=True):
    """A dataset and the task that processes it."""

    dataset: Name
    task_id: Name


class FileDetail(msgspec.Struct, kw_only=True):
    """A file: its sha256, the name it was uploaded under (for display only), size in bytes, upload time in seconds.

    `status` failed: the last attempt to process it failed for the reason in `error`. `chunk_count` is what the database
    holds of it.
    """

    hash: str
    original_filename: str
    size: int
    timestamp: float
    mime_type: str
    status: FileStatus
    processed: bool
    chunk_count: int
    parser: str | None
    error: str | None


class FileMetadata(msgspec.Struct, kw_only=True):
    """The same file under the names that other clients of this API read."""

    original_file_name: str
    resolved_file_name: str
    timestamp: float
    size: int
    mime_type: str
    hash: str
    processed: bool
    chunk_count: int


class DatasetDetails(msgspec.Struct, kw_only=True):
    """The files of a dataset, oldest first."""

    total_files: int
    total_size_bytes: int
    file_details: list[FileDetail]
    files_metadata: list[FileMetadata]


class Dataset(msgspec.Struct, kw_only=True):
    """A dataset; `files` are the hashes of its files. `details` is null where it was not asked for."""

    name: str
    database: str
    data_processing_strategy: str
    files: list[str]
    auto_process: bool
    details: DatasetDetails | None = None


class DatasetList(msgspec.Struct, kw_only=True):
    """The datasets of a project in the order of its file."""

    total: int
    datasets: list[Dataset]


class DatasetReply(msgspec.Struct, kw_only=True):
    """One dataset."""

    dataset: Dataset


class StrategyList(msgspec.Struct, kw_only=True):
    """What a dataset of the project may name."""

    data_processing_strategies: list[str]
    databases: list[str]


class DatasetCreate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new dataset. Without `data_processing_strategy` it is the built-in universal_rag, without `database` the default."""

    name: str
    data_processing_strategy: str | None = None
    database: str | None = None
    auto_process: bool | None = None


class UploadReply(msgspec.Struct, kw_only=True):
    """An uploaded file, stored for good.

    `skipped`: the dataset held these bytes already. `processed`: its chunks are in the database. `status` processing: the
    task `task_id` processes it now. In a bulk upload `status` error says in `error` why this one was not stored.
    """

    filename: str
    hash: str | None
    processed: bool
    skipped: bool
    status: Literal["uploaded", "skipped", "processing", "error"]
    task_id: str | None
    error: str | None = None


class BulkReply(msgspec.Struct, kw_only=True):
    """How many files were stored, were there already, and were refused; `files` in the order of the body."""

    uploaded: int
    skipped: int
    failed: int
    task_id: str | None
    status: Literal["uploaded", "processing", "error"]
    files: list[UploadReply]


class FileRemoved(msgspec.Struct, kw_only=True):
    """What went with a file."""

    file_hash: str
    deleted_chunks: int
    removed_from_disk: bool


class ActionRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to do with a dataset.

    process (or ingest): process every file that is not yet processed in just this way, or only `file_hash`.
    `parser_overrides` maps a parser type of the strategy to options that replace those of the strategy for this task.
    delete_file_chunks (needs `file_hash`) and delete_dataset_chunks: remove chunks, keep files.
    """

    action_type: Literal["process", "ingest", "delete_file_chunks", "delete_dataset_chunks"]
    file_hash: str | None = None
    parser_overrides: dict[str, dict[str, Json]] = {}


class ActionReply(msgspec.Struct, kw_only=True):
    """The task that does it, and where to ask for it."""

    message: str
    task_uri: str
    task_id: str


class ProcessDetail(msgspec.Struct, kw_only=True):
    """How one file went. `reason` says why it was skipped, `error` why it failed; `chunk_size` as the parser's options."""

    hash: str
    file_hash: str
    filename: str
    status: Literal["processed", "skipped", "failed", "pending", "cancelled"]
    parser: str | None = None
    extractors: list[str] = []
    chunks: int = 0
    chunk_size: int | None = None
    embedder: str | None = None
    error: str | None = None
    reason: str | None = None
    warnings: list[str] = []


class ProcessReply(msgspec.Struct, kw_only=True):
    """Counts of files, and each file. `task_id` names the task behind it."""

    message: str
    processed_files: int
    skipped_files: int
    failed_files: int
    strategy: str
    database: str
    details: list[ProcessDetail]
    task_id: str | None


class CleanupReply(msgspec.Struct, kw_only=True):
    """How many chunks were removed."""

    message: str
    deleted_count: int
    file_hash: str
    errors: list[str] | None


MISSING = (BadName, ProjectNotFound, ValidationFailed)


@endpoint("GET", "/v1/projects/{namespace}/{project}/datasets", access="read", tags=("mcp", "datasets"), raises=MISSING)
def dataset_list(ctx: Context, params: DatasetListPath) -> Awaitable[DatasetList]:
    """List the datasets of a project with their files."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets",
    access="write",
    tags=("mcp", "datasets"),
    raises=(*MISSING, DatabaseNotFound, StrategyNotFound, Conflict),
)
def dataset_create(ctx: Context, params: ProjectPath, data: DatasetCreate) -> Awaitable[DatasetReply]:
    """Add a dataset to the project. A name that exists is a conflict; an unknown database or strategy is a 404."""


@endpoint(
    "GET",
    "/v1/projects/{namespace}/{project}/datasets/strategies",
    access="read",
    tags=("mcp", "datasets"),
    raises=MISSING,
)
def dataset_strategies_list(ctx: Context, params: ProjectPath) -> Awaitable[StrategyList]:
    """List the processing strategies and databases that a dataset may name."""


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}",
    access="write",
    tags=("mcp", "datasets"),
    raises=(*MISSING, DatasetNotFound, ProviderUnavailable),
)
def dataset_delete(ctx: Context, params: DatasetPath) -> Awaitable[DatasetReply]:
    """Delete a dataset: its tasks are cancelled, its chunks and files removed, and the bytes that no other dataset of any
    project holds. Returns what it was."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/data",
    access="write",
    kind="upload",
    tags=("mcp", "datasets"),
    raises=(*MISSING, DatasetNotFound, TooLarge),
    body_limit=UPLOAD_LIMIT,
)
def dataset_data_upload(ctx: Context, params: UploadPath, data: Upload) -> Awaitable[UploadReply]:
    """Store one file (form field ``file``). It is stored whole and for good when the reply arrives, or not at all.

    Bytes that the dataset holds already are not stored again; the first upload's name stays.
    """


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/data/bulk",
    access="write",
    kind="upload",
    tags=("datasets",),
    raises=(*MISSING, DatasetNotFound),
    body_limit=UPLOAD_LIMIT,
)
def dataset_data_bulk_upload(ctx: Context, params: UploadPath, data: Upload) -> Awaitable[BulkReply]:
    """Store many files (form field ``files``). One that is too large is refused alone; the others are stored."""


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/data/{file_hash}",
    access="write",
    tags=("datasets",),
    raises=(*MISSING, DatasetNotFound, DatabaseNotFound, FileNotFound, ProviderUnavailable),
)
def dataset_data_delete(ctx: Context, params: FileRemove) -> Awaitable[FileRemoved]:
    """Remove a file and its chunks from the dataset. If it is being processed, that stops first."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/actions",
    access="write",
    tags=("mcp", "datasets"),
    raises=(*MISSING, DatasetNotFound, DatabaseNotFound, StrategyNotFound, FileNotFound),
)
def dataset_actions(ctx: Context, params: DatasetPath, data: ActionRequest) -> Awaitable[ActionReply]:
    """Start to process a dataset, or to remove chunks, as a task."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/process",
    access="write",
    tags=("datasets",),
    raises=(*MISSING, DatasetNotFound, DatabaseNotFound, StrategyNotFound),
)
def dataset_process(ctx: Context, params: ProcessPath) -> Awaitable[ProcessReply]:
    """Process a dataset and wait for the end (older form of the action ``process``)."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/process/cancel",
    access="write",
    tags=("datasets",),
    raises=(*MISSING, DatasetNotFound, TaskNotFound),
)
def dataset_process_cancel(ctx: Context, params: ProcessCancelPath) -> Awaitable[TaskCancelled]:
    """Cancel a task of this dataset; see `task_cancel`."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/datasets/{dataset}/cleanup/{file_hash}",
    access="write",
    tags=("datasets",),
    raises=(*MISSING, DatasetNotFound, DatabaseNotFound, FileNotFound, ProviderUnavailable),
)
def dataset_file_cleanup(ctx: Context, params: FilePath) -> Awaitable[CleanupReply]:
    """Remove a file's chunks from the database, also when the dataset no longer holds the file; the file stays."""
