"""Pictures: pages of files, text in pages (OCR), and what documents say (extraction).

Only a `PageRenderer` opens files that came from outside. Engines and extractors get its pages: PNG files, grey or RGB, the
right way up by the camera's note, within the bounds of the settings. Boxes are in pixels of the page.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from paddock.contracts.providers.base import Provider

DocumentTask = Literal["extraction", "vqa", "classification"]


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a file is: its real media type by its bytes, and how many pages it has."""

    mime: str
    pages: int


class PageImage(msgspec.Struct, frozen=True, kw_only=True):
    """One page as a PNG file: its number from 1, size in pixels, pixels per inch where that is known, and the seconds that making
    it took."""

    number: int
    path: Path
    width: int
    height: int
    dpi: int | None = None
    seconds: float = 0.0


class PageRenderer(Provider):
    """Files to pages: PDF, PNG, JPEG, GIF, WebP, BMP, TIFF."""

    @abstractmethod
    async def look(self, path: Path) -> Looked:
        """Find out what the file is without decoding it. Raises BadRequest with a reason for people: not a picture or PDF,
        damaged, encrypted, too many pixels."""

    @abstractmethod
    async def render(self, path: Path, folder: Path, *, number: int, dpi: int) -> PageImage:
        """Write the page with that number (from 1) into `folder`, as a file named after it. `dpi` counts for PDF only. Pages of
        several callers take turns. Raises BadRequest as `look`, for a page that takes too long, and for one that is not there."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word: its text, confidence in [0, 1], and box (left, top, right, bottom)."""

    text: str
    confidence: float
    box: tuple[float, float, float, float]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of text, with its words from left to right."""

    text: str
    confidence: float
    box: tuple[float, float, float, float]
    words: list[Word] = []


class PageText(msgspec.Struct, frozen=True, kw_only=True):
    """The text of one page in the order in which people read it. `lines` are in the same order, their boxes in the page as it
    was given. `turned` is by how many degrees clockwise the page had to be turned to be read."""

    text: str
    confidence: float
    lines: list[Line]
    turned: Literal[0, 90, 180, 270] = 0


class OcrEngine(Provider):
    """Pages to text. `types` are the names of the engine; the engine that is registered first is asked for by default.
    `more_languages` tells people how to install those that are missing, where that is possible."""

    more_languages: str = ""

    @abstractmethod
    async def languages(self) -> dict[str, str]:
        """The languages that are installed: code of ISO 639-1 (``en``, ``de``; ``zh``) to the engine's own name (``eng``). What
        has no such code stands under its own name. Raises ProviderUnavailable when the engine is not installed."""

    @abstractmethod
    async def read(self, pages: Sequence[PageImage], languages: Sequence[str]) -> list[PageText]:
        """Read pages, in order. `languages` are the engine's own names. Cancelling ends the work. Raises ProviderUnavailable,
        BadRequest for a page that can't be read."""


class DocumentCall(msgspec.Struct, frozen=True, kw_only=True):
    """What to find out about pages. `model` is the id of a cached model. `prompts` are the questions of vqa. `words` reads the
    pages with an OCR engine: for models that want to be told what stands where."""

    model: str
    task: DocumentTask
    pages: Sequence[PageImage]
    prompts: Sequence[str]
    words: Callable[[], Awaitable[list[PageText]]]


class FoundField(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a document says; `bbox` where it stands, when the model knows."""

    key: str
    value: str
    confidence: float
    bbox: tuple[float, float, float, float] | None = None


class FoundAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a question."""

    question: str
    answer: str
    confidence: float


class FoundClass(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of document it is, and the scores of all kinds."""

    label: str
    score: float
    all_scores: dict[str, float] = {}


class FoundDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What was found on one page; `text` is what a generating model wrote."""

    confidence: float
    text: str | None = None
    fields: list[FoundField] | None = None
    answers: list[FoundAnswer] | None = None
    classification: FoundClass | None = None


class DocumentExtractor(Provider):
    """Pages to facts."""

    @abstractmethod
    async def models(self) -> list[str]:
        """The ids of the cached models that it can run."""

    @abstractmethod
    async def extract(self, call: DocumentCall) -> list[FoundDocument]:
        """One result for each page, in order. Cancelling ends the work. Raises ModelNotFound (with the command that fetches the
        model), BadRequest for a task that the model can't do or a damaged model, ProviderUnavailable."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a parser wants pictures of text read. `languages` are codes of ISO 639-1 or names of the engine; none for the
    engine's default. `engine` None is the best one that speaks them."""

    languages: Sequence[str] = ()
    engine: str | None = None


class TextReader:
    """OCR for parsers, which work in threads: what `Source.ocr` is."""

    @abstractmethod
    def pages(self, path: Path, numbers: Sequence[int] | None, reading: Reading) -> dict[int, PageText]:
        """Read pages of a file by their numbers from 1 (None: all). Blocks. Raises ValidationFailed with a reason for people,
        ProviderUnavailable when no engine is installed."""
