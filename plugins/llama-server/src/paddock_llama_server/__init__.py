"""Managed llama-server instances and the router in front of them."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakValueDictionary

import msgspec

from paddock.contracts.base import Service, hookimpl
from paddock.contracts.providers import ChatModel, Environment
from paddock.contracts.providers.serving import ModelServer
from paddock_llama_server.chat import UniversalChat
from paddock_llama_server.manager import Manager
from paddock_llama_server.server import LlamaServer
from paddock_llama_server.settings import LlamaServerSettings
from paddock_llama_server.wiring import api_services

__all__ = ["LlamaServer", "LlamaServerPlugin", "LlamaServerSettings", "Manager", "UniversalChat", "plugin"]


class LlamaServerPlugin:
    """The entry point."""

    def __init__(self) -> None:
        self._managers: WeakValueDictionary[int, Manager] = WeakValueDictionary()

    def manager(self, env: Environment) -> Manager:
        """The one manager of an application: all hooks of one application get the same `Environment.host`."""
        found = self._managers.get(id(env.host))
        if found is None:
            found = self._managers[id(env.host)] = Manager(env)
        return found

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``llama_server``."""
        return "llama_server", LlamaServerSettings

    @hookimpl
    def paddock_model_servers(self, env: Environment) -> Sequence[ModelServer]:
        """Type llama-server."""
        return [LlamaServer(env, self.manager(env))]

    @hookimpl
    def paddock_chat_models(self, env: Environment) -> Sequence[ChatModel]:
        """Type universal."""
        return [UniversalChat(LlamaServer(env, self.manager(env)))]

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        """The manager, which runs the processes, and what answers in front of it."""
        manager = self.manager(env)
        return [manager, *api_services(env, manager, manager.files)]


plugin = LlamaServerPlugin()
