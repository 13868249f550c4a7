"""Retrieval: queries, databases, documents, previews, health and statistics."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Json, Name, endpoint
from paddock.contracts.config import EmbeddingStrategyConfig, RetrievalStrategyConfig
from paddock.contracts.projects import ProjectPath
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    DatabaseNotFound,
    DatasetNotFound,
    FileNotFound,
    ProjectNotFound,
    ProviderUnavailable,
    StrategyNotFound,
    ValidationFailed,
)

Status = Literal["healthy", "degraded", "unhealthy"]
UNSET = msgspec.UNSET


class DatabasePath(ProjectPath, frozen=True, kw_only=True):
    """A database of a project."""

    database: Name


class DatabaseDelete(ProjectPath, frozen=True, kw_only=True):
    """A database; with `delete_collection` false its vectors stay on disk."""

    database: Name
    delete_collection: bool = True


class DatabaseChoice(ProjectPath, frozen=True, kw_only=True):
    """A database of a project, or its default one."""

    database: str | None = None


class DocumentListPath(ProjectPath, frozen=True, kw_only=True):
    """A page of a database's documents."""

    database: Name
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    offset: Annotated[int, msgspec.Meta(ge=0, le=2**31)] = 0


class RagQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question to a database.

    `retrieval_strategy` is the name of one of the database's strategies, else a short name (semantic, bm25, hybrid) or a
    strategy's type name. `metadata_filters` maps a key to a value, a list of values, or ``{"gte" | "lte" | "gt" | "lt" |
    "ne": value}``. `hybrid_alpha` is the weight of the vectors in hybrid search. `max_tokens` bounds the text of all
    results: whole chunks until the budget, the first one cut. Without `top_k` there are at most five results.
    """

    query: Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]
    database: str | None = None
    top_k: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    score_threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    retrieval_strategy: str | None = None
    metadata_filters: dict[str, Json] | None = None
    distance_metric: str | None = None
    hybrid_alpha: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    rerank_model: str | None = None
    query_expansion: bool | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    data_processing_strategy: str | None = None


class RagResult(msgspec.Struct, kw_only=True):
    """A chunk found; score in [0, 1], higher is better; `document_id` is the file's sha256."""

    content: str
    score: float
    metadata: dict[str, Json]
    chunk_id: str
    document_id: str


class RagReply(msgspec.Struct, kw_only=True):
    """What was found, best first, what ran, and how long it took in milliseconds. `trace` is for people and tests."""

    query: str
    results: list[RagResult]
    total_results: int
    processing_time_ms: float
    retrieval_strategy_used: str
    database_used: str
    trace: dict[str, Json]


class EmbeddingSummary(msgspec.Struct, kw_only=True):
    """An embedding strategy in a list."""

    name: str
    type: str
    priority: int
    is_default: bool


class RetrievalSummary(msgspec.Struct, kw_only=True):
    """A retrieval strategy in a list."""

    name: str
    type: str
    is_default: bool


class DatabaseSummary(msgspec.Struct, kw_only=True):
    """A database in a list."""

    name: str
    type: str
    is_default: bool
    embedding_strategies: list[EmbeddingSummary]
    retrieval_strategies: list[RetrievalSummary]


class DatabaseList(msgspec.Struct, kw_only=True):
    """The databases of a project."""

    databases: list[DatabaseSummary]
    default_database: str | None


class DatabaseCreate(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A new database, as it will stand in llamafarm.yaml."""

    name: str
    type: str
    config: dict[str, Json] = {}
    embedding_strategies: list[EmbeddingStrategyConfig] = []
    retrieval_strategies: list[RetrievalStrategyConfig] = []
    default_embedding_strategy: str | None = None
    default_retrieval_strategy: str | None = None


class DatabaseCreated(msgspec.Struct, kw_only=True):
    """The new database."""

    database: DatabaseSummary


class DatabaseUpdate(msgspec.Struct, kw_only=True):
    """The fields to change; `name` and `type` are immutable. An absent field stays as it is, a given one replaces the whole
    of what stood there (`config` too). `reembed` lets a database that holds chunks change its embedder: they go, and its files
    are processed anew as a task."""

    config: dict[str, Json] | msgspec.UnsetType = UNSET
    embedding_strategies: list[EmbeddingStrategyConfig] | msgspec.UnsetType = UNSET
    retrieval_strategies: list[RetrievalStrategyConfig] | msgspec.UnsetType = UNSET
    default_embedding_strategy: str | msgspec.UnsetType | None = UNSET
    default_retrieval_strategy: str | msgspec.UnsetType | None = UNSET
    name: str | msgspec.UnsetType = UNSET
    type: str | msgspec.UnsetType = UNSET
    reembed: bool = False


class DatabaseDetail(msgspec.Struct, kw_only=True):
    """A database with its configuration and the datasets that need it."""

    name: str
    type: str
    config: dict[str, Json]
    embedding_strategies: list[EmbeddingStrategyConfig]
    retrieval_strategies: list[RetrievalStrategyConfig]
    default_embedding_strategy: str | None
    default_retrieval_strategy: str | None
    dependent_datasets: list[str]
    task_id: str | None = None


class DatabaseDeleted(msgspec.Struct, kw_only=True):
    """The database that went."""

    message: str
    database: DatabaseDetail
    collection_deleted: bool


class DocumentSummary(msgspec.Struct, kw_only=True):
    """A file in a database; `id` is its sha256, `date_ingested` ISO 8601 in UTC."""

    id: str
    filename: str
    chunk_count: int
    size_bytes: int
    parser_used: str
    date_ingested: str
    metadata: dict[str, Json] | None


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to cut, without storing it: a file of a dataset (`dataset_id`, `file_hash`), or content in base64 with a name.

    The chunk fields override the parser's own configuration.
    """

    dataset_id: str | None = None
    file_hash: str | None = None
    file_content: str | None = None
    filename: str | None = None
    data_processing_strategy: str | None = None
    chunk_size: Annotated[int, msgspec.Meta(ge=1, le=50_000)] | None = None
    chunk_overlap: Annotated[int, msgspec.Meta(ge=0, le=5000)] | None = None
    chunk_strategy: str | None = None


class PreviewChunk(msgspec.Struct, kw_only=True):
    """One chunk; positions in characters of `original_text`, null for rows of tables."""

    chunk_index: int
    content: str
    start_position: int | None
    end_position: int | None
    char_count: int
    word_count: int
    metadata: dict[str, Json]


class PreviewReply(msgspec.Struct, kw_only=True):
    """How the file would be cut. Sizes in characters."""

    original_text: str
    chunks: list[PreviewChunk]
    filename: str
    size_bytes: int
    content_type: str
    parser_used: str
    chunk_strategy: str
    chunk_size: int
    chunk_overlap: int
    total_chunks: int
    avg_chunk_size: float
    total_size_with_overlaps: int
    avg_overlap_size: float
    warnings: list[str]


class ComponentHealth(msgspec.Struct, kw_only=True):
    """One part; latency in milliseconds."""

    name: str
    status: Status
    latency: float | None
    message: str | None


class RagHealth(msgspec.Struct, kw_only=True):
    """The health of a database; `last_check` is ISO 8601 in UTC."""

    status: Status
    database: str
    components: dict[str, ComponentHealth]
    last_check: str
    issues: list[str] | None


class RagStats(msgspec.Struct, kw_only=True):
    """Counts and sizes of a database; sizes in bytes, `last_updated` ISO 8601 in UTC or null while empty."""

    database: str
    vector_count: int
    document_count: int
    chunk_count: int
    storage_bytes: int
    storage_human: str
    collection_size_bytes: int
    index_size_bytes: int
    embedding_dimension: int | None
    distance_metric: str
    collection_name: str
    last_updated: str | None
    metadata: dict[str, Json]


MISSING = (ProjectNotFound, DatabaseNotFound, BadName)


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/rag/query",
    access="read",
    tags=("mcp",),
    raises=(*MISSING, StrategyNotFound, BadRequest, Conflict, ProviderUnavailable),
)
def rag_query(ctx: Context, params: ProjectPath, data: RagQuery) -> Awaitable[RagReply]:
    """Find the chunks of a database that answer a question."""


@endpoint("GET", "/v1/projects/{namespace}/{project}/rag/health", access="read", raises=MISSING)
def rag_health(ctx: Context, params: DatabaseChoice) -> Awaitable[RagHealth]:
    """Look whether a database and its embedder work."""


@endpoint("GET", "/v1/projects/{namespace}/{project}/rag/stats", access="read", raises=MISSING)
def rag_stats(ctx: Context, params: DatabaseChoice) -> Awaitable[RagStats]:
    """Count what a database holds."""


@endpoint("GET", "/v1/projects/{namespace}/{project}/rag/databases", access="read", raises=(ProjectNotFound, BadName))
def database_list(ctx: Context, params: ProjectPath) -> Awaitable[DatabaseList]:
    """List the project's databases with their strategies."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/rag/databases",
    access="write",
    status=201,
    tags=("mcp",),
    raises=(ProjectNotFound, BadName, Conflict, ValidationFailed),
)
def database_create(ctx: Context, params: ProjectPath, data: DatabaseCreate) -> Awaitable[DatabaseCreated]:
    """Add a database to the project's configuration. A name that exists is a conflict."""


@endpoint(
    "GET", "/v1/projects/{namespace}/{project}/rag/databases/{database}", access="read", tags=("mcp",), raises=MISSING
)
def database_get(ctx: Context, params: DatabasePath) -> Awaitable[DatabaseDetail]:
    """Return a database's configuration and the datasets that need it."""


@endpoint(
    "PATCH",
    "/v1/projects/{namespace}/{project}/rag/databases/{database}",
    access="write",
    tags=("mcp",),
    raises=(*MISSING, BadRequest, Conflict, ValidationFailed),
)
def database_update(ctx: Context, params: DatabasePath, data: DatabaseUpdate) -> Awaitable[DatabaseDetail]:
    """Change a database's configuration. A changed metric of a filled database is carried out by the task that
    `task_id` names; a changed embedder of a filled database is a conflict."""


@endpoint(
    "DELETE",
    "/v1/projects/{namespace}/{project}/rag/databases/{database}",
    access="write",
    tags=("mcp",),
    raises=(*MISSING, Conflict),
)
def database_delete(ctx: Context, params: DatabaseDelete) -> Awaitable[DatabaseDeleted]:
    """Delete a database. A conflict while datasets depend on it."""


@endpoint("GET", "/v1/projects/{namespace}/{project}/rag/databases/{database}/documents", access="read", raises=MISSING)
def document_list(ctx: Context, params: DocumentListPath) -> Awaitable[list[DocumentSummary]]:
    """List the files in a database, the newest first."""


@endpoint(
    "POST",
    "/v1/projects/{namespace}/{project}/rag/databases/{database}/preview",
    access="read",
    raises=(*MISSING, DatasetNotFound, FileNotFound, StrategyNotFound, ValidationFailed),
)
def database_preview(ctx: Context, params: DatabasePath, data: PreviewRequest) -> Awaitable[PreviewReply]:
    """Show how a file would be cut into chunks; nothing is stored."""
