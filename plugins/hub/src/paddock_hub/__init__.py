"""A Hugging Face hub as the source of models, and the cache that other tools of the hub share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec

from paddock.contracts.base import Service, hookimpl
from paddock.contracts.providers import Environment, Host, ModelSource
from paddock_hub.settings import HubSettings
from paddock_hub.source import HubSource

__all__ = ["HubPlugin", "HubSettings", "HubSource", "plugin"]


class Sweeper(Service):
    """At the start of a server, deletes partial files that nobody resumed for long."""

    def __init__(self, source: HubSource, host: Host) -> None:
        self._source = source
        self._host = host

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep in the background."""
        sweeping = asyncio.create_task(self._sweep(), name="hub-sweep")
        try:
            yield
        finally:
            await asyncio.wait((sweeping,))

    async def _sweep(self) -> None:
        try:
            swept = await self._source.sweep()
        except OSError as error:
            self._host.log("hub_cache_not_swept", "warning", error=str(error))
            return
        if swept:
            self._host.log("hub_cache_swept", count=swept)


class HubPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``hub``."""
        return "hub", HubSettings

    @hookimpl
    def paddock_model_sources(self, env: Environment) -> Sequence[ModelSource]:
        """Type universal."""
        return [HubSource(env.http, env.settings, env.hub_cache)]

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        """The sweeper of the cache."""
        return [Sweeper(HubSource(env.http, env.settings, env.hub_cache), env.host)]


plugin = HubPlugin()
