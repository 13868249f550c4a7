"""Classifying texts and finding entities: the first provider that has the model answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from paddock.contracts.base import Caller, Context, hookimpl
from paddock.contracts.providers import EntityRecogniser, Provider, TextClassifier
from paddock.contracts.text_models import (
    ClassifyItem,
    ClassifyReply,
    ClassifyRequest,
    EntityItem,
    EntityReply,
    EntityRequest,
    UnloadReply,
    UnloadRequest,
)
from paddock.errors import ModelNotFound, ProviderUnavailable
from paddock.services.core import Core
from paddock.services.gateway import GatewayService
from paddock.services.gateway.directory import may_use

P = TypeVar("P", bound=Provider)
T = TypeVar("T")


class TextModels:
    """Implements contracts/text_models.py."""

    def __init__(self, core: Core, gateway: GatewayService) -> None:
        self._core = core
        self._gateway = gateway

    @hookimpl
    async def text_classify(self, ctx: Context, data: ClassifyRequest) -> ClassifyReply:
        def ask(provider: TextClassifier, model: str) -> Awaitable[list[ClassifyItem]]:
            return _classified(provider, model, data)

        items = await self._first(self._core.plugins.text_classifiers.all(), data.model, ctx.caller, ask)
        return ClassifyReply(data=items, total_count=len(items), model=data.model)

    @hookimpl
    async def text_entities(self, ctx: Context, data: EntityRequest) -> EntityReply:
        def ask(provider: EntityRecogniser, model: str) -> Awaitable[list[EntityItem]]:
            return _entities(provider, model, data)

        items = await self._first(self._core.plugins.entity_recognisers.all(), data.model, ctx.caller, ask)
        return EntityReply(data=items, total_count=len(items), model=data.model)

    @hookimpl
    async def models_unload(self, ctx: Context, data: UnloadRequest) -> UnloadReply:
        if data.model is None:
            gone = [name for server in self._core.plugins.model_servers.all() for name in await server.unload(None)]
        else:
            route = await self._gateway.directory.known(data.model, ctx.caller)
            gone = await route.server.unload(route.model) if route is not None else []
        return UnloadReply(unloaded=len(gone), models=gone)

    async def _first(
        self, providers: Sequence[P], asked: str, caller: Caller, ask: Callable[[P, str], Awaitable[T]]
    ) -> T:
        """What the first provider that has the model answers; ``provider/model`` names one, an alias of the settings leads on.

        Raises ModelNotFound, also for a model that the caller's key is not for; ProviderUnavailable without any provider.
        """
        if not providers:
            raise ProviderUnavailable("no plugin runs such models: pip install paddock-onnx")
        name = self._gateway.directory.aliases.get(asked, asked)
        prefix, _, rest = name.partition("/")
        named = [(provider, rest) for provider in providers if rest and provider.name == prefix]
        missing: ModelNotFound | None = None
        allowed = [
            (provider, model)
            for provider, model in named or [(provider, name) for provider in providers]
            if may_use(caller, asked, f"{provider.name}/{model}")
        ]
        for provider, model in allowed:
            try:
                return await ask(provider, model)
            except ModelNotFound as error:
                missing = missing or error
        raise missing or ModelNotFound(f"there is no model {asked[:100]!r}; GET /v1/models lists what there is")


async def _classified(provider: TextClassifier, model: str, data: ClassifyRequest) -> list[ClassifyItem]:
    found = await provider.classify(model, data.texts, data.max_length)
    return [
        ClassifyItem(index=index, label=one.label, score=one.score, all_scores=one.all_scores, labels=one.labels)
        for index, one in enumerate(found)
    ]


async def _entities(provider: EntityRecogniser, model: str, data: EntityRequest) -> list[EntityItem]:
    found = await provider.entities(model, data.texts, data.max_length, data.aggregation_strategy)
    return [EntityItem(index=index, entities=one) for index, one in enumerate(found)]
