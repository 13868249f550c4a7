"""From a multipart body to stored bytes and rows. A file is acknowledged when its bytes and its row are on disk."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from paddock.contracts.base import Context, Upload
from paddock.contracts.datasets import UploadReply
from paddock.errors import FieldError, ProviderUnavailable, TooLarge, ValidationFailed
from paddock.services.core import Core
from paddock.services.dataset_files import DatasetFiles, FileRow, Place, clean_filename, new_row

PIECE = 1024 * 1024
_AROUND = 1024 * 1024  # bytes that a multipart body may have besides its file


class Uploads:
    """Receives files."""

    def __init__(self, core: Core, rows: DatasetFiles) -> None:
        self._core = core
        self._rows = rows

    @asynccontextmanager
    async def one(self, place: Place, ctx: Context, data: Upload) -> AsyncIterator[FileRow]:
        """The one file of a body, its bytes stored and held until the block ends; the block writes the row.

        Raises ValidationFailed for a body without exactly one file in the field ``file``, and TooLarge.
        """
        limit = self._core.settings.uploads.max_bytes
        announced = ctx.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit + _AROUND:
            raise TooLarge(f"the file is larger than {limit} bytes, the setting uploads.max_bytes")
        row: FileRow | None = None
        async with self._rows.arriving() as arrived:
            async for part in data:
                _expect(part.field, "file")
                if row is not None:
                    raise ValidationFailed.of([FieldError("file", "only one file here: send several to …/data/bulk")])
                stored = await self._rows.store(aiter(part), arrived)
                row = new_row(place, stored, part.filename, part.content_type)
            if row is None:
                raise ValidationFailed.of([FieldError("file", "the body holds no file: curl -F file=@NAME")])
            yield row

    async def many(
        self, place: Place, data: Upload, keep: Callable[[FileRow], Awaitable[UploadReply]]
    ) -> AsyncIterator[UploadReply]:
        """Every file of a body, each kept as soon as it has arrived whole. One that is refused does not end the others.

        Raises ValidationFailed for a body without files, or damaged; what had arrived before stays.
        """
        count = 0
        async for part in data:
            _expect(part.field, "files")
            count += 1
            async with self._rows.arriving() as arrived:
                try:
                    stored = await self._rows.store(aiter(part), arrived)
                except (TooLarge, ProviderUnavailable) as error:
                    yield _refused(part.filename, error.message)
                    continue
                yield await keep(new_row(place, stored, part.filename, part.content_type))
        if not count:
            raise ValidationFailed.of(
                [FieldError("files", "the body holds no file: curl -F files=@NAME -F files=@NAME")]
            )

    @asynccontextmanager
    async def local(self, place: Place, path: Path) -> AsyncIterator[FileRow]:
        """A file of this machine, its bytes stored and held until the block ends; the block writes the row."""
        async with self._rows.arriving() as arrived:
            stored = await self._rows.store(_pieces(path), arrived)
            yield new_row(place, stored, path.name, mimetypes.guess_type(path.name)[0] or "")


def _expect(field: str, wanted: str) -> None:
    if field not in (wanted, f"{wanted}[]"):
        shown = field[:64].encode("ascii", "backslashreplace").decode()
        raise ValidationFailed.of([FieldError(shown or "file", f"unknown file field; the file belongs in {wanted!r}")])


def _refused(filename: str, reason: str) -> UploadReply:
    return UploadReply(
        filename=clean_filename(filename),
        hash=None,
        processed=False,
        skipped=False,
        status="error",
        task_id=None,
        error=reason,
    )


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as source:
        while piece := await asyncio.to_thread(source.read, PIECE):
            yield piece
