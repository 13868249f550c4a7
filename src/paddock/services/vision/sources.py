"""Where the pictures of a request come from: a form, base64, an uploaded file."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType

from paddock.contracts.base import Caller, Upload, UploadedFile
from paddock.contracts.providers import PageImage
from paddock.errors import BadRequest, TooLarge
from paddock.services.core import Core
from paddock.services.dataset_files import clean_filename
from paddock.services.forms import listed
from paddock.services.pages import SUPPORTED, Pages, ending, kept
from paddock.services.uploaded import UploadedFiles
from paddock.services.vision.ocr import OCR_DPI

NOTHING = "send a file (form field 'file'), or pictures in base64 ('images')"


class Sources:
    """The pictures of one request; an ``async with`` holds them."""

    def __init__(self, core: Core, pages: Pages, files: UploadedFiles) -> None:
        self._limits = core.settings.files
        self._pages = pages
        self._files = files
        self._stack = AsyncExitStack()
        self._found: list[tuple[Path, int]] = []
        self._folder = Path()

    async def __aenter__(self) -> Sources:
        self._folder = await self._stack.enter_async_context(self._pages.folder())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def take_form(self, data: Upload) -> dict[str, str]:
        """Take file or pictures of a form; its plain fields. Raises BadRequest, TooLarge."""
        async for part in data:
            if part.field != "file" or self._found:
                raise BadRequest("one file in the form field 'file' is taken")
            await self._take_part(part)
        given = data.fields.pop("images", "").strip()
        if given:
            images = listed({"images": given}, "images") if given.startswith("[") else [given]
            await self.take_images(images or [])
        if not self._found:
            raise BadRequest(NOTHING)
        return data.fields

    async def _take_part(self, part: UploadedFile) -> None:
        name = clean_filename(part.filename)
        if ending(name) and ending(name) not in SUPPORTED:
            raise BadRequest(f"files of the kind .{ending(name)[:20]} are not read; supported: {', '.join(SUPPORTED)}")
        path, size = self._next(), 0
        with kept(), await asyncio.to_thread(path.open, "xb") as out:
            async for piece in part:
                size = self._checked(size + len(piece))
                await asyncio.to_thread(out.write, piece)
        self._found.append((path, OCR_DPI))

    async def take_images(self, images: Sequence[str]) -> None:
        """Take pictures in base64 or data URIs. Raises BadRequest, TooLarge."""
        if not images:
            raise BadRequest("images is empty: it lists pictures in base64")
        if len(images) > self._limits.max_pages:
            raise TooLarge(
                f"{len(images)} pictures; at most {self._limits.max_pages} are read at once (files.max_pages)"
            )
        for at, text in enumerate(images):
            path = self._next()
            data = await asyncio.to_thread(decoded, text, f"images[{at}]")
            self._checked(len(data))
            with kept():
                await asyncio.to_thread(path.write_bytes, data)
            self._found.append((path, OCR_DPI))

    async def take(self, caller: Caller, images: Sequence[str] | None, file_id: str | None) -> None:
        """Take the pictures of a JSON body. Raises BadRequest unless it names exactly one kind, FileNotFound."""
        if (images is None) == (file_id is None):
            raise BadRequest("send pictures in base64 ('images'), or the id of an uploaded file ('file_id')")
        if file_id is not None:
            path, row = await self._stack.enter_async_context(self._files.using(caller, file_id))
            self._found.append((path, max(OCR_DPI, row.dpi or 0)))
        else:
            await self.take_images(images or [])

    @asynccontextmanager
    async def pages(self) -> AsyncIterator[list[PageImage]]:
        """All pages, until the block ends. Raises BadRequest, TooLarge."""
        async with self._pages.of(self._found) as found:
            yield found

    def _next(self) -> Path:
        return self._folder / str(len(self._found))

    def _checked(self, size: int) -> int:
        if size > self._limits.max_bytes:
            raise TooLarge(f"the file is larger than {self._limits.max_bytes} bytes, the setting files.max_bytes")
        return size


def decoded(text: str, field: str) -> bytes:
    """The bytes of base64 or of a data URI. Raises BadRequest naming the field."""
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise BadRequest(f"{field} is a data URI without base64: data:image/png;base64,…")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{field} is not base64: {error}") from error
    if not data:
        raise BadRequest(f"{field} is empty")
    return data
