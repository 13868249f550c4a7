"""Files to pages, through the plugin that opens pictures and PDF."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path, PurePosixPath

from paddock.contracts.providers import Looked, PageImage, PageRenderer
from paddock.errors import ProviderUnavailable, TooLarge
from paddock.services.core import Core

SUPPORTED = ("pdf", "png", "jpg", "jpeg", "gif", "webp", "bmp", "tiff", "tif")
_MIMES = frozenset({"application/pdf", "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff"})
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


def ending(filename: str) -> str:
    """The ending of a file name in lower case, without its dot."""
    return PurePosixPath(filename).suffix.lower().lstrip(".")


def begins_like_pages(path: Path) -> bool:
    """Whether the first bytes of a file may be those of a picture or a PDF."""
    with path.open("rb") as file:
        head = file.read(1024)
    return head.startswith(_BEGINNINGS) or b"%PDF-" in head


def is_supported(filename: str, mime: str) -> bool:
    """Whether a file calls itself a picture or a PDF."""
    return ending(filename) in SUPPORTED or mime in _MIMES


@contextmanager
def kept() -> Iterator[None]:
    """The disk's failures as an error that a caller may see."""
    try:
        yield
    except OSError as error:
        raise ProviderUnavailable(f"the pages can't be kept ({error.strerror}): free some space") from error


class Pages:
    """What opens files from outside. Nothing is decoded in the server itself."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._root = core.settings.data_dir / "pages"

    def prepare(self) -> None:
        """At start: an empty folder for pages; what a server that was killed left there is gone."""
        shutil.rmtree(self._root, ignore_errors=True)
        self._root.mkdir(parents=True, exist_ok=True)

    @asynccontextmanager
    async def folder(self) -> AsyncIterator[Path]:
        """A folder of one request, gone at its end. Raises ProviderUnavailable when the disk does not take it."""
        with kept():
            folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="request-", dir=self._root)
        try:
            yield Path(folder)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    @property
    def available(self) -> bool:
        """Whether a plugin opens pictures."""
        return bool(self._core.plugins.page_renderers.all())

    @property
    def renderer(self) -> PageRenderer:
        """The plugin's part. Raises ProviderUnavailable when none is there."""
        found = self._core.plugins.page_renderers.all()
        if not found:
            raise ProviderUnavailable("no loaded plugin opens pictures and PDF: install paddock-ocr")
        return found[0]

    async def look(self, path: Path) -> Looked:
        """What a file is and how many pages it has. Raises BadRequest, ProviderUnavailable."""
        return await self.renderer.look(path)

    @asynccontextmanager
    async def of(self, sources: Sequence[tuple[Path, int]]) -> AsyncIterator[list[PageImage]]:
        """The pages of files (path and resolution of each) in order, as PNG files that go at the end of the block.

        Raises BadRequest for a file that is none, TooLarge for more pages, pixels or work than the settings files.max_pages,
        files.max_pixels and files.max_seconds allow.
        """
        async with self.folder() as folder:
            found: list[PageImage] = []
            for at, (path, dpi) in enumerate(sources):
                own = folder / str(at)
                await asyncio.to_thread(own.mkdir)
                count = (await self.look(path)).pages
                self._check_count(len(found) + count)
                for number in range(1, count + 1):
                    found.append(await self.renderer.render(path, own, number=number, dpi=dpi))
                    self._check_work(found)
            yield found

    def _check_count(self, pages: int) -> None:
        most = self._core.settings.files.max_pages
        if pages > most:
            raise TooLarge(
                f"{pages} pages; at most {most} are taken at once (files.max_pages): split the file, or send fewer"
            )

    def _check_work(self, pages: Sequence[PageImage]) -> None:
        limits = self._core.settings.files
        if sum(page.width * page.height for page in pages) > limits.max_pixels:
            raise TooLarge(
                f"the pages hold more than {limits.max_pixels} pixels together (files.max_pixels): "
                "send fewer pages, or upload the file with a smaller pdf_dpi"
            )
        if sum(page.seconds for page in pages) > limits.max_seconds:
            raise TooLarge(f"the pages take more than {limits.max_seconds:g} s to make (files.max_seconds): send fewer")
