"""Finding chunks: which strategy runs, and the tools that it gets. Used by rag/query and by chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.config import DatabaseConfig, ModelConfig, ProjectConfig
from paddock.contracts.providers import (
    ChatCall,
    Metric,
    Query,
    RetrievalStrategy,
    Retrieved,
    Vectors,
)
from paddock.errors import FieldError, ModelNotFound, ProviderUnavailable, StrategyNotFound, ValidationFailed
from paddock.services.core import Core
from paddock.services.project_secrets import resolve_env
from paddock.services.stores import OpenDatabase, Stores

EXTRACTIVE = "extractive"
DEFAULT = "hybrid"  # of a database that names no retrieval strategy
_METRICS: Mapping[str, Metric] = {
    "cosine": "cosine", "l2": "l2", "euclidean": "l2", "euclid": "l2", "l1": "l1", "manhattan": "l1", "dot": "dot",
    "ip": "dot", "inner_product": "dot",
}  # fmt: skip


class Answer(msgspec.Struct):
    """The part of a chat completion that is read here."""

    class Choice(msgspec.Struct):
        class Message(msgspec.Struct):
            content: str | None = None

        message: Message

    choices: list[Choice]


class Retrieval:
    """Runs retrieval strategies over the databases of projects."""

    def __init__(self, core: Core, stores: Stores) -> None:
        self._core = core
        self._stores = stores

    async def retrieve(self, config: ProjectConfig, database: str | None, strategy: str | None, query: Query) -> Found:
        """Find chunks. `database` and `strategy` None mean the project's and the database's defaults.

        Raises DatabaseNotFound, StrategyNotFound, ValidationFailed, ProviderUnavailable.
        """
        chosen = config.database(database)
        name, provider, options = self.strategy(chosen, strategy)
        async with self._stores.using(config.namespace, config.name, chosen.name) as opened:
            found = await provider.retrieve(query, Tools(self._core, config, opened), options)
        return Found(retrieved=found, strategy=name, database=chosen.name)

    def strategy(self, database: DatabaseConfig, name: str | None) -> tuple[str, RetrievalStrategy, Any]:
        """The strategy to run and its decoded config: a name of the database's own, else a type or short name."""
        registry = self._core.plugins.retrieval_strategies
        own = database.retrieval_strategies
        if own and (name is None or any(item.name == name for item in own)):
            picked = database.retrieval(name)
            provider = registry.find(picked.type)
            return picked.name, provider, provider.configure(picked.type, picked.config).config
        wanted = name or DEFAULT
        found = registry.get(wanted)
        if found is None:
            known = dict.fromkeys([*(item.name for item in own), *registry.names()])
            raise StrategyNotFound(
                f"database {database.name} has no retrieval strategy {wanted[:64]!r}; known: {', '.join(known)}"
            )
        return wanted, found, found.configure(wanted, {}).config


class Found(msgspec.Struct, kw_only=True):
    """What a strategy found, and which one ran where."""

    retrieved: Retrieved
    strategy: str
    database: str


class Tools:
    """Implements `RetrievalTools` for one query."""

    def __init__(self, core: Core, config: ProjectConfig, opened: OpenDatabase) -> None:
        self._core = core
        self._config = config
        self._opened = opened
        self._vectors: dict[str, Vectors] = {}
        self.store = opened.store

    async def embed(self, text: str) -> Vectors:
        """The query's vector; the same text is embedded once."""
        if text not in self._vectors:
            embedder = await self._opened.check_embedder()
            self._vectors[text] = (await embedder.embed([text], "query"))[0]
        return self._vectors[text]

    async def rerank(self, model: str | None, query: str, documents: Sequence[str]) -> list[float]:
        """Through the first reranker that is installed."""
        rerankers = self._core.plugins.rerankers.all()
        if not rerankers:
            raise ProviderUnavailable("no reranker is installed: pip install paddock-onnx, or choose another strategy")
        wanted = model or "reranker"
        known = next((item for item in self._config.runtime.models if item.name == wanted), None)
        return await rerankers[0].rerank(known.model if known else wanted, query, documents)

    def can_ask(self, model: str | None) -> bool:
        """Whether the model writes."""
        return self._config.model(model).provider != EXTRACTIVE

    async def ask(self, model: str | None, prompt: str) -> str | None:
        """One short answer; None when the model only extracts."""
        config = self._config.model(model)
        if config.provider == EXTRACTIVE:
            return None
        provider = self._core.plugins.chat_models.find(config.provider)
        pieces = [piece async for piece in provider.chat(self._call(config, prompt))]
        try:
            answer = msgspec.json.decode(b"".join(pieces), type=Answer)
        except msgspec.DecodeError as error:
            raise ProviderUnavailable(f"the model {config.name} did not answer in OpenAI's format") from error
        return (answer.choices[0].message.content if answer.choices else None) or ""

    def _call(self, config: ModelConfig, prompt: str) -> ChatCall:
        settings = self._core.settings
        body: dict[str, Json] = {
            **resolve_env(config.model_api_parameters, settings),  # never the prompt: a user's text is no reference
            "model": config.model,
            "temperature": 0,
            "max_tokens": 400,
        }
        body["messages"] = [{"role": "user", "content": prompt}]
        return ChatCall(
            body=body,
            stream=False,
            base_url=resolve_env(config.base_url, settings) if config.base_url else None,
            api_key=resolve_env(config.api_key, settings) if config.api_key else None,
            think=False,
        )

    async def run(self, type_name: str, config: Mapping[str, Json], query: Query) -> Retrieved:
        """Run another strategy with the same tools."""
        provider = self._core.plugins.retrieval_strategies.find(type_name)
        return await provider.retrieve(query, self, provider.configure(type_name, config).config)


def metric_named(name: str | None) -> Metric | None:
    """A metric by any of its usual names. Raises ValidationFailed listing them."""
    if name is None:
        return None
    found = _METRICS.get(name.lower())
    if found is None:
        raise ValidationFailed.of([FieldError("distance_metric", f"unknown metric; known: {', '.join(_METRICS)}")])
    return found


def rerank_model(config: ProjectConfig, name: str | None) -> str | None:
    """The reranker's model that `name` stands for: a name of the project's models, else itself. Raises ModelNotFound."""
    if name is None:
        return None
    if not name.strip():
        raise ModelNotFound("rerank_model is empty: name a reranker's model, or leave the field away")
    return next((item.model for item in config.runtime.models if item.name == name), name)
