"""Datasets and files as callers see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from paddock.contracts.config import DatasetConfig
from paddock.contracts.datasets import Dataset, DatasetDetails, FileDetail, FileMetadata, FileStatus
from paddock.services.dataset_files import FileRow


def shown(dataset: DatasetConfig, rows: Sequence[FileRow], *, details: bool) -> Dataset:
    """A dataset with its files."""
    return Dataset(
        name=dataset.name,
        database=dataset.database,
        data_processing_strategy=dataset.data_processing_strategy,
        files=[row.hash for row in rows],
        auto_process=bool(dataset.auto_process),
        details=_details(rows) if details else None,
    )


def _details(rows: Sequence[FileRow]) -> DatasetDetails:
    return DatasetDetails(
        total_files=len(rows),
        total_size_bytes=sum(row.size for row in rows),
        file_details=[_detail(row) for row in rows],
        files_metadata=[_metadata(row) for row in rows],
    )


def _status(row: FileRow) -> FileStatus:
    if row.error is not None:
        return "failed"
    return "uploaded" if row.processed_as is None else "processed"


def _detail(row: FileRow) -> FileDetail:
    return FileDetail(
        hash=row.hash,
        original_filename=row.filename,
        size=row.size,
        timestamp=row.uploaded,
        mime_type=row.mime,
        status=_status(row),
        processed=row.processed_as is not None,
        chunk_count=row.chunks,
        parser=row.parser,
        error=row.error,
    )


def _metadata(row: FileRow) -> FileMetadata:
    name = PurePosixPath(row.filename)
    return FileMetadata(
        original_file_name=row.filename,
        resolved_file_name=f"{name.stem}_{row.uploaded:.6f}{name.suffix}",
        timestamp=row.uploaded,
        size=row.size,
        mime_type=row.mime,
        hash=row.hash,
        processed=row.processed_as is not None,
        chunk_count=row.chunks,
    )
