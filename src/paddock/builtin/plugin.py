"""The core as its own first plugin: what it provides goes through the same hooks as a stranger's.

The hooks import what they hand over when they are called, so that loading stays free of what is not used.
"""

from __future__ import annotations

from collections.abc import Sequence

from paddock.builtin.chunkers import builtin_chunkers
from paddock.builtin.embedding_server import CoreServer
from paddock.builtin.extractive import ExtractiveModel
from paddock.builtin.extractors import builtin_extractors
from paddock.builtin.hashing import HashingEmbedder
from paddock.builtin.parsers import builtin_parsers
from paddock.builtin.queue import InProcessQueue
from paddock.builtin.retrieval import builtin_strategies
from paddock.builtin.templates import FolderTemplates, template_folders
from paddock.builtin.upstreams import upstream_servers
from paddock.contracts.base import hookimpl
from paddock.contracts.providers import (
    ChatModel,
    Chunker,
    Embedder,
    Environment,
    Extractor,
    ModelServer,
    Parser,
    RetrievalStrategy,
    TaskQueue,
    TemplateSource,
)


class BuiltIn:
    """Its section of the settings is all of them: `env.settings` is the whole Settings."""

    @hookimpl
    def paddock_chat_models(self) -> Sequence[ChatModel]:
        return [ExtractiveModel()]

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        return [CoreServer(), *upstream_servers(env.http, env.settings.gateway)]

    @hookimpl
    def paddock_embedders(self) -> Sequence[Embedder]:
        return [HashingEmbedder()]

    @hookimpl
    def paddock_parsers(self) -> Sequence[Parser]:
        return builtin_parsers()

    @hookimpl
    def paddock_chunkers(self) -> Sequence[Chunker]:
        return builtin_chunkers()

    @hookimpl
    def paddock_extractors(self) -> Sequence[Extractor]:
        return builtin_extractors()

    @hookimpl
    def paddock_retrieval_strategies(self) -> Sequence[RetrievalStrategy]:
        return builtin_strategies()

    @hookimpl
    def paddock_task_queues(self, env: Environment) -> Sequence[TaskQueue]:
        return [InProcessQueue(env.settings.tasks.workers, env.settings.tasks.max_waiting)]

    @hookimpl
    def paddock_template_sources(self, env: Environment) -> Sequence[TemplateSource]:
        return [FolderTemplates(template_folders(env.settings))]
