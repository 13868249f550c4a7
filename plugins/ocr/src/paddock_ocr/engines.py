"""On the server's side: the renderer and the engines, over helper processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from paddock.builtin.helpers import HelperOptions, HelperPool
from paddock.contracts.providers import (
    Health,
    Looked,
    OcrEngine,
    PageImage,
    PageRenderer,
    PageText,
    TypeName,
    timed_health,
)
from paddock.errors import BadRequest, ProviderUnavailable
from paddock_ocr.languages import PADDLE, by_code
from paddock_ocr.settings import OcrSettings
from paddock_ocr.wire import Look, Read, Render, Request

PADDLE_PARTS = ("rapidocr", "onnxruntime")
Limit = Literal["timeout_seconds", "render_seconds"]
RENDERERS = 2  # helpers: making pages is quick
LISTED = 60.0  # seconds that Tesseract's languages are remembered
LIST_TIMEOUT = 10.0
INSTALL = "install Tesseract (Debian: apt-get install tesseract-ocr), or name it in the setting ocr.tesseract"


def helpers(settings: OcrSettings, most: int, doing: str, time_limit: Limit) -> HelperPool:
    """Helper processes of this plugin; none starts before the first request."""
    threads = {"OMP_NUM_THREADS": str(thread_count(settings)), "OPENBLAS_NUM_THREADS": "1"}
    return HelperPool(
        HelperOptions(
            module="paddock_ocr.worker",
            section="ocr",
            doing=doing,
            memory_mb=settings.memory_mb,
            idle_seconds=settings.idle_seconds,
            refusal=BadRequest,
            most=most,
            environment=threads,
            time_limit=time_limit,
        )
    )


def thread_count(settings: OcrSettings) -> int:
    """Threads of one helper."""
    return settings.threads or os.cpu_count() or 1


class _Helped:
    """Asks helpers within the time that a setting gives them."""

    def __init__(self, settings: OcrSettings, most: int, doing: str, time_limit: Limit) -> None:
        self.settings = settings
        self.pool = helpers(settings, most, doing, time_limit)
        self._seconds: float = getattr(settings, time_limit)

    async def ask(self, request: Request, kind: Any) -> Any:
        """One request. Cancelling ends its helper."""
        found = await self.pool.ask_async(msgspec.json.encode(request), self._seconds)
        return msgspec.json.decode(found, type=kind, dec_hook=lambda wanted, given: wanted(given))  # paths


class Renderer(PageRenderer):
    """PDF by PDFium, pictures by Pillow."""

    types = (TypeName("pages"),)

    def __init__(self, settings: OcrSettings) -> None:
        self._helped = _Helped(settings, RENDERERS, "makes pages", "render_seconds")

    async def look(self, path: Path) -> Looked:
        request = Look(path=str(path), max_pixels=self._helped.settings.max_pixels)
        looked: Looked = await self._helped.ask(request, Looked)
        return looked

    async def render(self, path: Path, folder: Path, *, number: int, dpi: int) -> PageImage:
        most = self._helped.settings.max_pixels
        request = Render(path=str(path), folder=str(folder), number=number, dpi=dpi, max_pixels=most)
        found: PageImage = await self._helped.ask(request, PageImage)
        return found

    async def close(self) -> None:
        await asyncio.to_thread(self._helped.pool.close)


class _Engine(OcrEngine):
    """Base: each page is a request of its own, so that pages of several callers take turns."""

    engine: Literal["paddleocr", "tesseract"]

    def __init__(self, settings: OcrSettings) -> None:
        self._helped = _Helped(settings, settings.workers, "reads pages", "timeout_seconds")

    async def read(self, pages: Sequence[PageImage], languages: Sequence[str]) -> list[PageText]:
        command = await self._command()
        return [await self._helped.ask(self._request(page, languages, command), PageText) for page in pages]

    async def _command(self) -> str:
        """The program that the helper starts, where there is one. Raises ProviderUnavailable when it is missing."""
        return ""

    def _request(self, page: PageImage, languages: Sequence[str], command: str) -> Read:
        settings = self._helped.settings
        return Read(
            path=str(page.path),
            engine=self.engine,
            languages=list(languages),
            threads=thread_count(settings),
            timeout=settings.timeout_seconds,
            dpi=page.dpi,
            command=command,
        )

    async def health(self) -> Health:
        return await timed_health(self._look)

    async def _look(self) -> str:
        return f"languages: {', '.join(sorted(await self.languages()))}"

    async def close(self) -> None:
        await asyncio.to_thread(self._helped.pool.close)


class PaddleEngine(_Engine):
    """PP-OCRv6 on ONNX Runtime: one model for all its languages."""

    types = (TypeName("paddleocr"),)
    engine = "paddleocr"

    async def languages(self) -> dict[str, str]:
        missing = [name for name in PADDLE_PARTS if find_spec(name) is None]
        if missing:
            raise ProviderUnavailable(f"PP-OCR is not installed: pip install {' '.join(missing)}")
        return dict(PADDLE)


class TesseractEngine(_Engine):
    """The system's Tesseract with the languages that are installed for it."""

    types = (TypeName("tesseract"),)
    engine = "tesseract"
    more_languages = "more are packages: apt-get install tesseract-ocr-deu (Debian; the names are those of ISO 639-2)"

    def __init__(self, settings: OcrSettings) -> None:
        super().__init__(settings)
        self._listed: tuple[float, dict[str, str]] | None = None

    async def languages(self) -> dict[str, str]:
        if self._listed is None or time.monotonic() - self._listed[0] > LISTED:
            command = await self._command()
            self._listed = (time.monotonic(), by_code(await asyncio.to_thread(installed_languages, command)))
        return dict(self._listed[1])

    async def _command(self) -> str:
        found = await asyncio.to_thread(shutil.which, self._helped.settings.tesseract)
        if found is None:
            raise ProviderUnavailable(f"Tesseract is not installed: {INSTALL}")
        return found


def installed_languages(command: str) -> list[str]:
    """What ``tesseract --list-langs`` prints. Raises ProviderUnavailable."""
    try:
        done = subprocess.run(  # noqa: S603  a fixed argument list
            [command, "--list-langs"], capture_output=True, check=True, timeout=LIST_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ProviderUnavailable(f"{command} does not list its languages: {INSTALL}") from error
    return [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines()[1:] if line.strip()]
