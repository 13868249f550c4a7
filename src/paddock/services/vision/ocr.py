"""Which OCR engine reads what, and OCR for parsers."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import NamedTuple

from paddock.contracts.providers import OcrEngine, PageImage, PageText, Reading, TextReader
from paddock.errors import BadRequest, ModelNotFound, NotFound, PaddockError, ProviderUnavailable, ValidationFailed
from paddock.services.core import Core
from paddock.services.pages import Pages

# Engines of the Universal Runtime that nobody provides here: they stand for the best one that speaks the languages, and for the
# next best where that finds nothing.
STAND_INS = ("surya", "easyocr", "auto")
DEFAULT_LANGUAGES = ("en",)
OCR_DPI = 200


class Chosen(NamedTuple):
    """An engine, and the languages by its own names."""

    engine: OcrEngine
    languages: list[str]


class ReadPage(NamedTuple):
    """The text of a page and who read it."""

    text: PageText
    by: Chosen


class Ocr:
    """Over the engines that plugins provide."""

    def __init__(self, core: Core) -> None:
        self._plugins = core.plugins
        self._pages = Pages(core)

    async def choose(self, model: str | None, languages: Sequence[str]) -> list[Chosen]:
        """Whom to ask, the best first: the engine of that name; for a stand-in or None all that speak the languages
        (`DEFAULT_LANGUAGES` without any). Raises ModelNotFound, BadRequest for languages that are not installed,
        ProviderUnavailable."""
        engines = self._plugins.ocr_engines
        if not engines.all():
            raise ProviderUnavailable("no loaded plugin reads text in pictures: install paddock-ocr")
        wanted = [item.strip() for item in languages if item.strip()] or list(DEFAULT_LANGUAGES)
        named = engines.get(model) if model is not None else None
        if named is not None:
            return [Chosen(named, await _spoken(named, wanted))]
        if model is not None and model not in STAND_INS:
            raise self._unknown(model)
        found: list[Chosen] = []
        reasons: list[PaddockError] = []
        for engine in engines.all():
            try:
                found.append(Chosen(engine, await _spoken(engine, wanted)))
            except (BadRequest, ProviderUnavailable) as error:
                reasons.append(error)
        if not found:
            down = all(isinstance(error, ProviderUnavailable) for error in reasons)
            kind = ProviderUnavailable if down else BadRequest
            raise kind("no engine reads this: " + "; ".join(error.message for error in reasons)) from reasons[-1]
        return found

    async def read(self, chosen: Sequence[Chosen], pages: Sequence[PageImage]) -> list[ReadPage]:
        """Read pages, in order. What the first engine finds nothing on, or fails at, the next one is asked to read; when none
        finds anything, the first one's word counts. Raises as `OcrEngine.read`."""
        return [await _read_page(chosen, page) for page in pages]

    def _unknown(self, model: str) -> ModelNotFound:
        known = [*self._plugins.ocr_engines.names(), *STAND_INS]
        near = difflib.get_close_matches(model, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        shown = model[:64].encode("ascii", "backslashreplace").decode()
        return ModelNotFound(f"there is no OCR engine {shown!r}{hint} Known: {', '.join(known)}")

    async def read_file(self, path: Path, numbers: Sequence[int] | None, reading: Reading) -> dict[int, PageText]:
        """Pages of a file by number; all of them without `numbers`. Raises as `choose`, and BadRequest for the file."""
        chosen = await self.choose(reading.engine, reading.languages)
        there = range(1, (await self._pages.look(path)).pages + 1)
        found: dict[int, PageText] = {}
        for number in there if numbers is None else [number for number in numbers if number in there]:
            async with self._pages.folder() as folder:
                page = await self._pages.renderer.render(path, folder, number=number, dpi=OCR_DPI)
                found[number] = (await _read_page(chosen, page)).text
        return found


async def _read_page(chosen: Sequence[Chosen], page: PageImage) -> ReadPage:
    first: ReadPage | PaddockError | None = None
    for one in chosen:
        outcome: ReadPage | PaddockError
        try:
            (text,) = await one.engine.read([page], one.languages)
        except (BadRequest, ProviderUnavailable) as error:
            outcome = error
        else:
            outcome = ReadPage(text, one)
            if text.text.strip():
                return outcome
        first = first or outcome
    if not isinstance(first, ReadPage):
        raise first or ProviderUnavailable("no engine was asked")
    return first


async def _spoken(engine: OcrEngine, wanted: Sequence[str]) -> list[str]:
    """The languages by the engine's own names. Raises BadRequest naming those that are not installed."""
    installed = await engine.languages()
    found = {item: _own(item, installed) for item in wanted}
    missing = [item[:32].encode("ascii", "backslashreplace").decode() for item, own in found.items() if own is None]
    if missing:
        known = ", ".join(sorted(installed))
        more = f"; {engine.more_languages}" if engine.more_languages else ""
        raise BadRequest(f"{engine.name} has no language {', '.join(missing)}; installed: {known}{more}")
    return list(dict.fromkeys(own for own in found.values() if own is not None))


def _own(wanted: str, installed: Mapping[str, str]) -> str | None:
    """One language by the engine's own name: by code, by that name, or by the code before its country (en-US)."""
    code = wanted.lower().replace("_", "-")
    if code in installed:
        return installed[code]
    if wanted in installed.values():
        return wanted
    return installed.get(code.partition("-")[0])


class ThreadReader(TextReader):
    """OCR for parsers in their threads, done by the event loop."""

    def __init__(self, ocr: Ocr, loop: asyncio.AbstractEventLoop) -> None:
        self._ocr = ocr
        self._loop = loop

    def pages(self, path: Path, numbers: Sequence[int] | None, reading: Reading) -> dict[int, PageText]:
        """See `TextReader.pages`."""
        work = self._ocr.read_file(path, numbers, reading)
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except (BadRequest, NotFound) as error:
            raise ValidationFailed(error.message) from error
        except (CancelledError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not self._loop.is_closed():
                raise
            raise ProviderUnavailable("the server is stopping") from error
