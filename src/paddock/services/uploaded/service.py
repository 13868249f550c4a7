"""Uploaded files: their rows and bytes, their pages, and their end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from paddock.contracts.base import Caller, Context, Download, Reply, Upload, hookimpl
from paddock.contracts.files import (
    FileDeleted,
    FileImage,
    FileList,
    FileObject,
    FileQuery,
    FileUpload,
    UploadedFileId,
)
from paddock.contracts.providers import Looked
from paddock.errors import BadRequest, FileNotFound, PaddockError, TooLarge
from paddock.services.core import Core
from paddock.services.dataset_files import clean_filename, clean_mime
from paddock.services.forms import flag, number, only, within
from paddock.services.pages import SUPPORTED, Pages, begins_like_pages, is_supported
from paddock.services.stored_bytes import StoredBytes
from paddock.services.uploaded import rows
from paddock.services.uploaded.rows import UploadRow, owner_of, shown
from paddock.storage import Stored, check_name

DPI = 150
DPI_BOUNDS = (36, 600)
AROUND = 1024 * 1024  # bytes that a multipart body may have besides its file
PURPOSE = "user_data"
PURPOSE_LIMIT = 64


class UploadedFiles:
    """Implements contracts/files.py."""

    def __init__(self, core: Core, stored: StoredBytes, pages: Pages, clock: Callable[[], float] = time.time) -> None:
        self._core = core
        self._stored = stored
        self._pages = pages
        self._clock = clock
        self._limits = core.settings.files

    # -- endpoints

    @hookimpl
    async def file_upload(self, ctx: Context, params: FileUpload, data: Upload) -> FileObject:
        announced = ctx.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self._limits.max_bytes + AROUND:
            raise self._too_large()
        async with self._stored.arriving() as arrived:
            stored, filename, mime = await self._receive(data, arrived)
            looked = await self._look(stored, filename, mime)
            row = self._row(owner_of(ctx.caller) or "", stored, filename, mime, looked)
            row = self._as_asked(row, params, data.fields)
            await self._core.state.write(partial(rows.insert, row=row, limits=self._limits))
        return shown(row)

    @hookimpl
    async def file_list(self, ctx: Context, params: FileQuery) -> FileList:
        work = partial(rows.page, query=params, owner=owner_of(ctx.caller), now=self._clock())
        found = await self._core.state.read(work)
        data = [shown(row) for row in found[: params.limit]]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return FileList(data=data, first_id=ends[0], last_id=ends[1], has_more=len(found) > params.limit)

    @hookimpl
    async def file_get(self, ctx: Context, params: UploadedFileId) -> FileObject:
        return shown(await self._find(ctx.caller, params.file_id))

    @hookimpl
    async def file_images(self, ctx: Context, params: UploadedFileId) -> Reply:
        row = await self._find(ctx.caller, params.file_id)
        if row.pages is None or row.dpi is None:
            why = "it was uploaded with convert_pdf=false" if row.pages else f"it is none of {', '.join(SUPPORTED)}"
            raise BadRequest(f"file {row.file_id} has no images: {why}")
        if row.pages > self._limits.max_pages:
            raise TooLarge(
                f"file {row.file_id} has {row.pages} pages; at most {self._limits.max_pages} are shown (files.max_pages)"
            )
        return Reply(body=self._images(ctx.caller, row))

    @hookimpl
    async def file_content(self, ctx: Context, params: UploadedFileId) -> Download:
        row = await self._find(ctx.caller, params.file_id)
        return Download(path=self._core.blobs.path(row.hash), filename=row.filename, media_type=row.mime)

    @hookimpl
    async def file_delete(self, ctx: Context, params: UploadedFileId) -> FileDeleted:
        row = await self._find(ctx.caller, params.file_id)
        await self._core.state.write(partial(rows.delete, file_id=row.file_id))
        await self._stored.drop(row.hash)
        return FileDeleted(id=row.file_id)

    # -- for other services

    @asynccontextmanager
    async def using(self, caller: Caller, file_id: str) -> AsyncIterator[tuple[Path, UploadRow]]:
        """A file's bytes, which stay until the block ends. Raises BadName, FileNotFound."""
        row = await self._find(caller, file_id)
        try:
            with self._stored.holding(row.hash):
                if await self._core.state.read(self._finding(caller, file_id)) is None:
                    raise _not_found(file_id)
                yield self._core.blobs.path(row.hash), row
        finally:
            await self._stored.drop(row.hash)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Delete what expires, from now until the block ends."""
        await asyncio.to_thread(self._pages.prepare)
        await self.sweep()
        sweeping = asyncio.ensure_future(self._sweep_often())
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.wait((sweeping,))

    async def sweep(self) -> int:
        """Delete what has expired; how many files."""
        gone = await self._core.state.write(partial(rows.delete_expired, now=self._clock()))
        for sha256 in set(gone):
            await self._stored.drop(sha256)
        return len(gone)

    # -- inside

    async def _sweep_often(self) -> None:
        while True:
            await asyncio.sleep(min(60, max(1, self._limits.ttl / 4)))
            try:
                await self.sweep()
            except PaddockError as error:  # a full disk: tried again the next time
                self._core.log.event("files_sweep_failed", "error", error=error.message)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the file is larger than {self._limits.max_bytes} bytes, the setting files.max_bytes")

    async def _receive(self, data: Upload, arrived: Callable[[str], None]) -> tuple[Stored, str, str]:
        """The one file of a body, stored, with its name and type. Raises BadRequest, TooLarge."""
        found: tuple[Stored, str, str] | None = None
        async for part in data:
            if part.field != "file" or found is not None:
                raise BadRequest("one file in the form field 'file' is taken: curl -F file=@NAME")
            stored = await self._stored.store(aiter(part), self._limits.max_bytes, arrived, "files.max_bytes")
            name = clean_filename(part.filename)
            found = (stored, name, clean_mime(part.content_type, name))
        if found is None:
            raise BadRequest("the body holds no file: curl -F file=@NAME")
        return found

    async def _look(self, stored: Stored, filename: str, mime: str) -> Looked | None:
        """What a picture or PDF really is, whatever its name; None for anything else. Raises BadRequest when it only calls itself
        one."""
        path = self._core.blobs.path(stored.sha256)
        if not self._pages.available:
            return None
        if is_supported(filename, mime):
            return await self._pages.look(path)
        if not await asyncio.to_thread(begins_like_pages, path):
            return None
        with contextlib.suppress(BadRequest):
            return await self._pages.look(path)
        return None

    def _row(self, owner: str, stored: Stored, filename: str, mime: str, looked: Looked | None) -> UploadRow:
        now = self._clock()
        return UploadRow(
            file_id=rows.new_id(now),
            owner=owner,
            hash=stored.sha256,
            filename=filename,
            mime=looked.mime if looked else mime,
            size=stored.size,
            purpose=PURPOSE,
            created=now,
            expires=now + self._limits.ttl,
            pages=looked.pages if looked else None,
            dpi=DPI if looked else None,
        )

    def _as_asked(self, row: UploadRow, params: FileUpload, fields: dict[str, str]) -> UploadRow:
        """What form and query say besides. Raises BadRequest."""
        only(fields, "purpose", "convert_pdf", "pdf_dpi", "expires_after[anchor]", "expires_after[seconds]")
        purpose = fields.get("purpose", "").strip() or row.purpose
        if len(purpose) > PURPOSE_LIMIT or not purpose.isprintable():
            raise BadRequest(f"purpose is a word of at most {PURPOSE_LIMIT} letters")
        convert = flag(fields, "convert_pdf", True if params.convert_pdf is None else params.convert_pdf)
        dpi = number(fields, "pdf_dpi", DPI if params.pdf_dpi is None else params.pdf_dpi, DPI_BOUNDS)
        dpi = within("pdf_dpi", dpi, DPI_BOUNDS)
        if fields.get("expires_after[anchor]", "created_at") != "created_at":
            raise BadRequest("expires_after[anchor] is created_at")
        longest = max(1, int(self._limits.max_ttl))
        seconds = number(fields, "expires_after[seconds]", min(longest, max(1, int(self._limits.ttl))), (1, longest))
        expires = row.created + seconds if "expires_after[seconds]" in fields else row.expires
        wanted = row.pages is not None and (convert or row.mime != "application/pdf")
        return msgspec.structs.replace(row, purpose=purpose, dpi=dpi if wanted else None, expires=expires)

    def _finding(self, caller: Caller, file_id: str) -> Callable[..., UploadRow | None]:
        return partial(rows.find, file_id=file_id, owner=owner_of(caller), now=self._clock())

    async def _find(self, caller: Caller, file_id: str) -> UploadRow:
        row = await self._core.state.read(self._finding(caller, check_name(file_id, "file id")))
        if row is None:
            raise _not_found(file_id)
        return row

    async def _images(self, caller: Caller, row: UploadRow) -> AsyncIterator[bytes]:
        """The reply `FileImages`, page by page: the pages of a large file never stand in memory together."""
        async with (
            self.using(caller, row.file_id) as (path, _),
            self._pages.of([(path, row.dpi or DPI)]) as pages,
        ):
            head = msgspec.json.encode({"object": "list", "file_id": row.file_id, "data": []})
            yield head[: -len(b"]}")]
            for at, page in enumerate(pages):
                data = await asyncio.to_thread(page.path.read_bytes)
                image = FileImage(index=at, base64=base64.b64encode(data).decode())
                yield (b"," if at else b"") + msgspec.json.encode(image)
            yield b"]}"


def _not_found(file_id: str) -> FileNotFound:
    return FileNotFound(f"File not found: {file_id}; it may have expired: GET /v1/files lists those that are there")
