"""An extractor over a model cache, its importer, and pages."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from paddock_extraction.extractor import OnnxExtractor
from paddock_extraction.importer import DocumentModelImporter
from paddock_extraction.settings import ExtractionSettings

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.providers import DocumentCall, FoundDocument, Line, PageImage, PageText, Word

TINY = Path(__file__).parent / "tiny_donut"
Box = tuple[float, float, float, float]


class Desk:
    """Imports models, and asks for pages."""

    def __init__(self, folder: Path, settings: ExtractionSettings) -> None:
        self.folder = folder
        self.cache = HubCache(folder / "hub")
        self.importer = DocumentModelImporter(settings, self.cache)
        self.extractor = OnnxExtractor(settings, self.cache)
        self.words: list[Word] = []

    def take(self, folder: Path, name: str = "org/model") -> Any:
        """Import a model."""
        return self.importer.run(folder, name, None, lambda progress: None)

    def change(self, path: Path, *pairs: tuple[str, str]) -> None:
        """Change the text of a file; each of the old ones must be there."""
        text = path.read_text(encoding="utf-8")
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")

    def page(self, light: int = 255, size: tuple[int, int] = (100, 200)) -> PageImage:
        """A page of one shade."""
        path = self.folder / f"{light}.png"
        PIL.Image.new("L", size, light).save(path)
        return PageImage(number=1, path=path, width=size[0], height=size[1])

    def picture(self, name: str = "receipt") -> PageImage:
        """A page that the tiny Donut knows: receipt or invoice."""
        path = TINY / f"{name}.png"
        with PIL.Image.open(path) as image:
            return PageImage(number=1, path=path, width=image.width, height=image.height)

    def say(self, *words: tuple[str, Box]) -> None:
        """What the OCR engine reads on every page."""
        self.words = [Word(text=text, confidence=1.0, box=box) for text, box in words]

    async def ask(
        self, task: Any = "extraction", *pages: PageImage, prompts: tuple[str, ...] = (), model: str = "org/model"
    ) -> list[FoundDocument]:
        """Do the task for pages (the receipt unless told)."""
        given = pages or (self.picture(),)

        async def words() -> list[PageText]:
            text = " ".join(word.text for word in self.words)
            line = Line(text=text, confidence=1.0, box=(0, 0, 100, 200), words=self.words)
            return [PageText(text=text, confidence=1.0, lines=[line])] * len(given)

        call = DocumentCall(model=model, task=task, pages=given, prompts=prompts, words=words)
        return await self.extractor.extract(call)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A copy of the tiny Donut's folder, to change things in."""
    return shutil.copytree(TINY / "model", tmp_path / "tiny")


@pytest.fixture
def desk_with(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """A desk with these settings."""
    made: list[Desk] = []

    def build(**settings: Any) -> Desk:
        made.append(Desk(tmp_path, ExtractionSettings(**{"threads": 1, **settings})))
        return made[-1]

    yield build
    for desk in made:
        asyncio.run(desk.extractor.close())


@pytest.fixture
def desk(desk_with: Callable[..., Desk]) -> Desk:
    """A desk."""
    return desk_with()
