"""The typed facade in front of pluggy: nobody else sees the plugin manager."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

import pluggy

from paddock.contracts.base import PROJECT, Context, Endpoint, Service, endpoints_of, path_shape
from paddock.contracts.providers import (
    ChatModel,
    Chunker,
    DocumentExtractor,
    Embedder,
    EntityRecogniser,
    Environment,
    Extractor,
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
from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock.plugins.loading import BUILT_IN, Loaded, section_of
from paddock.plugins.looking import PluginInfo, look_at
from paddock.plugins.registry import Registry
from paddock.settings import Settings


class Plugins:
    """The facade. Build, `attach` the services, then `open`; `call` an endpoint; look up providers in the registries."""

    def __init__(self, loaded: Sequence[Loaded], contracts: Sequence[ModuleType]) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._loaded = list(loaded)
        self._required: list[str] = []
        self._built_in: list[object] = []
        self._services: dict[str, list[Service]] = {}
        self.endpoints: list[Endpoint] = []
        self._by_place: dict[tuple[bool, str], list[Endpoint]] = {}
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
        named = {known.name: known for known in self.endpoints}
        for item in new:
            taken = named.get(item.name) or self._at_place_of(item)
            if taken is not None:
                raise ValueError(f"{item.name} ({item.method} {item.path}) collides with {taken.name} of {taken.group}")
        self._manager.add_hookspecs(module)
        self.endpoints += new
        for item in new:
            self._by_place.setdefault(_place(item), []).append(item)

    def _at_place_of(self, item: Endpoint) -> Endpoint | None:
        """An endpoint that would answer the same requests."""
        there = self._by_place.get(_place(item), ())
        return next(
            (known for known in there if known.method == item.method or "*" in (known.method, item.method)), None
        )

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


def _place(item: Endpoint) -> tuple[bool, str]:
    """Where requests for an endpoint go, whatever its parameters are called."""
    return item.kind == "websocket", path_shape(item.path)
