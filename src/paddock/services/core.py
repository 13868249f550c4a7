"""What every service stands on: settings, plugins, the state database, the uploaded bytes, the outgoing client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paddock.access import Gatekeeper
from paddock.logs import Log
from paddock.meter import Meter
from paddock.outgoing import OutgoingClient
from paddock.plugins import Plugins
from paddock.settings import Auth, Layers, Settings
from paddock.settings import Log as LogSettings
from paddock.storage import Blobs, Database


def _open_to_all() -> bool:
    return False


@dataclass(kw_only=True)
class Serving:
    """What is known of the running server: its port (0 until it listens), and whether any key exists."""

    port: int = 0
    closed: Callable[[], bool] = _open_to_all


@dataclass(frozen=True, kw_only=True)
class Core:
    """Built once by `create_app`; `state` is open between the lifespan's start and end.

    `stopping` is set when the server begins to shut down: endless streams and waiting loops end on it. `keeper` knows the
    keys; `layers` are what `settings` were put together from.
    """

    settings: Settings
    plugins: Plugins
    state: Database
    blobs: Blobs
    http: OutgoingClient
    log: Log = field(default_factory=lambda: Log(LogSettings(level="error")))
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    serving: Serving = field(default_factory=Serving)
    meter: Meter = field(default_factory=Meter)
    keeper: Gatekeeper = field(default_factory=lambda: Gatekeeper(Auth()))
    layers: Layers = field(default_factory=Layers)

    @property
    def projects_dir(self) -> Path:
        """``{data}/projects``: one folder per namespace, one per project in it."""
        return self.settings.data_dir / "projects"
