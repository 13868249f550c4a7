"""The built-in implementations of the endpoint contracts, and how they are put together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType

from paddock.contracts import system as system_contracts
from paddock.contracts.providers import Provider
from paddock.services.core import Core
from paddock.services.system import SystemService

__all__ = ["CONTRACTS", "Core", "Services"]

CONTRACTS: Sequence[ModuleType] = (system_contracts,)  # in URL order


class Services:
    """Every service, built over one Core."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.system = SystemService(core, self._in_use)

    def implementations(self) -> list[object]:
        """The objects to register as the core's own plugin."""
        return [self.system]

    async def _in_use(self) -> list[Provider]:
        return []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start what works in the background; stop it at the end."""
        yield
