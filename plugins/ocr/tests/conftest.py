"""The engines and the renderer, and whether Tesseract is there."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paddock_ocr.engines import PaddleEngine, Renderer, TesseractEngine
from paddock_ocr.settings import OcrSettings

from paddock.contracts.providers import PageImage, PageText

SETTINGS = OcrSettings(threads=1)
Read = Callable[..., Awaitable[list[PageText]]]


@pytest.fixture(scope="session")
def paddle() -> Iterator[PaddleEngine]:
    engine = PaddleEngine(SETTINGS)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def tesseract() -> Iterator[TesseractEngine]:
    if shutil.which("tesseract") is None:
        if os.environ.get("CI"):
            pytest.fail("Tesseract is missing: apt-get install tesseract-ocr")
        pytest.skip("Tesseract is not installed")
    engine = TesseractEngine(SETTINGS)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def renderer() -> Iterator[Renderer]:
    found = Renderer(SETTINGS)
    yield found
    asyncio.run(found.close())


@pytest.fixture
def pages_of(renderer: Renderer, tmp_path: Path) -> Callable[..., Awaitable[list[PageImage]]]:
    """The pages of a file with these bytes."""

    async def pages(data: bytes, **given: Any) -> list[PageImage]:
        path, folder = tmp_path / "given", tmp_path / "pages"
        path.write_bytes(data)
        folder.mkdir(exist_ok=True)
        numbers = given.pop("pages", None) or range(1, (await renderer.look(path)).pages + 1)
        return [await renderer.render(path, folder, **{"dpi": 150, "number": number, **given}) for number in numbers]

    return pages
