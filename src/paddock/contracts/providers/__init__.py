"""What a plugin can provide: one small base class for each capability, and the hooks that hand them over.

Hooks return objects and do no I/O; objects do the work. A provider answers to one or more *type names* (the ``type:``
of a component in llamafarm.yaml, or the ``provider:`` of a model). Each name has its own config struct, because
LlamaFarm's names for the same thing have different keys and defaults.

Numbers: vectors are C-contiguous float32 arrays of shape ``(texts, dimension)``; scores are in [0, 1], higher is better;
offsets are in characters.
"""

from paddock.contracts.providers.base import Configured, Health, NoConfig, Provider, Sample, TypeName, timed_health
from paddock.contracts.providers.chat import (
    ChatCall,
    ChatModel,
    Freed,
    ModelFile,
    ModelInfo,
    ModelSource,
    Passage,
    Progress,
)
from paddock.contracts.providers.documents import (
    Chunk,
    Chunker,
    ChunkOptions,
    Document,
    Extractor,
    Page,
    Parser,
    Record,
    Section,
    Source,
    Table,
)
from paddock.contracts.providers.embedding import Embedder, Reranker, TextKind
from paddock.contracts.providers.outgoing import Environment, Host, HttpClient, HttpReply, HttpSocket, Records
from paddock.contracts.providers.retrieval import Query, RetrievalStrategy, RetrievalTools, Retrieved
from paddock.contracts.providers.serving import GatewayCall, InstanceCounts, ModelServer, Operation
from paddock.contracts.providers.store import (
    Filters,
    Hit,
    Metric,
    StoredChunk,
    StoredDocument,
    StoredFile,
    StoreStats,
    VectorStore,
    VectorStoreProvider,
)
from paddock.contracts.providers.tasks import ItemRunner, TaskQueue, TemplateSource
from paddock.contracts.providers.text import (
    Classified,
    Entity,
    EntityRecogniser,
    Imported,
    ModelImporter,
    TextClassifier,
)
from paddock.contracts.providers.vectors import Vectors

__all__ = [
    "ChatCall",
    "ChatModel",
    "Chunk",
    "ChunkOptions",
    "Chunker",
    "Classified",
    "Configured",
    "Document",
    "Embedder",
    "Entity",
    "EntityRecogniser",
    "Environment",
    "Extractor",
    "Filters",
    "Freed",
    "GatewayCall",
    "Health",
    "Hit",
    "Host",
    "HttpClient",
    "HttpReply",
    "HttpSocket",
    "Imported",
    "InstanceCounts",
    "ItemRunner",
    "Metric",
    "ModelFile",
    "ModelImporter",
    "ModelInfo",
    "ModelServer",
    "ModelSource",
    "NoConfig",
    "Operation",
    "Page",
    "Parser",
    "Passage",
    "Progress",
    "Provider",
    "Query",
    "Record",
    "Records",
    "Reranker",
    "RetrievalStrategy",
    "RetrievalTools",
    "Retrieved",
    "Sample",
    "Section",
    "Source",
    "StoreStats",
    "StoredChunk",
    "StoredDocument",
    "StoredFile",
    "Table",
    "TaskQueue",
    "TemplateSource",
    "TextClassifier",
    "TextKind",
    "TypeName",
    "VectorStore",
    "VectorStoreProvider",
    "Vectors",
    "timed_health",
]
