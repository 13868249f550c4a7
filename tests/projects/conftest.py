"""A core with the real openai and ollama plugins, the core's own providers, and a plugin of small component types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec
import pytest

from paddock.builtin.extractive import ExtractiveModel
from paddock.builtin.hashing import HashingEmbedder
from paddock.builtin.parsers import builtin_parsers
from paddock.builtin.templates import FolderTemplates, template_folders
from paddock.contracts import projects as project_contracts
from paddock.contracts.base import Json, hookimpl
from paddock.contracts.providers import (
    ChatModel,
    Chunk,
    Document,
    Embedder,
    Environment,
    Extractor,
    Metric,
    Parser,
    Query,
    RetrievalStrategy,
    RetrievalTools,
    Retrieved,
    TemplateSource,
    TypeName,
    VectorStore,
    VectorStoreProvider,
)
from paddock.outgoing import OutgoingClient
from paddock.plugins import Loaded, Plugins, discover, settings_sections
from paddock.services.core import Core
from paddock.services.project_checks import Checked, check
from paddock.services.project_yaml import parse
from paddock.settings import load_settings
from paddock.storage import Blobs, Database
from paddock.testing.host import MemoryHost
from tests.projects.looking import Look

CoreMaker = Callable[..., Core]


class StoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the store."""

    collection_name: str = "documents"
    distance_function: Literal["cosine", "l2", "l1", "dot", "euclidean"] = "cosine"


class StrategyConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the strategies; what composes others is checked by the core."""

    top_k: int = 10
    model_name: str | None = None
    base_strategy: str | None = None
    base_strategy_config: dict[str, Json] = {}
    strategies: list[dict[str, Json]] = []


class Store(VectorStoreProvider):
    """A store type for configurations only."""

    types: ClassVar = (
        TypeName("ChromaStore", StoreConfig, {"host": "the store runs inside paddock"}),
        TypeName("SqliteVecStore", StoreConfig),
    )

    async def open(self, folder: Path, config: Any) -> VectorStore:
        raise AssertionError("no test opens it")

    def metric(self, config: Any) -> Metric:
        return "cosine"

    async def drop(self, folder: Path, config: Any) -> None:
        raise AssertionError("no test drops it")


class Strategy(RetrievalStrategy):
    """Strategy types for configurations only."""

    types: ClassVar = tuple(
        TypeName(name, StrategyConfig)
        for name in (
            "BasicSimilarityStrategy",
            "CrossEncoderRerankedStrategy",
            "HybridRetriever",
            "HybridUniversalStrategy",
            "MetadataFilteredStrategy",
        )
    )

    async def retrieve(self, query: Query, tools: RetrievalTools, config: Any) -> Retrieved:
        raise AssertionError("no test retrieves")


class KeywordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of the extractors."""

    algorithm: str = "rake"
    max_keywords: int = 10


class Metadata(Extractor):
    """Extractor types; one of their values is reported as without effect."""

    types: ClassVar = (
        TypeName("ContentStatisticsExtractor"),
        TypeName("DateTimeExtractor"),
        TypeName("HeadingExtractor"),
        TypeName("KeywordExtractor", KeywordConfig),
        TypeName("LinkExtractor"),
    )

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        return {}

    def warn(self, type_name: str, config: Any) -> Iterable[str]:
        if getattr(config, "max_keywords", None) == 0:
            yield "max_keywords 0 finds nothing"


class Components:
    """The plugin."""

    def __init__(self, template_folders: Sequence[Path]) -> None:
        self._template_folders = template_folders

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        return [ExtractiveModel()]

    @hookimpl
    def paddock_embedders(self, env: Environment) -> Sequence[Embedder]:
        return [HashingEmbedder()]

    @hookimpl
    def paddock_parsers(self, env: Environment) -> Sequence[Parser]:
        return builtin_parsers()

    @hookimpl
    def paddock_extractors(self, env: Environment) -> Sequence[Extractor]:
        return [Metadata()]

    @hookimpl
    def paddock_vector_stores(self, env: Environment) -> Sequence[VectorStoreProvider]:
        return [Store()]

    @hookimpl
    def paddock_retrieval_strategies(self, env: Environment) -> Sequence[RetrievalStrategy]:
        return [Strategy()]

    @hookimpl
    def paddock_template_sources(self, env: Environment) -> Sequence[TemplateSource]:
        return [FolderTemplates(self._template_folders)]


@pytest.fixture
def make_core(tmp_path: Path) -> CoreMaker:
    """Build a core over `tmp_path`; its arguments are sections of the settings."""

    def build(*services: object, **sections: Mapping[str, Any]) -> Core:
        loaded = [item for item in discover() if item.name in ("openai", "ollama")]
        overrides = {"server": {"data_dir": str(tmp_path)}, **sections}
        settings = load_settings(settings_sections(loaded), environ={}, overrides=overrides)
        http = OutgoingClient(settings.outgoing.allow)
        plugins = Plugins([*loaded, Loaded("parts", "1", Components(template_folders(settings)))], [project_contracts])
        plugins.attach(services, ["openai", "ollama", "parts"])
        plugins.open(settings, http, lambda _: MemoryHost())
        return Core(
            settings=settings,
            plugins=plugins,
            state=Database(tmp_path / "state.db", []),
            blobs=Blobs(tmp_path / "blobs"),
            http=http,
        )

    return build


@pytest.fixture
def core(make_core: CoreMaker) -> Core:
    return make_core(outgoing={"env": ["PADDOCK_TEST_UNSET"]})


@pytest.fixture
def look(core: Core) -> Look:
    """Check a text as project ns/p."""

    def run(text: str) -> Checked:
        return check(parse(text.encode()).raw, "ns", "p", core.plugins, core.settings)

    return run
