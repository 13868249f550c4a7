"""Loading plugins, and the typed facade in front of pluggy: nobody else sees the plugin manager."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib import metadata
from types import ModuleType
from typing import Any, Generic, TypeVar

import msgspec
import pluggy

from paddock.contracts.base import PROJECT, Context, Endpoint, endpoints_of
from paddock.contracts.providers import (
    ChatModel,
    Chunker,
    Embedder,
    Environment,
    Extractor,
    Health,
    HttpClient,
    ModelSource,
    Parser,
    Provider,
    Reranker,
    RetrievalStrategy,
    TaskQueue,
    TemplateSource,
    VectorStoreProvider,
    hooks,
)
from paddock.errors import FieldError, ProviderUnavailable, UnknownType, ValidationFailed
from paddock.settings import Settings

P = TypeVar("P", bound=Provider)
ENTRY_POINTS = "paddock"
BUILT_IN = "core"

# Type names of LlamaFarm that packages provide which may not be installed.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("HuggingFaceEmbedder", "SentenceTransformerEmbedder", "UniversalEmbedder", "EntityExtractor", "universal"),
        "paddock-onnx",
    ),
    **dict.fromkeys(("OpenAIEmbedder", "openai", "lemonade"), "paddock-openai"),
    **dict.fromkeys(("OllamaEmbedder", "ollama"), "paddock-ollama"),
    **dict.fromkeys(("ChromaStore", "QdrantStore", "FAISSStore", "SqliteVecStore"), "paddock-sqlite-vec"),
    "dramatiq": "paddock-dramatiq",
}
_DOCUMENT_PARSERS = ("PDFParser", "DocxParser", "ExcelParser", "MsgParser", "DocumentParser")


class PluginInfo(msgspec.Struct, kw_only=True):
    """What `paddock plugins` shows. `error` is set when the plugin did not load."""

    name: str
    version: str
    provides: dict[str, list[str]] = {}
    endpoints: list[str] = []
    error: str | None = None
    health: dict[str, Health] = {}


class Loaded(msgspec.Struct):
    """An entry point after the attempt to import it."""

    name: str
    version: str
    plugin: Any = None
    error: str | None = None


class Registry(Generic[P]):
    """The providers of one capability by type name."""

    def __init__(self, capability: str) -> None:
        self.capability = capability
        self._by_type: dict[str, P] = {}
        self._owner: dict[str, str] = {}

    def add(self, owner: str, provider: P) -> None:
        """Add all type names of a provider; a name that somebody has is an error at start."""
        for declared in provider.types:
            if declared.name in self._by_type:
                raise ValidationFailed(
                    f"{self.capability} type {declared.name} is provided twice, by the plugins {self._owner[declared.name]} "
                    f"and {owner}: name one of them in plugins.disabled"
                )
            self._by_type[declared.name] = provider
            self._owner[declared.name] = owner

    def get(self, type_name: str) -> P | None:
        """The provider, or None."""
        return self._by_type.get(type_name)

    def find(self, type_name: str) -> P:
        """The provider, or UnknownType listing the known types and the plugin to install."""
        provider = self._by_type.get(type_name)
        if provider is None:
            raise UnknownType.of([FieldError("type", self.unknown(type_name))])
        return provider

    def unknown(self, type_name: str) -> str:
        """The sentence about a type that nobody provides."""
        package = ELSEWHERE.get(type_name) or ("paddock-documents" if type_name.startswith(_DOCUMENT_PARSERS) else None)
        text = f"{self.capability} type {type_name[:64]!r} is not provided by any loaded plugin"
        if package:
            return f"{text}; install the plugin {package}. Known: {', '.join(self.names()) or 'none'}"
        near = difflib.get_close_matches(type_name, self._by_type, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"{text}{hint} Known: {', '.join(self.names()) or 'none'}"

    def names(self) -> list[str]:
        """All type names."""
        return list(self._by_type)

    def all(self) -> list[P]:
        """Each provider once, in the order of registration."""
        return list(dict.fromkeys(self._by_type.values()))

    def owned_by(self, owner: str) -> list[P]:
        """The providers of one plugin."""
        return list(dict.fromkeys(p for name, p in self._by_type.items() if self._owner[name] == owner))


def discover(disabled: Iterable[str] = ()) -> list[Loaded]:
    """Import the installed plugins one by one; one that fails is named and takes no other with it."""
    skipped = set(disabled)
    found = []
    for entry in sorted(metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        if entry.name in skipped:
            continue
        version = entry.dist.version if entry.dist else "unknown"
        try:
            found.append(Loaded(entry.name, version, entry.load()))
        except Exception as error:  # noqa: BLE001  a stranger's module may raise anything; it is reported by name
            found.append(Loaded(entry.name, version, error=f"{type(error).__name__}: {error}"))
    return found


def settings_sections(loaded: Sequence[Loaded]) -> dict[str, type[msgspec.Struct]]:
    """The settings sections that the plugins declare."""
    sections = {}
    for item in loaded:
        declare = getattr(item.plugin, "paddock_settings", None)
        if declare is not None:
            name, kind = declare()
            sections[name] = kind
    return sections


def contract_modules(loaded: Sequence[Loaded]) -> list[Any]:
    """The modules (or classes) with endpoint contracts that plugins add: their attribute `paddock_contracts`."""
    return [module for item in loaded for module in getattr(item.plugin, "paddock_contracts", ())]


class Plugins:
    """The facade. Build, `attach` the services, then `open`; `call` an endpoint; look up providers in the registries."""

    def __init__(self, loaded: Sequence[Loaded], contracts: Sequence[ModuleType]) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._loaded = list(loaded)
        modules = [*contracts, *contract_modules(loaded)]
        for module in (*modules, hooks):
            self._manager.add_hookspecs(module)
        self.endpoints: list[Endpoint] = [item for module in modules for item in endpoints_of(module)]
        self.chat_models: Registry[ChatModel] = Registry("chat model provider")
        self.model_sources: Registry[ModelSource] = Registry("model source")
        self.embedders: Registry[Embedder] = Registry("embedder")
        self.rerankers: Registry[Reranker] = Registry("reranker")
        self.parsers: Registry[Parser] = Registry("parser")
        self.chunkers: Registry[Chunker] = Registry("chunk strategy")
        self.extractors: Registry[Extractor] = Registry("extractor")
        self.vector_stores: Registry[VectorStoreProvider] = Registry("vector store")
        self.retrieval_strategies: Registry[RetrievalStrategy] = Registry("retrieval strategy")
        self.task_queues: Registry[TaskQueue] = Registry("task queue")
        self.template_sources: Registry[TemplateSource] = Registry("template source")

    @property
    def loaded(self) -> Sequence[Loaded]:
        """The entry points, loaded or failed."""
        return self._loaded

    @property
    def registries(self) -> dict[str, Registry[Any]]:
        """Hook name to registry, in the order of the contracts."""
        found = {f"paddock_{name}": value for name, value in vars(self).items() if isinstance(value, Registry)}
        return dict(found)

    def attach(self, built_in: Sequence[object], required: Iterable[str]) -> None:
        """Register the core's own services first, then the plugins, so that a plugin is asked before the core.

        Raises ValidationFailed naming the plugin: a required one that is missing or broken, an unknown hook.
        """
        for service in built_in:
            self._manager.register(service)
        for item in self._loaded:
            if item.plugin is not None:
                self._register(item)
        for name in required:
            found = next((item for item in self._loaded if item.name == name), None)
            if found is None:
                raise ValidationFailed(f"the required plugin {name} is not installed: pip install paddock-{name}")
            if found.error:
                raise ValidationFailed(f"the required plugin {name} did not load: {found.error}")

    def _register(self, item: Loaded) -> None:
        try:
            self._manager.register(item.plugin, name=item.name)
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            if self._manager.has_plugin(item.name):
                self._manager.unregister(name=item.name)
            item.error, item.plugin = f"{error}", None

    def open(self, settings: Settings, http: HttpClient) -> None:
        """Ask every plugin for its providers. Raises ValidationFailed for a type name that is provided twice."""
        owners = {id(item.plugin): item.name for item in self._loaded if item.plugin is not None}
        everyone = self._manager.get_plugins()
        # The core's plugins first, so that messages about duplicates name the stranger second.
        for plugin in sorted(everyone, key=lambda one: owners.get(id(one), "")):
            owner = owners.get(id(plugin), BUILT_IN)
            env = Environment(self._section(plugin, settings), settings.data_dir, http)
            for hook, registry in self.registries.items():
                ask = self._manager.subset_hook_caller(hook, [one for one in everyone if one is not plugin])
                for provider in (provider for answer in ask(env=env) for provider in answer):
                    registry.add(owner, provider)

    def _section(self, plugin: object, settings: Settings) -> Any:
        declare: Callable[[], tuple[str, type]] | None = getattr(plugin, "paddock_settings", None)
        return settings.sections.get(declare()[0]) if declare else settings

    async def call(self, endpoint: str, ctx: Context, **given: Any) -> Any:
        """Run an endpoint. Raises ProviderUnavailable when every plugin leaves it."""
        answer: Awaitable[Any] | None = getattr(self._manager.hook, endpoint)(ctx=ctx, **given)
        if answer is None:
            raise ProviderUnavailable(f"no loaded plugin implements {endpoint}: see `paddock plugins`")
        return await answer

    def missing(self) -> list[str]:
        """Contracts that nobody implements; empty in a complete installation."""
        return [item.name for item in self.endpoints if not getattr(self._manager.hook, item.name).get_hookimpls()]

    def all_providers(self) -> list[Provider]:
        """Every provider once."""
        return list(dict.fromkeys(provider for registry in self.registries.values() for provider in registry.all()))

    async def infos(self, *, health: bool = False) -> list[PluginInfo]:
        """What is loaded and what each provides; with `health`, every provider is looked at (all at once)."""
        names: list[tuple[str, str, str | None]] = [(BUILT_IN, metadata.version("paddock"), None)]
        names += [(item.name, item.version, item.error) for item in self._loaded]
        return await asyncio.gather(*(self._info(*name, health=health) for name in names))

    async def _info(self, name: str, version: str, error: str | None, *, health: bool) -> PluginInfo:
        info = PluginInfo(name=name, version=version, error=error)
        for registry in self.registries.values():
            mine = registry.owned_by(name)
            if mine:
                info.provides[registry.capability] = [declared.name for provider in mine for declared in provider.types]
            if health:
                looks = await asyncio.gather(*(provider.health() for provider in mine))
                info.health |= {provider.name: look for provider, look in zip(mine, looks, strict=True)}
        plugin = self._manager.get_plugin(name)
        if plugin is not None:
            mine_too = {caller.name for caller in self._manager.get_hookcallers(plugin) or ()}
            info.endpoints = [item.name for item in self.endpoints if item.name in mine_too]
        return info

    async def close(self) -> None:
        """Close every provider."""
        await asyncio.gather(*(provider.close() for provider in self.all_providers()))
