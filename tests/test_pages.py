"""The pages, in a real browser: they render, and load nothing from elsewhere."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

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


async def test_the_status_page_shows_the_parts_of_the_server(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        page = await rendered(server, "/", tmp_path / "browser")
    assert "This server is healthy." in page
    assert "storage" in page


async def test_the_api_page_lists_every_operation(tmp_path: Path) -> None:
    async with running_server(tmp_path / "data", installed=False) as server:
        page = await rendered(server, "/docs", tmp_path / "browser")
        names = [item.name for item in server.app.plugins.endpoints]
    missing = [name for name in names if f'id="{name}"' not in page]
    assert missing == []


def test_the_pages_name_no_address_of_another_server() -> None:
    from paddock.resources import page

    for name in ("status.html", "docs.html"):
        assert "://" not in page(name).replace("http://127.0.0.1", "")
