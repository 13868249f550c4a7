"""Files that stand for themselves: uploaded to be read by OCR or extraction, gone after a time.

The Universal Runtime's and OpenAI's shapes at once. A file belongs to the key that uploaded it; other inference keys do not
see it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Download, Name, Reply, Upload, endpoint
from paddock.errors import (
    BadName,
    BadRequest,
    FileNotFound,
    ProviderUnavailable,
    TooLarge,
    ValidationFailed,
)

UPLOAD_LIMIT = 1 << 40  # bytes of a whole body; the file in it is bounded by the setting files.max_bytes


class FileUpload(msgspec.Struct, frozen=True, kw_only=True):
    """What may stand in the query, or in the form beside the file. `pdf_dpi` is the resolution of the pages of a PDF."""

    convert_pdf: bool | None = None
    pdf_dpi: int | None = None


class FileQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which files to list. `after` is the id of the last file of the page before."""

    purpose: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10_000
    after: str | None = None
    order: Literal["asc", "desc"] = "desc"


class UploadedFileId(msgspec.Struct, frozen=True, kw_only=True):
    """A file by its id."""

    file_id: Name


class FileObject(msgspec.Struct, kw_only=True):
    """A file. `size` and `bytes` are the same number; times are seconds since 1970. `page_count` is null for what has no pages;
    `has_images` tells whether /images gives any. `content_type` is told by the bytes for pictures and PDF, else by the
    uploader."""

    id: str
    object: Literal["file"] = "file"
    filename: str
    content_type: str
    size: int
    bytes: int
    created_at: int
    expires_at: int
    purpose: str
    status: Literal["processed"] = "processed"
    has_images: bool
    page_count: int | None


class FileList(msgspec.Struct, kw_only=True):
    """Files, the newest first unless asked otherwise."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileImage(msgspec.Struct, kw_only=True):
    """One page: its number from 0, and a PNG in base64."""

    index: int
    base64: str


class FileImages(msgspec.Struct, kw_only=True):
    """The pages of a file."""

    object: Literal["list"] = "list"
    file_id: str
    data: list[FileImage]


class FileDeleted(msgspec.Struct, kw_only=True):
    """The file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


@endpoint(
    "POST",
    "/v1/files",
    access="infer",
    api="chat",
    kind="upload",
    tags=("files",),
    raises=(BadRequest, ValidationFailed, TooLarge, ProviderUnavailable),
    body_limit=UPLOAD_LIMIT,
)
def file_upload(ctx: Context, params: FileUpload, data: Upload) -> Awaitable[FileObject]:
    """Store a file (form field ``file``) for a while.

    Form fields: ``purpose`` (any word), ``convert_pdf`` (true; false: no pages are made of it), ``pdf_dpi`` (150),
    ``expires_after[anchor]`` (created_at) and ``expires_after[seconds]``. A file that calls itself a picture or a PDF and is none
    is refused.
    """


@endpoint("GET", "/v1/files", access="infer", api="chat", tags=("files",), raises=(FileNotFound, ValidationFailed))
def file_list(ctx: Context, params: FileQuery) -> Awaitable[FileList]:
    """List the caller's files."""


@endpoint("GET", "/v1/files/{file_id}", access="infer", api="chat", tags=("files",), raises=(BadName, FileNotFound))
def file_get(ctx: Context, params: UploadedFileId) -> Awaitable[FileObject]:
    """Return what is known of one file."""


@endpoint(
    "GET",
    "/v1/files/{file_id}/images",
    access="infer",
    api="chat",
    kind="reply",
    reply=FileImages,
    tags=("files",),
    raises=(BadName, BadRequest, FileNotFound, TooLarge, ProviderUnavailable),
)
def file_images(ctx: Context, params: UploadedFileId) -> Awaitable[Reply]:
    """Return the pages of a file as PNG pictures; 400 for a file that has none."""


@endpoint(
    "GET",
    "/v1/files/{file_id}/content",
    access="infer",
    api="chat",
    kind="download",
    tags=("files",),
    raises=(BadName, FileNotFound),
)
def file_content(ctx: Context, params: UploadedFileId) -> Awaitable[Download]:
    """Send the file's bytes, as an attachment."""


@endpoint("DELETE", "/v1/files/{file_id}", access="infer", api="chat", tags=("files",), raises=(BadName, FileNotFound))
def file_delete(ctx: Context, params: UploadedFileId) -> Awaitable[FileDeleted]:
    """Delete a file."""
