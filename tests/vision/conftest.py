"""A server with an engine that reads what it was told, and short forms of what the tests send."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import OcrEngine
from paddock.testing.ocr import WrittenEngine, sample_page
from paddock.testing.server import Answered, RunningServer, running_server


class Written:
    """The plugin of the engine."""

    def __init__(self) -> None:
        self.engine = WrittenEngine(languages=("en", "de"))

    @hookimpl
    def paddock_ocr_engines(self) -> Sequence[OcrEngine]:
        return [self.engine]


class Desk:
    """The running server and its clients."""

    def __init__(self, server: RunningServer, engine: WrittenEngine, page: bytes) -> None:
        self.server = server
        self.ask = server.ask
        self.engine = engine
        self.page = page
        self.text = base64.b64encode(page).decode()

    async def form(
        self, path: str, file: bytes | None = None, name: str = "page.png", key: str = "", **fields: str
    ) -> Answered:
        """Send a form: plain fields, then the file."""
        form = aiohttp.FormData(quote_fields=False, default_to_multipart=True)
        for field, value in fields.items():
            form.add_field(field, value)
        if file is not None:
            form.add_field("file", io.BytesIO(file), filename=name)
        if not fields and file is None:
            form.add_field("nothing", "")
        return await self.server.ask("POST", path, data=form, headers={"X-API-Key": key} if key else {})

    async def upload(self, file: bytes, name: str = "page.png", key: str = "", **fields: str) -> Any:
        """Upload a file; what the server says of it."""
        reply = await self.form("/v1/files", file, name, key, **fields)
        assert reply.status == 200, reply.body
        return reply.json()

    async def ocr(self, **body: Any) -> Answered:
        """Ask for OCR in JSON, by the engine that reads what it was told."""
        return await self.ask("POST", "/v1/ocr", {"model": "written", **body})


@pytest.fixture
def settings() -> Mapping[str, Mapping[str, Any]]:
    """Sections that differ from the defaults. Override it."""
    return {}


@pytest.fixture
async def desk(tmp_path: Path, settings: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Desk]:
    written = Written()
    async with running_server(tmp_path / "data", plugins={"written": written}, settings=settings) as server:
        yield Desk(server, written.engine, sample_page(tmp_path).path.read_bytes())
