"""llamafarm.yaml as the server uses it, after the older forms have been brought into the current one.

The structs say what is allowed in the file: patterns and ranges stand in the types, a class with
``forbid_unknown_fields`` is closed, and a class with a field `extra` keeps the keys it does not know. What the user wrote
is a plain dict beside these structs (`LoadedProject.raw`); nothing here is ever written back.

Strings may hold ``${env:NAME}``; resolve them at use.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, TypeVar

import msgspec

from paddock.contracts.base import Json
from paddock.errors import DatabaseNotFound, DatasetNotFound, ModelNotFound, NotFound, StrategyNotFound

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Identifier = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*\Z", min_length=1, max_length=50)]
SetName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*\Z")]
PathName = Annotated[str, msgspec.Meta(pattern=r"^(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,64}\Z")]
Extension = Annotated[str, msgspec.Meta(pattern=r"^\.[a-zA-Z0-9]+\Z")]
Description = Annotated[str, msgspec.Meta(min_length=10, max_length=500)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Mode = Literal["config_only", "api_replace", "api_supplement"]
Options = dict[str, Json]

UNIVERSAL = "universal_rag"  # the processing strategy that every project has


class Closed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts in which an unknown key is an error."""


class Open(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the parts that keep unknown keys, in `extra`."""

    extra: Options = {}


class PromptMessage(Closed, frozen=True, kw_only=True):
    """One message of a prompt set; roles by convention system, user, assistant, tool."""

    role: Text
    content: str
    tool_call_id: str | None = None


class PromptSet(Closed, frozen=True, kw_only=True):
    """Messages under a name, so that models can share and combine them."""

    name: SetName
    messages: list[PromptMessage] = []


class ToolConfig(Closed, frozen=True, kw_only=True):
    """A tool in the flat form of the file (the request's form nests it under ``function``)."""

    type: Literal["function"] = "function"
    name: Text
    description: str
    parameters: Options


class EncoderConfig(Closed, frozen=True, kw_only=True):
    """For models that encode instead of chatting."""

    max_length: Count | None = None
    use_flash_attention: bool = True
    task: Literal["embedding", "classification", "reranking", "ner"] = "embedding"


class ModelConfig(Open, frozen=True, kw_only=True):
    """One entry of ``runtime.models``. `name` is what a request asks for, `model` what the provider calls it."""

    name: Text
    provider: Text
    model: Text
    description: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    instructor_mode: str | None = None
    model_api_parameters: Options = {}
    extra_body: Options = {}
    encoder_config: EncoderConfig | None = None
    prompts: list[str] = []
    mcp_servers: list[str] | None = None
    tool_call_strategy: Literal["native_api", "prompt_based"] = "native_api"
    tools: list[ToolConfig] = []
    tools_mode: Mode = "api_supplement"
    prompts_mode: Mode = "api_supplement"
    keep_loaded: bool = False
    rag_enabled: bool | None = None
    target_database: str | None = None
    default: bool = False


class RuntimeConfig(Open, frozen=True, kw_only=True):
    """The models of the project."""

    default_model: str | None = None
    models: list[ModelConfig] = []


class EmbeddingStrategyConfig(Closed, frozen=True, kw_only=True):
    """An embedder and its options."""

    name: Text
    type: Text
    config: Options = {}
    condition: str | None = None
    priority: int = 0


class RetrievalStrategyConfig(Closed, frozen=True, kw_only=True):
    """A way to find chunks and its options."""

    name: Text
    type: Text
    config: Options = {}
    default: bool = False


class DatabaseConfig(Closed, frozen=True, kw_only=True):
    """A vector store with its embedders and retrieval strategies."""

    name: Identifier
    type: Text
    config: Options = {}
    embedding_strategies: list[EmbeddingStrategyConfig] = []
    retrieval_strategies: list[RetrievalStrategyConfig] = []
    default_embedding_strategy: str | None = None
    default_retrieval_strategy: str | None = None

    def embedding(self, name: str | None = None) -> EmbeddingStrategyConfig:
        """The strategy of that name; without one the default, else the first. Raises StrategyNotFound."""
        wanted = name if name is not None else self.default_embedding_strategy
        return _pick(self.embedding_strategies, wanted, StrategyNotFound, f"database {self.name}: embedding strategy")

    def retrieval(self, name: str | None = None) -> RetrievalStrategyConfig:
        """The strategy of that name; without one the default, else the first marked ``default: true``, else the first.

        Raises StrategyNotFound.
        """
        marked = (item.name for item in self.retrieval_strategies if item.default)
        wanted = name if name is not None else self.default_retrieval_strategy or next(marked, None)
        return _pick(self.retrieval_strategies, wanted, StrategyNotFound, f"database {self.name}: retrieval strategy")


class ParserConfig(Closed, frozen=True, kw_only=True):
    """A parser, its options, and the files it is for. The lowest priority is tried first."""

    type: Text
    config: Options = {}
    file_extensions: list[Extension] | None = None
    file_include_patterns: list[str] | None = None
    priority: Priority = 50
    mime_types: list[str] | None = None
    fallback_parser: str | None = None


class ExtractorConfig(Closed, frozen=True, kw_only=True):
    """A metadata extractor, its options, and what it is for. The lowest priority runs first."""

    type: Text
    config: Options = {}
    required_for: list[str] | None = None
    condition: str | None = None
    file_include_patterns: list[str] | None = None
    priority: Priority = 50


class ProcessingStrategyConfig(Closed, frozen=True, kw_only=True):
    """How files become chunks."""

    name: Identifier
    description: Description | None = None
    parsers: Annotated[list[ParserConfig], msgspec.Meta(min_length=1)]
    extractors: list[ExtractorConfig] = []


class RagConfig(Closed, frozen=True, kw_only=True):
    """Databases and processing strategies."""

    databases: list[DatabaseConfig] = []
    data_processing_strategies: list[ProcessingStrategyConfig] = []
    default_database: str | None = None


class DatasetConfig(Open, frozen=True, kw_only=True):
    """A named set of files. Which files is kept by the server, not by the file. `auto_process` None means false."""

    name: PathName
    database: Text
    data_processing_strategy: str = UNIVERSAL
    auto_process: bool | None = None


class McpServerConfig(Open, frozen=True, kw_only=True):
    """A tool server: a child process (stdio) or an address (http, sse)."""

    name: Text
    transport: Literal["stdio", "http", "sse"]
    command: str | None = None
    args: list[str] = []
    env: dict[str, str] = {}
    base_url: str | None = None
    headers: dict[str, str] = {}


class McpConfig(Open, frozen=True, kw_only=True):
    """The tool servers of the project."""

    servers: list[McpServerConfig] = []


class ProjectConfig(Open, frozen=True, kw_only=True):
    """A whole llamafarm.yaml, valid: names are unique and every reference leads somewhere."""

    version: Literal["v1"] = "v1"
    name: PathName
    namespace: PathName
    runtime: RuntimeConfig
    prompts: list[PromptSet] = []
    rag: RagConfig = RagConfig()
    datasets: list[DatasetConfig] = []
    mcp: McpConfig = McpConfig()

    def default_model(self) -> ModelConfig | None:
        """``runtime.default_model``, else the first marked ``default: true``, else the first; None without models."""
        models = self.runtime.models
        marked = next((item for item in models if item.default), models[0] if models else None)
        return next((item for item in models if item.name == self.runtime.default_model), marked)

    def model(self, name: str | None = None) -> ModelConfig:
        """The model of that name, or the default one. Raises ModelNotFound, which lists near matches."""
        default = self.default_model()
        if name is None and default is not None:
            return default
        return _pick(self.runtime.models, name, ModelNotFound, f"project {self.namespace}/{self.name}: model")

    def database(self, name: str | None = None) -> DatabaseConfig:
        """The database of that name; without one ``rag.default_database``, else the first. Raises DatabaseNotFound."""
        wanted = name if name is not None else self.rag.default_database
        return _pick(self.rag.databases, wanted, DatabaseNotFound, f"project {self.namespace}/{self.name}: database")

    def processing(self, name: str | None = None) -> ProcessingStrategyConfig:
        """The processing strategy of that name (None: ``universal_rag``). Raises StrategyNotFound."""
        wanted = UNIVERSAL if name is None else name
        return _pick(self.strategies(), wanted, StrategyNotFound, "data processing strategy")

    def strategies(self) -> list[ProcessingStrategyConfig]:
        """The project's processing strategies, and the built-in ``universal_rag`` unless one of them has its name."""
        own = self.rag.data_processing_strategies
        return own if any(item.name == UNIVERSAL for item in own) else [*own, universal_rag()]

    def dataset(self, name: str) -> DatasetConfig:
        """The dataset of that name. Raises DatasetNotFound."""
        return _pick(self.datasets, name, DatasetNotFound, f"project {self.namespace}/{self.name}: dataset")

    def prompt_messages(self, model: ModelConfig) -> list[PromptMessage]:
        """The model's prompt sets in the order it names them; all sets in the order of definition when it names none."""
        sets = {item.name: item.messages for item in self.prompts}
        return [message for name in model.prompts or sets for message in sets.get(name, [])]


def universal_rag() -> ProcessingStrategyConfig:
    """The built-in strategy: every file through the parser that fits it, with statistics and headings as metadata."""
    return ProcessingStrategyConfig(
        name=UNIVERSAL,
        description="Reads every kind of file and adds statistics and headings",
        parsers=[ParserConfig(type="auto")],
        extractors=[ExtractorConfig(type="ContentStatisticsExtractor"), ExtractorConfig(type="HeadingExtractor")],
    )


Named = TypeVar(
    "Named",
    ModelConfig,
    DatabaseConfig,
    DatasetConfig,
    EmbeddingStrategyConfig,
    RetrievalStrategyConfig,
    ProcessingStrategyConfig,
)


def _pick(items: Sequence[Named], name: str | None, missing: type[NotFound], what: str) -> Named:
    if name is None and items:
        return items[0]
    found = next((item for item in items if item.name == name), None)
    if found is None:
        raise missing(f"{what} {_not_there(name, [item.name for item in items])}")
    return found


def _not_there(name: str | None, known: Iterable[str]) -> str:
    names = list(known)
    if name is None:
        return "is missing: the project defines none; add one to its llamafarm.yaml"
    near = difflib.get_close_matches(name, names, 3)
    shown = name[:64].encode("ascii", "backslashreplace").decode()
    if not names:
        return f"{shown!r} not found: the project defines none; add one to its llamafarm.yaml"
    return f"{shown!r} not found; " + (
        f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names[:20])}"
    )
