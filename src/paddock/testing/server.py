"""A real server in the test's own event loop, on a free port of 127.0.0.1 and a data folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from paddock.app import App, create_app
from paddock.contracts.base import Json
from paddock.logs import Log
from paddock.plugins import Loaded, discover, settings_sections
from paddock.server import run
from paddock.settings import Layers


class Answered(msgspec.Struct, frozen=True):
    """A reply that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body, decoded."""
        return msgspec.json.decode(self.body)


class RunningServer:
    """What a test gets: the address, the application's parts, and a small client."""

    def __init__(self, base_url: str, app: App, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self.app = app
        self.session = session

    async def ask(self, method: str, path: str, body: Json = None, **given: Any) -> Answered:
        """Send a request (`body` as JSON; further arguments as aiohttp's) and read the whole reply."""
        if body is not None:
            given["json"] = body
        async with self.session.request(method, self.base_url + path, **given) as reply:
            return Answered(reply.status, reply.headers, await reply.read())

    async def project(self, name: str, *models: Mapping[str, Json]) -> str:
        """Create the project ``NAMESPACE/PROJECT``, with these as its models if given (the first is its default one).

        Returns its path, ``/v1/projects/NAMESPACE/PROJECT``. Raises AssertionError with the server's words.
        """
        namespace, _, project = name.partition("/")
        path = f"/v1/projects/{namespace}/{project}"
        reply = await self.ask("POST", f"/v1/projects/{namespace}", {"name": project})
        assert reply.status == 200, reply.body.decode()
        if models:
            config = reply.json()["project"]["config"]
            config["runtime"] = {"default_model": models[0]["name"], "models": models}
            reply = await self.ask("PUT", path, {"config": config})
            assert reply.status == 200, reply.body.decode()
        return path


@asynccontextmanager
async def running_server(
    data_dir: Path,
    *,
    plugins: Mapping[str, object] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    installed: bool = True,
    log: Log | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve for the length of the `async with`.

    `plugins` are plugin objects by name, added to the installed ones (left out with `installed` false) or standing in
    for the one of that name; `settings` are sections of keys; `log` takes the lines in the place of standard output.
    Environment variables of the machine have no effect, and the hub of models is offline unless the settings say otherwise.
    """
    given = plugins or {}
    loaded: Sequence[Loaded] = discover(disabled=given) if installed else []
    loaded = [*loaded, *(Loaded(name, "test", plugin) for name, plugin in given.items())]
    sections = {name: dict(keys) for name, keys in (settings or {}).items()}
    sections["server"] = {"port": 0, "data_dir": str(data_dir), **sections.get("server", {})}
    sections.setdefault("log", {"level": "error", "format": "json"})
    known = settings_sections(loaded)
    if "hub" in known:  # no test reaches the real one
        sections["hub"] = {"offline": True, **sections.get("hub", {})}
    layers = Layers(known, environ={}, overrides=sections)
    app = create_app(layers.load(), loaded, log, layers)
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.ensure_future(run(app, stop, ready.set_result))
    await asyncio.wait((serving, ready), return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    try:
        async with aiohttp.ClientSession() as session:
            yield RunningServer(ready.result(), app, session)
    finally:
        stop.set()
        await serving
