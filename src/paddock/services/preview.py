"""How a file would be cut, without storing anything."""

from __future__ import annotations

import asyncio
import base64
import binascii
import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from paddock.contracts.base import Context, hookimpl
from paddock.contracts.config import ProjectConfig
from paddock.contracts.providers import Chunk, Source
from paddock.contracts.rag import DatabasePath, PreviewChunk, PreviewReply, PreviewRequest
from paddock.errors import FieldError, UnknownType, ValidationFailed
from paddock.services.core import Core
from paddock.services.dataset_files import DatasetFiles, clean_filename
from paddock.services.ingest import ChunkChange, Ingest, Prepared
from paddock.services.project_files import ProjectFiles
from paddock.storage import is_hash

SHOWN = 2_000_000  # characters of the original text in one reply
MANY = 2_000  # chunks in one reply


class Preview:
    """Implements database_preview of contracts/rag.py."""

    def __init__(self, core: Core, files: ProjectFiles, rows: DatasetFiles, ingest: Ingest) -> None:
        self._core = core
        self._files = files
        self._rows = rows
        self._ingest = ingest

    @hookimpl
    async def database_preview(self, ctx: Context, params: DatabasePath, data: PreviewRequest) -> PreviewReply:
        config = await self._files.config(params.namespace, params.project)
        database = config.database(params.database)
        strategy = config.processing(data.data_processing_strategy or self._strategy_of(config, data))
        change = ChunkChange(size=data.chunk_size, overlap=data.chunk_overlap, strategy=data.chunk_strategy)
        chunkers = self._core.plugins.chunkers
        if data.chunk_strategy is not None and chunkers.get(data.chunk_strategy) is None:
            raise UnknownType.of([FieldError("chunk_strategy", chunkers.unknown(data.chunk_strategy))])
        if data.chunk_overlap is not None and data.chunk_size is not None and data.chunk_overlap >= data.chunk_size:
            raise ValidationFailed.of([FieldError("chunk_overlap", "must be smaller than chunk_size")])
        async with self._source(params, data) as source:
            prepared = await self._ingest.preview(source, strategy, database.name, change)
        return reply_of(source, prepared)

    def _strategy_of(self, config: ProjectConfig, data: PreviewRequest) -> str | None:
        return config.dataset(data.dataset_id).data_processing_strategy if data.dataset_id else None

    @asynccontextmanager
    async def _source(self, params: DatabasePath, data: PreviewRequest) -> AsyncIterator[Source]:
        if data.file_content is not None:
            if data.file_hash is not None or data.filename is None:
                raise ValidationFailed.of([FieldError("file_content", "needs filename, and goes without file_hash")])
            with TemporaryDirectory(prefix="paddock-preview-") as folder:
                yield await asyncio.to_thread(written, Path(folder), data.file_content, data.filename)
            return
        if data.dataset_id is None or data.file_hash is None or not is_hash(data.file_hash):
            raise ValidationFailed.of(
                [
                    FieldError(
                        "file_hash",
                        "name dataset_id and the sha256 of one of its files, or send file_content with filename",
                    )
                ]
            )
        row = await self._rows.get(params.namespace, params.project, data.dataset_id, data.file_hash)
        path = self._core.blobs.path(row.hash)
        yield Source(path=path, filename=row.filename, mime=row.mime, size=row.size, sha256=row.hash)


def written(folder: Path, content: str, filename: str) -> Source:
    """The content as a file that a parser can read. Raises ValidationFailed for what is not base64."""
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValidationFailed.of([FieldError("file_content", f"not base64: {error}")]) from error
    path = folder / "file"
    path.write_bytes(data)
    mime = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    return Source(path=path, filename=clean_filename(filename), mime=mime, size=len(data), sha256="")


def reply_of(source: Source, prepared: Prepared) -> PreviewReply:
    """The reply; long texts are cut with a warning."""
    chunks, text = prepared.chunks, prepared.document.text
    warnings = list(prepared.warnings)
    if len(text) > SHOWN or len(chunks) > MANY:
        warnings.append(f"only the first {SHOWN} characters and {MANY} chunks are shown")
    sizes = [len(chunk.text) for chunk in chunks]
    overlaps = [
        max(0, before.end - after.start)
        for before, after in pairwise(chunks)
        if before.end is not None and after.start is not None
    ]
    return PreviewReply(
        original_text=text[:SHOWN],
        chunks=[shown(number, chunk) for number, chunk in enumerate(chunks[:MANY])],
        filename=source.filename,
        size_bytes=source.size,
        content_type=source.mime,
        parser_used=prepared.parser,
        chunk_strategy=prepared.options.strategy,
        chunk_size=prepared.options.size,
        chunk_overlap=prepared.options.overlap,
        total_chunks=len(chunks),
        avg_chunk_size=round(sum(sizes) / len(sizes), 1) if sizes else 0.0,
        total_size_with_overlaps=sum(sizes),
        avg_overlap_size=round(sum(overlaps) / len(overlaps), 1) if overlaps else 0.0,
        warnings=warnings,
    )


def shown(number: int, chunk: Chunk) -> PreviewChunk:
    """A chunk as the reply shows it."""
    metadata = {**chunk.metadata, **({"page": chunk.page} if chunk.page is not None else {})}
    return PreviewChunk(
        chunk_index=number,
        content=chunk.text,
        start_position=chunk.start,
        end_position=chunk.end,
        char_count=len(chunk.text),
        word_count=len(chunk.text.split()),
        metadata=msgspec.to_builtins(metadata),
    )
