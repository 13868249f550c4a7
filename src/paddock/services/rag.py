"""rag/query, rag/health, rag/stats and the list of documents."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from paddock.builtin.text_model import cut_tokens, estimate_tokens
from paddock.contracts.base import Context, Json, hookimpl
from paddock.contracts.config import ProjectConfig
from paddock.contracts.projects import ProjectPath
from paddock.contracts.providers import Health, Hit, Query
from paddock.contracts.rag import (
    ComponentHealth,
    DatabaseChoice,
    DocumentListPath,
    DocumentSummary,
    RagHealth,
    RagQuery,
    RagReply,
    RagResult,
    RagStats,
    Status,
)
from paddock.errors import FieldError, PaddockError, ValidationFailed
from paddock.plugins import look_at
from paddock.services.events import EventLog
from paddock.services.project_files import ProjectFiles
from paddock.services.retrieval import Retrieval, metric_named, rerank_model
from paddock.services.stores import OpenDatabase, Stores

_WORST = {"healthy": 0, "degraded": 1, "unhealthy": 2}
TOP_K = 5  # results of a query that does not say how many
STRATEGY_KEY = "data_processing_strategy"  # of a chunk's metadata, written by the ingest


class Rag:
    """Implements the queries of contracts/rag.py."""

    def __init__(self, files: ProjectFiles, retrieval: Retrieval, stores: Stores, events: EventLog) -> None:
        self._files = files
        self._retrieval = retrieval
        self._stores = stores
        self._events = events

    @hookimpl
    async def rag_query(self, ctx: Context, params: ProjectPath, data: RagQuery) -> RagReply:
        config = await self._files.config(params.namespace, params.project)
        if not data.query.strip():
            raise ValidationFailed.of([FieldError("query", "holds no text: write what to look for")])
        event = self._events.begin(params.namespace, params.project, "rag_query", ctx.request_id)
        event.sub("rag_query_start", database=data.database, query=data.query, top_k=data.top_k or TOP_K)
        start = time.perf_counter()
        try:
            query = Query(
                text=data.query,
                top_k=data.top_k or TOP_K,
                score_threshold=data.score_threshold,
                filters=filters_of(config, data),
                metric=metric_named(data.distance_metric),
                alpha=data.hybrid_alpha,
                rerank_model=rerank_model(config, data.rerank_model),
                expansion=data.query_expansion,
            )
            found = await self._retrieval.retrieve(config, data.database, data.retrieval_strategy, query)
        except BaseException as error:  # cancelled too: the client left
            event.fail(error)
            raise
        hits = within_budget(found.retrieved.hits, data.max_tokens)
        elapsed = (time.perf_counter() - start) * 1000
        event.sub("rag_retrieval_complete", chunks_retrieved=len(hits), strategy=found.strategy)
        event.finish(database=found.database, results=len(hits))
        return RagReply(
            query=data.query,
            results=[result(hit) for hit in hits],
            total_results=len(hits),
            processing_time_ms=round(elapsed, 3),
            retrieval_strategy_used=found.strategy,
            database_used=found.database,
            trace=found.retrieved.trace,
        )

    @hookimpl
    async def rag_health(self, ctx: Context, params: DatabaseChoice) -> RagHealth:
        config = await self._files.config(params.namespace, params.project)
        database = config.database(params.database)
        start = asked = time.perf_counter()
        parts: dict[str, ComponentHealth] = {}
        try:
            async with self._stores.using(params.namespace, params.project, database.name) as opened:
                stats = await opened.store.stats()
                message = f"{stats.chunks} chunks of {stats.documents} documents"
                parts["vector_store"] = _part("vector_store", "healthy", start, message)
                asked = time.perf_counter()
                look = await self._embedder_health(opened)
        except PaddockError as error:
            parts.setdefault("vector_store", _part("vector_store", "unhealthy", start, error.message))
            look = Health(status="unhealthy", message="not looked at: the store does not open")
        parts["embeddings"] = _part("embeddings", look.status, asked, look.message or "ready")
        issues = [f"{part.name}: {part.message}" for part in parts.values() if part.status != "healthy"]
        return RagHealth(
            status=max((part.status for part in parts.values()), key=_WORST.__getitem__),
            database=database.name,
            components=parts,
            last_check=iso(time.time()),
            issues=issues or None,
        )

    async def _embedder_health(self, opened: OpenDatabase) -> Health:
        try:
            bound = await opened.check_embedder()
        except PaddockError as error:
            return Health(status="unhealthy", message=error.message)
        return await look_at(bound.embedder)

    @hookimpl
    async def rag_stats(self, ctx: Context, params: DatabaseChoice) -> RagStats:
        config = await self._files.config(params.namespace, params.project)
        database = config.database(params.database)
        async with self._stores.using(params.namespace, params.project, database.name) as opened:
            stats = await opened.store.stats()
        bound = opened.embedder
        return RagStats(
            database=database.name,
            vector_count=stats.chunks,
            document_count=stats.documents,
            chunk_count=stats.chunks,
            storage_bytes=stats.size_bytes + stats.index_size_bytes,
            storage_human=human_size(stats.size_bytes + stats.index_size_bytes),
            collection_size_bytes=stats.size_bytes,
            index_size_bytes=stats.index_size_bytes,
            embedding_dimension=stats.dimension or (bound.embedder.dimension(bound.config) if bound else None),
            distance_metric=stats.metric,
            collection_name=str(stats.indexes.get("collection_name", database.name)),
            last_updated=iso(stats.last_updated) if stats.last_updated else None,
            metadata={"indexes": stats.indexes},
        )

    @hookimpl
    async def document_list(self, ctx: Context, params: DocumentListPath) -> list[DocumentSummary]:
        config = await self._files.config(params.namespace, params.project)
        database = config.database(params.database)
        async with self._stores.using(params.namespace, params.project, database.name) as opened:
            found = await opened.store.documents(params.limit, params.offset)
        return [
            DocumentSummary(
                id=item.file.file_hash,
                filename=item.file.filename,
                chunk_count=item.chunk_count,
                size_bytes=item.file.size,
                parser_used=item.file.parser,
                date_ingested=iso(item.file.ingested_at),
                metadata={**item.file.metadata, "source_dataset": item.file.dataset},
            )
            for item in found
        ]


def _part(name: str, status: Status, start: float, message: str) -> ComponentHealth:
    latency = (time.perf_counter() - start) * 1000
    return ComponentHealth(name=name, status=status, latency=latency, message=message)


def result(hit: Hit) -> RagResult:
    """A hit as the reply shows it."""
    return RagResult(
        content=hit.content, score=hit.score, metadata=hit.metadata, chunk_id=hit.chunk_id, document_id=hit.document_id
    )


def filters_of(config: ProjectConfig, data: RagQuery) -> dict[str, Json]:
    """The query's filters; `data_processing_strategy` is one of them. Raises StrategyNotFound."""
    filters = dict(data.metadata_filters or {})
    if data.data_processing_strategy is not None:
        filters[STRATEGY_KEY] = config.processing(data.data_processing_strategy).name
    return filters


def within_budget(hits: Sequence[Hit], tokens: int | None) -> list[Hit]:
    """Whole chunks until the budget, by the estimator of `paddock.builtin.text_model`; the first one is cut if needed."""
    if tokens is None:
        return list(hits)
    kept: list[Hit] = []
    for hit in hits:
        cost = estimate_tokens(hit.content)
        if not kept and cost > tokens:
            hit.content = cut_tokens(hit.content, tokens)
            cost = tokens
        if cost > tokens:
            break
        kept.append(hit)
        tokens -= cost
    return kept


def iso(seconds: float) -> str:
    """A time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def human_size(size: float) -> str:
    """Bytes for people: ``50 MB``."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
