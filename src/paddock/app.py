"""`create_app`: the only place that sees everything. It builds the parts, owns the lifespan and makes the ASGI application."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any

from litestar import Litestar
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin

from paddock.access import Gatekeeper, check_bind
from paddock.errors import Conflict, ValidationFailed
from paddock.gate import Gate
from paddock.limits import RateLimits
from paddock.logs import Log
from paddock.outgoing import OutgoingClient
from paddock.plugins import Loaded, Plugins
from paddock.routes import Dispatcher
from paddock.services import CONTRACTS, Core, Services
from paddock.services.hosting import PluginHost
from paddock.services.project_secrets import outgoing_allow
from paddock.settings import Layers, Settings
from paddock.storage import Blobs, Database
from paddock.storage.schema import MIGRATIONS
from paddock.streams import Receive, Scope, Send


class LeanLitestar(Litestar):
    """Litestar without its pydantic and attrs plugins: importing pydantic, which other packages bring along, would cost
    0.4 s at every start, and no contract uses it."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]

    @property
    def route_handler_method_map(self) -> dict[str, Any]:
        """Nothing. Litestar looks here, before it adds a path, for handlers that the path has already, and makes the map of
        all paths anew for each; the dispatcher names each path once."""
        return {}


class App:
    """The ASGI application with its parts. Serve it inside ``async with app.lifespan():``, or let a server that speaks
    the lifespan protocol do so. Two of them can live in one process."""

    def __init__(
        self, settings: Settings, loaded: Sequence[Loaded] = (), log: Log | None = None, layers: Layers | None = None
    ) -> None:
        self.settings = settings
        self.log = log or Log(settings.log)
        self.plugins = Plugins(loaded, CONTRACTS)
        self.gatekeeper = Gatekeeper(settings.auth)
        self.core = Core(
            settings=settings,
            plugins=self.plugins,
            state=Database(settings.data_dir / "state.db", MIGRATIONS, readers=4, private=True),
            blobs=Blobs(settings.data_dir / "blobs"),
            http=outgoing_client(settings),
            log=self.log,
            keeper=self.gatekeeper,
            layers=layers or Layers(),
        )
        self.services = Services(self.core)
        self.plugins.attach(self.services.implementations(), settings.plugins.required)
        self.plugins.open(settings, self.core.http, lambda name: PluginHost(self.core, self.services.events, name))
        self.core.serving.closed = lambda: self.gatekeeper.closed
        self.core.serving.port = settings.server.port
        self.dispatcher = Dispatcher(self.plugins, settings, self.gatekeeper, self.log, self.core.meter)
        failed: Any = self.dispatcher.failed  # it returns an ASGI application, Litestar's type expects its Response
        self.litestar = LeanLitestar(
            self.dispatcher.handlers(),
            openapi_config=None,  # ours comes from the contracts
            lifespan=[self._litestar_lifespan],
            exception_handlers={Exception: failed},
            logging_config=None,
            request_max_body_size=None,
        )
        limits = RateLimits(settings.rate_limit, self.gatekeeper)
        self._gate = Gate(self.litestar, settings.server, self.log, self.core.meter, limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)

    @asynccontextmanager
    async def _litestar_lifespan(self, _app: Any) -> AsyncIterator[None]:
        async with self.lifespan():
            yield

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the state, start the services; at the end stop and close them in reverse."""
        core = self.core
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self.log.close)
            stack.enter_context(await asyncio.to_thread(lock_folder, self.settings.data_dir))
            await core.state.start()
            stack.push_async_callback(core.state.close)
            stack.push_async_callback(core.http.close)
            stack.push_async_callback(self._close_plugins)
            await stack.enter_async_context(self.services.admitting())
            check_bind(self.settings.server, closed=self.gatekeeper.closed)
            await asyncio.to_thread(core.blobs.prepare)
            await stack.enter_async_context(self.services.running())
            await stack.enter_async_context(self.plugins.running())
            stack.callback(self.stop)
            for item in self.plugins.loaded:
                if item.error:
                    self.log.event("plugin_failed", "error", plugin=item.name, error=item.error)
            yield

    async def _close_plugins(self) -> None:
        for name, error in await self.plugins.close():
            self.log.event("provider_not_closed", "error", provider=name, error=repr(error))

    def stop(self) -> None:
        """Begin to shut down: open streams end, waiting loops end. Idempotent."""
        self.core.stopping.set()
        self.dispatcher.streaming.stop()


def create_app(
    settings: Settings, loaded: Sequence[Loaded] = (), log: Log | None = None, layers: Layers | None = None
) -> App:
    """Build the application. `loaded` are the plugins (see `paddock.plugins.discover`), `layers` what the settings were put
    together from, so that changes to them can be checked. Raises ValidationFailed naming the plugin or setting that does
    not fit."""
    return App(settings, loaded, log, layers)


def outgoing_client(settings: Settings) -> OutgoingClient:
    """The client of upstreams as the settings want it."""
    outgoing = settings.outgoing
    return OutgoingClient(
        outgoing_allow(settings),
        connect_timeout=outgoing.connect_timeout,
        first_byte_timeout=outgoing.first_byte_timeout,
        timeout=outgoing.timeout,
    )


def lock_folder(folder: Path) -> IO[str]:
    """Take the data folder for this process. Raises Conflict when another paddock has it, ValidationFailed when it can't
    be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise ValidationFailed(
            f"the data folder {folder} can't be used ({error.strerror}): choose another --data-dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise Conflict(
            f"another paddock uses the data folder {folder}: stop it or choose another --data-dir"
        ) from error
    return lock
