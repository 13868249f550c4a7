"""Stored files as replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from urllib.parse import quote

from paddock.contracts.base import Download, Reply
from paddock.errors import BadRequest

PIECE = 256 * 1024  # bytes read from a file at once


def file_reply(download: Download) -> Reply:
    """A stored file as an attachment that no browser runs; the gate adds ``nosniff`` to it as to every reply."""
    try:
        size = download.path.stat().st_size
    except FileNotFoundError as error:
        raise BadRequest("the file's bytes are no longer stored") from error
    name = quote(download.filename, safe="")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Reply(body=_file_pieces(download.path), media_type=download.media_type, headers=headers)


async def _file_pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(path.open, "rb") as source:
        while piece := await asyncio.to_thread(source.read, PIECE):
            yield piece
