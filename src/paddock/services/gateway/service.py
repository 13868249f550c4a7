"""The endpoints of the gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from paddock.contracts.base import Caller, Context, Json, Reply, hookimpl
from paddock.contracts.gateway import CatalogueQuery, GatewayRequest, ModelPath
from paddock.contracts.providers import ModelServer, Operation
from paddock.errors import ModelNotFound, NotFound, ProviderUnavailable
from paddock.services.core import Core
from paddock.services.events import EventLog
from paddock.services.gateway.accounts import Account
from paddock.services.gateway.adapters import ChatServer
from paddock.services.gateway.bodies import checked
from paddock.services.gateway.catalogue import Catalogue, Listing
from paddock.services.gateway.directory import Directory, may_use
from paddock.services.gateway.failures import Passed
from paddock.services.gateway.items import alias_item, model_item
from paddock.services.gateway.limits import Limits
from paddock.services.gateway.passing import Job, Passing

TRAVELLING = ("anthropic-beta", "anthropic-version", "openai-beta")  # headers that the caller may send to an upstream
_NOTHING: dict[str, str] = {}


class GatewayService:
    """Implements contracts/gateway.py. Model servers are known when it runs: plugins hand them over after it was built."""

    def __init__(self, core: Core, events: EventLog) -> None:
        self._core = core
        self._events = events
        self.limits = Limits(core.settings.gateway)
        self._passing = Passing(core.settings.gateway, core.settings.outgoing, self.limits)
        self._directory: Directory | None = None

    @property
    def directory(self) -> Directory:
        """Names to servers."""
        if self._directory is None:
            self._directory = self._built()
        return self._directory

    def _built(self) -> Directory:
        settings, plugins, log = self._core.settings.gateway, self._core.plugins, self._core.log
        servers = servers_of(self._core)
        listings = [Listing(one.name, one.models, log, local=one.local) for one in servers]
        # What a model server lists itself is not asked of its source again.
        named = {one.name for one in servers if not isinstance(one, ChatServer)}
        listings += [
            Listing(one.name, one.catalogue, log, local=one.local, serves=False)
            for one in plugins.model_sources.all()
            if one.name not in named
        ]
        fetching = self._core.settings.models.auto_download
        return Directory(
            servers, Catalogue(listings, settings), settings.aliases, settings.fallbacks, fetching=fetching
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Where requests are served. Raises ValidationFailed for aliases that lead in a circle."""
        directory = self.directory
        try:
            yield
        finally:
            await directory.catalogue.close()

    # -- models

    @hookimpl
    async def model_catalogue_list(self, ctx: Context, params: CatalogueQuery) -> Reply:
        """See the contract."""
        catalogue, wanted = self.directory.catalogue, params.provider
        await catalogue.fresh()
        if wanted is not None:
            self._check_provider(catalogue, wanted)
        found: dict[str, Json] = {"object": "list", "data": self._items(ctx.caller, wanted)}
        silent = [one for one in catalogue.unavailable if wanted is None]
        if silent and ctx.caller.scope is None:
            found["unavailable"] = [{"provider": one.name, "message": one.error or "no answer yet"} for one in silent]
        return Reply(body=msgspec.json.encode(found))

    def _check_provider(self, catalogue: Catalogue, wanted: str) -> None:
        listings = [one for one in catalogue.listings if one.name == wanted]
        if not listings:
            known = ", ".join(dict.fromkeys(one.name for one in catalogue.listings))
            raise NotFound(f"there is no provider {wanted[:100]!r}; known: {known}")
        for listing in listings:
            if listing in catalogue.unavailable:
                raise ProviderUnavailable(listing.error or f"{wanted} has not answered yet: ask again")

    def _items(self, caller: Caller, provider: str | None) -> list[dict[str, Any]]:
        directory = self.directory
        aliases = [] if provider is not None else directory.aliases.items()
        found = [alias_item(name, target) for name, target in aliases if may_use(caller, name, name)]
        items: dict[str, dict[str, Any]] = {}
        served = directory.served_files()
        for name, listing, place in directory.listed(caller):
            info = listing.models[place]
            # A file of the cache that a server runs is that server's model, not another one.
            twice = not listing.serves and info.details.get("model_id") in served
            if listing.name == provider or (provider is None and not twice):
                item = model_item(name, listing.name, info)
                items[name] = {**item, **items[name]} if name in items else item  # stored under the name that serves it
        return [*found, *items.values()]

    @hookimpl
    async def model_catalogue_get(self, ctx: Context, params: ModelPath) -> Reply:
        """See the contract."""
        wanted = params.model_id.removeprefix("/")
        await self.directory.catalogue.fresh()
        items = self._items(ctx.caller, None)
        found = next((one for one in items if wanted in (one["id"], f"{one['provider']}/{one['id']}")), None)
        if found is None:
            route = await self.directory.find(wanted, ctx.caller)
            names = (route.model, route.qualified)
            found = next((one for one in items if one["provider"] == route.server.name and one["id"] in names), None)
        if found is None:
            raise ModelNotFound(f"there is no model {wanted[:100]!r}; GET /v1/models lists what there is")
        return Reply(body=msgspec.json.encode({**found, "id": wanted}))

    # -- requests

    @hookimpl
    def gateway_chat_completions(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("chat/completions", ctx, data)

    @hookimpl
    def gateway_completions(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("completions", ctx, data)

    @hookimpl
    def gateway_embeddings(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("embeddings", ctx, data)

    @hookimpl
    def gateway_rerank(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("rerank", ctx, data)

    @hookimpl
    def gateway_reranking(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("rerank", ctx, data)

    @hookimpl
    def gateway_responses(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("responses", ctx, data)

    @hookimpl
    def gateway_messages(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("messages", ctx, data)

    @hookimpl
    def gateway_messages_count_tokens(self, ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
        """See the contract."""
        return self._serve("messages/count_tokens", ctx, data)

    async def _serve(self, operation: Operation, ctx: Context, data: GatewayRequest) -> Reply:
        account = Account(self._events, self._core.meter, self.limits, ctx, data)
        try:
            await checked(data.raw)
            account.holds(self.limits.take_key(ctx.caller))
            routes = await self.directory.routes(data.model, ctx.caller, operation)
            job = Job(
                operation=operation,
                data=data,
                headers=travelling(ctx),
                caller=ctx.caller,
                request_id=ctx.request_id,
                account=account,
            )
            return await self._passing.pass_on(job, routes)
        except Passed as error:
            account.fail(error)
            return Reply(body=error.body, status=error.http_status, headers=error.headers)
        except BaseException as error:
            account.fail(error)
            raise


def travelling(ctx: Context) -> dict[str, str]:
    """The caller's headers that go on to the upstream. A credential is never among them."""
    headers = ctx.headers
    found = [name for name in TRAVELLING if name in headers]
    return {name: headers[name] for name in found} if found else _NOTHING


def servers_of(core: Core) -> Sequence[ModelServer]:
    """The model servers, and the chat providers that are none."""
    servers = core.plugins.model_servers.all()
    named = {one.name for one in servers}
    chats = core.plugins.chat_models
    adapted = [(name, model) for name in chats.names() if name not in named and (model := chats.get(name)) is not None]
    return [*servers, *(ChatServer(name, model) for name, model in adapted)]
