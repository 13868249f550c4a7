"""The hooks through which a plugin hands over what it provides."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import Service, hookspec
from paddock.contracts.providers.chat import ChatModel, ModelSource
from paddock.contracts.providers.documents import Chunker, Extractor, Parser
from paddock.contracts.providers.embedding import Embedder, Reranker
from paddock.contracts.providers.outgoing import Environment
from paddock.contracts.providers.retrieval import RetrievalStrategy
from paddock.contracts.providers.serving import ModelServer
from paddock.contracts.providers.store import VectorStoreProvider
from paddock.contracts.providers.tasks import TaskQueue, TemplateSource
from paddock.contracts.providers.text import EntityRecogniser, ModelImporter, TextClassifier
from paddock.contracts.providers.vision import DocumentExtractor, OcrEngine, PageRenderer


@hookspec
def paddock_settings() -> tuple[str, type[msgspec.Struct]]:
    """Declare the plugin's section of the settings: its name and a frozen struct whose fields all have defaults."""


@hookspec
def paddock_chat_models(env: Environment) -> Sequence[ChatModel]:
    """Chat providers."""


@hookspec
def paddock_model_sources(env: Environment) -> Sequence[ModelSource]:
    """Catalogues and downloads."""


@hookspec
def paddock_model_servers(env: Environment) -> Sequence[ModelServer]:
    """Servers of models that the gateway under /v1 passes requests to."""


@hookspec
def paddock_embedders(env: Environment) -> Sequence[Embedder]:
    """Embedders."""


@hookspec
def paddock_rerankers(env: Environment) -> Sequence[Reranker]:
    """Rerankers."""


@hookspec
def paddock_text_classifiers(env: Environment) -> Sequence[TextClassifier]:
    """Classifiers of texts."""


@hookspec
def paddock_entity_recognisers(env: Environment) -> Sequence[EntityRecogniser]:
    """Recognisers of entities."""


@hookspec
def paddock_model_importers(env: Environment) -> Sequence[ModelImporter]:
    """What takes model folders into the cache."""


@hookspec
def paddock_parsers(env: Environment) -> Sequence[Parser]:
    """Parsers."""


@hookspec
def paddock_chunkers(env: Environment) -> Sequence[Chunker]:
    """Chunkers."""


@hookspec
def paddock_extractors(env: Environment) -> Sequence[Extractor]:
    """Metadata extractors."""


@hookspec
def paddock_vector_stores(env: Environment) -> Sequence[VectorStoreProvider]:
    """Vector stores."""


@hookspec
def paddock_retrieval_strategies(env: Environment) -> Sequence[RetrievalStrategy]:
    """Retrieval strategies."""


@hookspec
def paddock_task_queues(env: Environment) -> Sequence[TaskQueue]:
    """Task queues; the setting ``tasks.queue`` names the one in use."""


@hookspec
def paddock_template_sources(env: Environment) -> Sequence[TemplateSource]:
    """Project templates."""


@hookspec
def paddock_page_renderers(env: Environment) -> Sequence[PageRenderer]:
    """What turns files into pictures of their pages; the first one is used."""


@hookspec
def paddock_ocr_engines(env: Environment) -> Sequence[OcrEngine]:
    """OCR engines, the best first."""


@hookspec
def paddock_document_extractors(env: Environment) -> Sequence[DocumentExtractor]:
    """Document extractors."""


@hookspec
def paddock_services(env: Environment) -> Sequence[Service]:
    """Implementations of endpoints, made for one application."""
