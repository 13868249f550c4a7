"""Serving: one process, one event loop (uvloop), Granian's embedded server; a clean end on SIGTERM and SIGINT."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paddock.app import App, create_app
from paddock.errors import Conflict, ValidationFailed
from paddock.plugins import prepare

Ready = Callable[[str], None]
# Seconds after which all that is there by then is taken from the garbage collector's rounds: the code and what was set up.
# A full round over it stops every request for some 40 ms; without it the slowest of 64 concurrent ones wait half as long.
SETTLING = (2.0, 15.0, 120.0)


def build(config: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> App:
    """Settings, plugins, application. Raises ValidationFailed naming the setting or plugin."""
    layers, loaded = prepare(config, overrides)
    return create_app(layers.load(), loaded, layers=layers)


def free_port(host: str, port: int) -> int:
    """The port to listen on: `port`, or a free one for 0. Raises Conflict when somebody listens there already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Without SO_REUSEPORT, which Granian sets: two servers on one port would share its requests at random.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"port {port} is in use: stop the other server or choose another --port") from error
            raise ValidationFailed(f"can't listen on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def serve(app: App, ready: Ready | None = None) -> None:
    """Serve until SIGTERM or SIGINT. `ready` is called with the base URL when requests are answered."""
    import uvloop  # noqa: PLC0415  the command line does not need it

    with app.log.taking_over():
        uvloop.run(_with_signals(app, ready))


async def _with_signals(app: App, ready: Ready | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    loop = asyncio.get_running_loop()
    for later in SETTLING:
        loop.call_later(later, gc.freeze)
    await run(app, stop, ready)


async def run(app: App, stop: asyncio.Event, ready: Ready | None = None) -> None:
    """Serve until `stop` is set. Streams end first, then requests have ``server.shutdown_grace``
    seconds, then the services close."""
    from granian.constants import HTTPModes, Interfaces  # noqa: PLC0415  the command line does not need it
    from granian.server.embed import Server  # noqa: PLC0415  as above

    settings = app.settings.server
    app.core.serving.port = port = free_port(settings.host, settings.port)
    async with app.lifespan():
        # HTTP/1 alone: while Granian waits to see which version a client speaks it has no time limit, and no client
        # speaks HTTP/2 without TLS unless it is told to.
        server = Server(
            app, address=settings.host, port=port, interface=Interfaces.ASGINL, http=HTTPModes.http1, log_enabled=False,
            websockets=True,
        )  # fmt: skip
        serving = asyncio.ensure_future(server.serve())
        waiting = asyncio.ensure_future(stop.wait())
        try:
            base = f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}:{port}"
            await _until_answering(settings.host, port, serving)
            app.log.event("serving", url=base, data_dir=str(app.settings.data_dir), pid=os.getpid())
            if ready:
                ready(base)
            await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            app.log.event("stopping")
            app.stop()
            server.stop()  # type: ignore[no-untyped-call]  # granian has no annotations there
            try:
                await asyncio.wait_for(serving, settings.shutdown_grace)
            except TimeoutError:
                app.log.event("requests_cut", "warning", grace_seconds=settings.shutdown_grace)


async def _until_answering(host: str, port: int, serving: asyncio.Future[None]) -> None:
    target = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound
    for _ in range(500):
        if serving.done():
            await serving
            raise ValidationFailed(f"the server did not start on {host}:{port}")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(target, port)
            writer.close()
            return
        await asyncio.sleep(0.01)
    raise ValidationFailed(f"the server does not answer on {host}:{port}")
