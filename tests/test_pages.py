"""The pages, in a real browser: they render, and load nothing from elsewhere."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from paddock.testing.server import RunningServer, running_server

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=5000",
)  # fmt: skip


def browser() -> str:
    """The browser's command; a laptop may lack it, CI may not."""
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if found is None and not os.environ.get("CI"):
        pytest.skip("needs chromium")
    assert found, "chromium is not installed"
    return found


async def rendered(server: RunningServer, path: str, folder: Path) -> str:
    """The page's elements after its scripts ran."""
    process = await asyncio.create_subprocess_exec(
        browser(), *FLAGS, f"--user-data-dir={folder}", "--dump-dom", server.base_url + path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode()


class Browser:
    """A page in a browser that is told what to do, over its debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0

    async def say(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        self._count += 1
        await self._socket.send_json({"id": self._count, "method": method, "params": params})
        message = await self.until("id", self._count)
        assert "error" not in message, message
        return message["result"]

    async def until(self, field: str, value: object) -> Any:
        """The next message whose field has a value."""
        async with asyncio.timeout(30):
            while True:
                message = await self._socket.receive_json()
                if message.get(field) == value:
                    return message

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        found = await self.say("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def shows(self, script: str) -> None:
        """Wait until an expression is true."""
        again = "() => (%s) ? done() : setTimeout(look, 20)"
        await self.run(f"new Promise((done) => {{ const look = {again % script}; look(); }})")


@asynccontextmanager
async def browsing(server: RunningServer, path: str, folder: Path) -> AsyncIterator[Browser]:
    """A browser at a path of the server."""
    flags = [flag for flag in FLAGS if not flag.startswith("--virtual-time")]
    process = await asyncio.create_subprocess_exec(
        browser(), *flags, f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        line = b""
        while not line.startswith(b"DevTools listening on "):
            line = await asyncio.wait_for(process.stderr.readline(), 60)
            assert line, "the browser ended"
        port = yarl.URL(line.decode().split()[-1]).port
        async with server.session.get(f"http://127.0.0.1:{port}/json/list") as reply:
            page = next(one for one in await reply.json() if one["type"] == "page")
        async with server.session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            found = Browser(socket)
            await found.say("Page.enable")
            await found.say("Page.navigate", url=server.base_url + path)
            await found.until("method", "Page.loadEventFired")
            await found.shows("document.querySelector('details')")
            yield found
    finally:
        process.kill()
        await process.wait()


def submitted(operation: str, **values: str) -> str:
    """The script that fills an operation's form and sends it."""
    filled = "".join(f"form.elements[{name!r}].value = {value!r};" for name, value in values.items())
    return f"(() => {{ const form = document.querySelector('#{operation} form'); {filled} form.requestSubmit(); }})()"


def answered(operation: str, text: str) -> str:
    """The condition that an operation's form shows a text."""
    return f"document.querySelector('#{operation} form pre').textContent.includes({text!r})"


async def test_the_interactive_page_calls_what_it_shows(tmp_path: Path) -> None:
    """A write with a body, and a read with a parameter in the path that is refused, each answered in the page."""
    settings: dict[str, dict[str, Any]] = {"server": {"swagger": True}, "auth": {"management_keys": ["m-key"]}}
    async with (
        running_server(tmp_path / "data", installed=False, settings=settings) as server,
        browsing(server, "/swagger/?api_key=m-key", tmp_path / "browser") as page,
    ):
        operations = "document.querySelectorAll('details').length"
        assert await page.run(operations) == await page.run("document.querySelectorAll('details form').length") > 50
        await page.run(submitted("key_create", body='{"name": "made-in-the-page"}'))
        await page.shows(answered("key_create", "201 after"))
        await page.run("document.getElementById('key').value = 'wrong'")
        await page.run(submitted("key_get", key_id="x"))
        await page.shows(answered("key_get", "401 after"))
        made = (await server.ask("GET", "/api/v1/auth/keys", headers={"X-API-Key": "m-key"})).json()
    assert "made-in-the-page" in [key["name"] for key in made]


async def test_the_interactive_page_is_off_unless_the_setting_says_so(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        reply = await server.ask("GET", "/swagger/")
    assert reply.status == 404
    assert "server.swagger" in reply.json()["detail"]


async def test_the_status_page_shows_the_parts_of_the_server(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        page = await rendered(server, "/", tmp_path / "browser")
    assert "This server is healthy." in page
    assert "storage" in page


async def test_the_api_page_lists_every_operation(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        page = await rendered(server, "/docs", tmp_path / "browser")
        # OpenAPI can't describe a websocket.
        names = [item.name for item in server.app.plugins.endpoints if item.kind != "websocket"]
    missing = [name for name in names if f'id="{name}"' not in page]
    assert missing == []


def test_the_pages_name_no_address_of_another_server() -> None:
    from paddock.resources import page

    for name in ("status.html", "docs.html"):
        assert "://" not in page(name).replace("http://127.0.0.1", "")
