"""Loading plugins, and the typed facade in front of pluggy: nobody else sees the plugin manager."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import msgspec
import pluggy

from paddock.contracts.base import PROJECT, Context, Endpoint, Service, endpoints_of
from paddock.contracts.providers import (
    ChatModel,
    Chunker,
    DocumentExtractor,
    Embedder,
    EntityRecogniser,
    Environment,
    Extractor,
    Health,
    Host,
    HttpClient,
    ModelImporter,
    ModelServer,
    ModelSource,
    OcrEngine,
    PageRenderer,
    Parser,
    Provider,
    Reranker,
    RetrievalStrategy,
    TaskQueue,
    TemplateSource,
    TextClassifier,
    VectorStoreProvider,
    hooks,
)
from paddock.errors import FieldError, ProviderUnavailable, UnknownType, ValidationFailed
from paddock.settings import CORE, Layers, Settings, plugin_settings

P = TypeVar("P", bound=Provider)
ENTRY_POINTS = "paddock"
BUILT_IN = "core"
LOOK = 2.0  # seconds that one provider's health may take

# Type names of LlamaFarm that packages provide which may not be installed.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(
        ("HuggingFaceEmbedder", "SentenceTransformerEmbedder", "UniversalEmbedder", "EntityExtractor"),
        "paddock-onnx",
    ),
    **dict.fromkeys(("OpenAIEmbedder", "openai", "lemonade"), "paddock-openai"),
    **dict.fromkeys(("OllamaEmbedder", "ollama"), "paddock-ollama"),
    **dict.fromkeys(("ChromaStore", "QdrantStore", "FAISSStore", "SqliteVecStore"), "paddock-sqlite-vec"),
    "ImageParser": "paddock-ocr",
    "universal": "paddock-llama-server",
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
    """An entry point after the attempt to import it. A plugin that fails later gets its `error` and loses `plugin`."""

    name: str
    version: str
    plugin: Any = None
    error: str | None = None

    @contextmanager
    def blamed(self, doing: str) -> Iterator[None]:
        """Whatever the plugin's own code raises inside is noted as its error; the others go on without it."""
        try:
            yield
        except (Exception, SystemExit) as error:  # noqa: BLE001  a stranger's code may raise anything; it is reported by name
            self.error, self.plugin = f"{doing}: {type(error).__name__}: {error}", None


class Registry(Generic[P]):
    """The providers of one capability by type name; `kind` is the base class of them all."""

    def __init__(self, capability: str, kind: type[Any]) -> None:
        self.capability = capability
        self.kind = kind
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
        item = Loaded(entry.name, entry.dist.version if entry.dist else "unknown")
        with item.blamed("import"):
            item.plugin = entry.load()
        found.append(item)
    return found


def load(
    config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Settings, list[Loaded]]:
    """The installed plugins, and the settings with their sections. Raises ValidationFailed naming the setting."""
    layers, loaded = prepare(config, overrides)
    return layers.load(), loaded


def prepare(
    config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Layers, list[Loaded]]:
    """The installed plugins, and what the settings are put together from."""
    disabled = plugin_settings(config).disabled
    loaded = discover(disabled)
    sections = settings_sections(loaded)
    absent = [*disabled, *(item.name for item in loaded if item.error)]
    return Layers(sections, config, os.environ, overrides or {}, absent), loaded


def settings_sections(loaded: Sequence[Loaded]) -> dict[str, type[msgspec.Struct]]:
    """The settings sections that the plugins declare. One whose declaration is wrong, or taken, gets its error."""
    sections: dict[str, type[msgspec.Struct]] = {}
    owners = dict.fromkeys(CORE, BUILT_IN)
    for item in loaded:
        with item.blamed("paddock_settings"):
            declared = section_of(item.plugin)
            if declared is None:
                continue
            name, kind = declared
            if name in owners:
                raise ValueError(f"the section {name} belongs to {owners[name]} already")
            sections[name], owners[name] = kind, item.name
    return sections


def section_of(plugin: object) -> tuple[str, type[msgspec.Struct]] | None:
    """The settings section that a plugin declares, or None. Raises TypeError for another form, and what it raises."""
    declare = getattr(plugin, "paddock_settings", None)
    if declare is None:
        return None
    match declare():
        case (str() as name, type() as kind) if issubclass(kind, msgspec.Struct):
            return name, kind
    raise TypeError("it returns a name and a msgspec struct")


class Plugins:
    """The facade. Build, `attach` the services, then `open`; `call` an endpoint; look up providers in the registries."""

    def __init__(self, loaded: Sequence[Loaded], contracts: Sequence[ModuleType]) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._loaded = list(loaded)
        self._required: list[str] = []
        self._built_in: list[object] = []
        self._services: dict[str, list[Service]] = {}
        self.endpoints: list[Endpoint] = []
        self._manager.add_hookspecs(hooks)
        for module in contracts:
            self._add_contracts(module)
        for item in self._loaded:
            with item.blamed("paddock_contracts"):
                for module in getattr(item.plugin, "paddock_contracts", ()):
                    self._add_contracts(module)
        self.chat_models: Registry[ChatModel] = Registry("chat model provider", ChatModel)
        self.model_sources: Registry[ModelSource] = Registry("model source", ModelSource)
        self.model_servers: Registry[ModelServer] = Registry("model server", ModelServer)
        self.embedders: Registry[Embedder] = Registry("embedder", Embedder)
        self.rerankers: Registry[Reranker] = Registry("reranker", Reranker)
        self.text_classifiers: Registry[TextClassifier] = Registry("text classifier", TextClassifier)
        self.entity_recognisers: Registry[EntityRecogniser] = Registry("entity recogniser", EntityRecogniser)
        self.model_importers: Registry[ModelImporter] = Registry("model importer", ModelImporter)
        self.parsers: Registry[Parser] = Registry("parser", Parser)
        self.chunkers: Registry[Chunker] = Registry("chunk strategy", Chunker)
        self.extractors: Registry[Extractor] = Registry("extractor", Extractor)
        self.vector_stores: Registry[VectorStoreProvider] = Registry("vector store", VectorStoreProvider)
        self.retrieval_strategies: Registry[RetrievalStrategy] = Registry("retrieval strategy", RetrievalStrategy)
        self.task_queues: Registry[TaskQueue] = Registry("task queue", TaskQueue)
        self.template_sources: Registry[TemplateSource] = Registry("template source", TemplateSource)
        self.page_renderers: Registry[PageRenderer] = Registry("page renderer", PageRenderer)
        self.ocr_engines: Registry[OcrEngine] = Registry("OCR engine", OcrEngine)
        self.document_extractors: Registry[DocumentExtractor] = Registry("document extractor", DocumentExtractor)

    def _add_contracts(self, module: Any) -> None:
        new = endpoints_of(module)
        for item in new:
            taken = next((known for known in self.endpoints if _collide(known, item)), None)
            if taken is not None:
                raise ValueError(f"{item.name} ({item.method} {item.path}) collides with {taken.name} of {taken.group}")
        self._manager.add_hookspecs(module)
        self.endpoints += new

    @property
    def loaded(self) -> Sequence[Loaded]:
        """The entry points, loaded or failed."""
        return self._loaded

    @property
    def registries(self) -> dict[str, Registry[Any]]:
        """Hook name to registry, in the order of the contracts."""
        return {f"paddock_{name}": value for name, value in vars(self).items() if isinstance(value, Registry)}

    def attach(self, built_in: Sequence[object], required: Iterable[str]) -> None:
        """Register the core's own services first, then the plugins, so that a plugin is asked before the core.

        A plugin that does not fit is left out with its error, unless it is required: then ValidationFailed names it.
        """
        self._required = list(required)
        self._built_in = list(built_in)
        for service in built_in:
            self._manager.register(service)
        for item in self._loaded:
            if item.plugin is not None:
                self._register(item)
        self._check_required()

    def _check_required(self) -> None:
        for name in self._required:
            found = next((item for item in self._loaded if item.name == name), None)
            if found is None:
                raise ValidationFailed(f"the required plugin {name} is not installed: pip install paddock-{name}")
            if found.error:
                raise ValidationFailed(f"the required plugin {name} did not load: {found.error}")

    def _register(self, item: Loaded) -> None:
        plugin = item.plugin
        with item.blamed("its hooks"):
            try:
                self._manager.register(plugin, name=item.name)
                self._manager.check_pending()
            except Exception:
                if self._manager.get_plugin(item.name) is plugin:  # not the one that has the name already
                    self._manager.unregister(name=item.name)
                raise

    def open(self, settings: Settings, http: HttpClient, hosts: Callable[[str], Host]) -> None:
        """Ask every plugin for its providers and services. One that fails is left out with its error, unless it is
        required. `hosts` makes the `Host` of a plugin.

        Raises ValidationFailed for a type name that is provided twice: nobody can know which one is meant.
        """
        for plugin in self._built_in:
            for registry, provider in self._providers(
                plugin, Environment(settings, settings.data_dir, http, hosts(BUILT_IN), settings.hub_cache)
            ):
                registry.add(BUILT_IN, provider)
        for item in self._loaded:
            if item.plugin is None:
                continue
            plugin, found = item.plugin, []
            with item.blamed("its providers"):
                section = section_of(plugin)
                own = settings.sections.get(section[0]) if section else None
                env = Environment(own, settings.data_dir, http, hosts(item.name), settings.hub_cache)
                found = self._providers(plugin, env)
                self._add_services(item.name, plugin, env)
            if item.error:
                self._remove(item.name)
                continue
            for registry, provider in found:
                registry.add(item.name, provider)
        self._check_required()

    def _add_services(self, owner: str, plugin: object, env: Environment) -> None:
        """Register what implements the plugin's endpoints for this application."""
        others = [one for one in self._manager.get_plugins() if one is not plugin]
        for answer in self._manager.subset_hook_caller("paddock_services", others)(env=env):
            for service in answer:
                if not isinstance(service, Service):
                    raise TypeError(f"paddock_services returns a list of Service; {service!r} is none")
                self._services.setdefault(owner, []).append(service)
                self._manager.register(service)
                self._manager.check_pending()

    def _remove(self, name: str) -> None:
        self._manager.unregister(name=name)
        for service in self._services.pop(name, ()):
            if self._manager.is_registered(service):
                self._manager.unregister(service)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start the plugins' services in their order; stop them in reverse."""
        async with AsyncExitStack() as stack:
            for services in self._services.values():
                for service in services:
                    await stack.enter_async_context(service.running())
            yield

    def _providers(self, plugin: object, env: Environment) -> list[tuple[Registry[Any], Provider]]:
        others = [one for one in self._manager.get_plugins() if one is not plugin]
        found: list[tuple[Registry[Any], Provider]] = []
        provider: Any
        for hook, registry in self.registries.items():
            for answer in self._manager.subset_hook_caller(hook, others)(env=env):
                if not isinstance(answer, Sequence):
                    raise TypeError(f"{hook} returns a list of {registry.kind.__name__}, not {answer!r}")
                for provider in answer:
                    if not isinstance(provider, registry.kind):
                        raise TypeError(f"{hook} returns a list of {registry.kind.__name__}; {provider!r} is none")
                    found.append((registry, provider))
        return found

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
                looks = await asyncio.gather(*map(look_at, mine))
                info.health |= {provider.name: look for provider, look in zip(mine, looks, strict=True)}
        parts = [self._manager.get_plugin(name), *self._services.get(name, ())]
        if parts[0] is not None:
            mine_too = {caller.name for part in parts for caller in self._manager.get_hookcallers(part) or ()}
            info.endpoints = [item.name for item in self.endpoints if item.name in mine_too]
        return info

    async def close(self) -> list[tuple[str, BaseException]]:
        """Close every provider; returns those that failed, by name."""
        providers = self.all_providers()
        ends = await asyncio.gather(*(provider.close() for provider in providers), return_exceptions=True)
        named = zip(providers, ends, strict=True)
        return [(provider.name, end) for provider, end in named if isinstance(end, BaseException)]


async def look_at(provider: Provider) -> Health:
    """A provider's health in at most `LOOK` seconds, whatever it does."""
    try:
        return await asyncio.wait_for(provider.health(), LOOK)
    except TimeoutError:
        return Health(status="unhealthy", message=f"no answer within {LOOK:.0f} s")
    except Exception as error:  # noqa: BLE001  a stranger's code may raise anything; it is reported by name
        return Health(status="unhealthy", message=f"its health can't be told: {error!r}")


def _collide(one: Endpoint, other: Endpoint) -> bool:
    if one.name == other.name:
        return True
    if (one.kind == "websocket") != (other.kind == "websocket"):
        return False
    same_path = re.sub(r"{[^}]*}", "{}", one.path) == re.sub(r"{[^}]*}", "{}", other.path)
    return same_path and (one.method == other.method or "*" in (one.method, other.method))
