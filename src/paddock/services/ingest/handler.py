"""The task that processes the files of a dataset: one item for each file.

A file's chunks enter the database in one transaction of the store, which carries the item's token; then the item and the
file's row change in one transaction of the state database. A server that dies between the two finds the token at the next
start, and does not process the file again.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import msgspec

from paddock.contracts.config import ProcessingStrategyConfig
from paddock.contracts.datasets import ProcessDetail, ProcessReply
from paddock.contracts.providers import Source, StoredChunk, StoredFile, Vectors
from paddock.errors import PaddockError, ProviderUnavailable, ValidationFailed
from paddock.services.core import Core
from paddock.services.dataset_files import DatasetFiles, FileKey, FileRow, set_failed, set_processed, set_unprocessed
from paddock.services.events import EventLog
from paddock.services.ingest.budget import Budget
from paddock.services.ingest.embedding import EmbeddingQueue
from paddock.services.ingest.plan import Plan, Planner, document_type
from paddock.services.ingest.prepare import ChunkChange, Prepared, plain, prepare
from paddock.services.keyed_locks import KeyedLocks
from paddock.services.project_files import ProjectFiles
from paddock.services.stores import BoundEmbedder, Stores
from paddock.services.tasks import Item, Outcome, Payload, Revert, Task, TaskHandler, item_status, uninterrupted
from paddock.services.vision.ocr import Ocr, ThreadReader
from paddock.storage import Connection

T = TypeVar("T")
IN_MEMORY = 256 * 1024 * 1024  # bytes of the files that are processed at once; a larger file is processed alone
KIND = "process"


class Ingest:
    """What processing needs, shared with the preview: the thread pool, the planner, the embedding queue, the locks."""

    def __init__(self, core: Core, files: ProjectFiles, stores: Stores, rows: DatasetFiles, events: EventLog) -> None:
        self.core = core
        self.files = files
        self.stores = stores
        self.rows = rows
        self.events = events
        self.planner = Planner(core.plugins)
        self.embedding = EmbeddingQueue()
        self._ocr = Ocr(core)
        self.locks = KeyedLocks()  # one for each file of a dataset: whoever changes its chunks holds it
        self.budget = Budget(IN_MEMORY)
        self._pool = ThreadPoolExecutor(core.settings.tasks.workers, thread_name_prefix="parse")

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run `work` in one of the parser threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def readable(self, source: Source) -> Source:
        """The file with the means to read text in its pictures."""
        return msgspec.structs.replace(source, ocr=ThreadReader(self._ocr, asyncio.get_running_loop()))

    async def preview(
        self, source: Source, strategy: ProcessingStrategyConfig, database: str | None, change: ChunkChange
    ) -> Prepared:
        """Parse and cut a file without storing anything. Raises ValidationFailed, ProviderUnavailable."""
        plan = self.planner.plan(source.filename, source.mime, strategy, database)
        async with self.budget.taking(source.size):
            return await self.in_thread(partial(prepare, self.readable(source), plan, self.core.plugins, change))

    async def close(self) -> None:
        """Stop the threads; a file that is being parsed is not waited for."""
        await self.embedding.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Work(msgspec.Struct):
    """One file on its way: what it is, what to do with it, and the name of that way."""

    row: FileRow
    plan: Plan
    database: str
    embedder: BoundEmbedder
    processed_as: str
    token: str


class ProcessHandler(TaskHandler):
    """Payload: strategy, database, overrides. Item payload: hash; dataset and strategy where they are not the task's."""

    kind = KIND

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._rows = ingest.rows

    async def run_item(self, task: Task, item: Item) -> Outcome:
        """Process one file, or find out that it was done in just this way before."""
        key = _key(task, item)
        async with self._ingest.locks.holding(*key):
            row = await self._rows.find(*key)
            if row is None:
                return _skipped(item, "removed", None)
            work = await self._begin(task, item, row)
            if await self._is_done(work):
                return _skipped(item, "duplicate", row)
            return await self._logged(task, work)

    async def _begin(self, task: Task, item: Item, row: FileRow) -> _Work:
        config = await self._ingest.files.config(task.namespace, task.project)
        strategy = config.processing(item.payload.get("strategy") or task.payload["strategy"])
        plan = self._ingest.planner.plan(
            row.filename, row.mime, strategy, task.payload["database"], task.payload.get("overrides")
        )
        embedder = self._ingest.stores.bind(config.database(task.payload["database"]))
        if embedder is None:
            raise ValidationFailed(
                f"database {task.payload['database']} has no embedding strategy: add one under embedding_strategies"
            )
        processed_as = plan.fingerprint(embedder.fingerprint)
        return _Work(row, plan, task.payload["database"], embedder, processed_as, f"{item.token}:{processed_as}")

    async def _is_done(self, work: _Work) -> bool:
        row = work.row
        if row.processed_as != work.processed_as:
            return False
        async with self._ingest.stores.using(row.namespace, row.project, work.database) as opened:
            found = await opened.store.find_file(row.dataset, row.hash)
        return found is not None and found.file.token == row.token

    async def _logged(self, task: Task, work: _Work) -> Outcome:
        event = self._ingest.events.begin(task.namespace, task.project, "rag_processing", task.id)
        event.sub(
            "file_begin", filename=work.row.filename, hash=work.row.hash, size=work.row.size, dataset=work.row.dataset
        )
        try:
            outcome = await self._process(work, event.sub)
        except (Exception, asyncio.CancelledError) as error:
            event.fail("cancelled" if isinstance(error, asyncio.CancelledError) else error)
            raise
        event.finish(chunks=outcome.stored)
        return outcome

    async def _process(self, work: _Work, note: Callable[..., None]) -> Outcome:
        row = work.row
        async with self._ingest.budget.taking(row.size):
            async with self._ingest.stores.filling(row.namespace, row.project, work.database):
                pass  # a database that can't take these vectors is told before the work
            source = self._ingest.readable(self._rows.source(row))
            prepared = await self._ingest.in_thread(partial(prepare, source, work.plan, self._ingest.core.plugins))
            note("parse_complete", parser=prepared.parser, chunks=len(prepared.chunks), warnings=prepared.warnings)
            vectors = await self._ingest.embedding.embed(work.embedder, [chunk.text for chunk in prepared.chunks])
            note("embed_complete", embedder=work.embedder.name)
            await self._store(work, prepared, vectors)
            note("store_complete", database=work.database)
        return self._outcome(work, prepared.parser, len(prepared.chunks), prepared)

    async def _store(self, work: _Work, prepared: Prepared, vectors: Vectors) -> None:
        file, chunks = await self._ingest.in_thread(partial(stored_forms, work, prepared))
        async with self._ingest.stores.filling(work.row.namespace, work.row.project, work.database) as (
            opened,
            embedder,
        ):
            if embedder.fingerprint != work.embedder.fingerprint:
                raise ProviderUnavailable(f"the embedder of database {work.database} changed meanwhile: trying again")
            await uninterrupted(opened.store.replace(file, chunks, vectors))

    def _outcome(self, work: _Work, parser: str, chunks: int, prepared: Prepared | None) -> Outcome:
        detail = ProcessDetail(
            hash=work.row.hash,
            file_hash=work.row.hash,
            filename=work.row.filename,
            status="processed",
            parser=parser,
            extractors=[step.type for step in work.plan.extractors],
            chunks=chunks,
            chunk_size=prepared.options.size if prepared else None,
            embedder=work.embedder.name,
            warnings=prepared.warnings if prepared else [],
        )

        def commit(connection: Connection) -> None:
            set_processed(
                connection, work.row.key, processed_as=work.processed_as, token=work.token, parser=parser, chunks=chunks
            )

        return Outcome(result=msgspec.to_builtins(detail), stored=chunks, commit=commit)

    async def recall(self, task: Task, item: Item) -> Outcome | None:
        """The outcome of a file whose chunks are in the store already, under this item's token."""
        key = _key(task, item)
        async with self._ingest.locks.holding(*key):
            row = await self._rows.find(*key)
            if row is None:
                return None
            try:
                async with self._ingest.stores.using(task.namespace, task.project, task.payload["database"]) as opened:
                    found = await opened.store.find_file(row.dataset, row.hash)
                if found is None or not _is_of(item, found.file.token):
                    return None
                work = await self._begin(task, item, row)
            except PaddockError:
                return None  # run_item meets it again and reports it
            work.token = found.file.token
            work.processed_as = found.file.token.rpartition(":")[2]
            return self._outcome(work, found.file.parser, found.chunk_count, None)

    async def revert(self, task: Task, item: Item) -> Revert:
        """Remove the file's chunks if this item put them there."""
        key = _key(task, item)
        async with (
            self._ingest.locks.holding(*key),
            self._ingest.stores.using(task.namespace, task.project, task.payload["database"]) as opened,
        ):
            found = await opened.store.find_file(key[2], key[3])
            if found is None or not _is_of(item, found.file.token):
                return Revert(removed=False)
            await opened.store.delete(key[2], key[3])
        return Revert(removed=True, commit=partial(set_unprocessed, key=key))

    def failed(self, task: Task, item: Item, message: str) -> Callable[[Connection], None]:
        """The file's row says why."""
        return partial(set_failed, key=_key(task, item), message=message)

    def result(self, task: Task, items: Sequence[Item]) -> Payload:
        """The fields of `ProcessReply`, and the sums of chunks."""
        details = [_detail(item) for item in items]
        count = [detail.status for detail in details].count
        reply = ProcessReply(
            message=f"{count('processed')} processed, {count('skipped')} skipped, {count('failed')} failed",
            processed_files=count("processed"),
            skipped_files=count("skipped"),
            failed_files=count("failed"),
            strategy=task.payload["strategy"],
            database=task.payload["database"],
            details=details,
            task_id=task.id,
        )
        sums = {
            "stored_count": sum(item.stored for item in items),
            "skipped_count": sum(item.skipped for item in items),
        }
        return {**msgspec.to_builtins(reply), **sums}


def _key(task: Task, item: Item) -> FileKey:
    dataset = item.payload.get("dataset") or task.dataset
    assert dataset is not None
    return task.namespace, task.project, dataset, item.payload["hash"]


def _is_of(item: Item, token: str) -> bool:
    return token.startswith(f"{item.token}:")


def _detail(item: Item) -> ProcessDetail:
    if item.result is not None:
        known = msgspec.convert(item.result, ProcessDetail)
        return known if item.state == "success" else msgspec.structs.replace(known, status=item_status(item), chunks=0)
    file_hash = item.payload["hash"]
    return ProcessDetail(
        hash=file_hash, file_hash=file_hash, filename=item.label, status=item_status(item), error=item.error
    )


def _skipped(item: Item, reason: str, row: FileRow | None) -> Outcome:
    file_hash: str = item.payload["hash"]
    chunks = row.chunks if row else 0
    detail = ProcessDetail(
        hash=file_hash,
        file_hash=file_hash,
        filename=item.label,
        status="skipped",
        parser=row.parser if row else None,
        chunks=chunks,
        reason=reason,
    )
    return Outcome(result=msgspec.to_builtins(detail), skipped=chunks)


def stored_forms(work: _Work, prepared: Prepared) -> tuple[StoredFile, list[StoredChunk]]:
    """File and chunks as the store takes them. Chunk ids depend on dataset, file and index alone."""
    row = work.row
    file = StoredFile(
        file_hash=row.hash,
        dataset=row.dataset,
        filename=row.filename,
        size=row.size,
        parser=prepared.parser,
        token=work.token,
        ingested_at=time.time(),
        metadata=plain(prepared.document.metadata),
    )
    common: dict[str, Any] = {
        "document_type": document_type(row.filename),
        "file_hash": row.hash,
        "parser": prepared.parser,
        "data_processing_strategy": work.plan.strategy,
    }
    seed = hashlib.sha256(f"{row.dataset}\0{row.hash}".encode()).hexdigest()[:24]
    return file, [
        StoredChunk(
            chunk_id=f"{seed}-{index}",
            index=index,
            text=chunk.text,
            page=chunk.page,
            metadata={**chunk.metadata, **common},
        )
        for index, chunk in enumerate(prepared.chunks)
    ]
