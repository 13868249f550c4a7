"""Multipart bodies, read as they arrive."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from paddock.contracts.base import FORM_BYTES
from paddock.errors import FieldError, TooLarge, ValidationFailed
from paddock.streams.asgi import Receive
from paddock.streams.bodies import body_pieces

MAX_PARTS = 1000


class Part:
    """One file of a multipart body; implements the `UploadedFile` contract."""

    def __init__(self, segment: MultipartSegment, pieces: AsyncIterator[bytes]) -> None:
        self.field: str = segment.name
        self.filename: str = segment.filename or ""
        self.content_type: str = segment.content_type or "application/octet-stream"
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


class MultipartUpload:
    """A multipart body read as it arrives; implements the `Upload` contract. Bounded: parts, headers, plain fields
    (`field_limit` bytes together). `ended` is set when all of it has arrived."""

    def __init__(
        self, receive: Receive, headers: Mapping[str, str], limit: int | None, field_limit: int = FORM_BYTES
    ) -> None:
        kind, options = parse_options_header(headers.get("content-type", ""))
        boundary = options.get("boundary", "")
        if kind.lower() != "multipart/form-data" or not boundary or len(boundary) > 200:
            raise ValidationFailed.of(
                [FieldError("body", "must be multipart/form-data with a file: curl -F file=@NAME")]
            )
        self.fields: dict[str, str] = {}
        self.ended = asyncio.Event()
        self._field_bytes = 0
        self._field_limit = field_limit
        self._body = body_pieces(receive, headers, limit)
        try:
            self._parser = PushMultipartParser(
                boundary, max_segment_count=MAX_PARTS, max_header_count=16, header_charset="utf8", strict=False
            )
        except MultipartError as error:
            raise ValidationFailed.of(
                [FieldError("body", f"the multipart boundary is not allowed: {error}")]
            ) from error
        self._current: MultipartSegment | None = None

    async def _events(self) -> AsyncGenerator[MultipartSegment | bytes | None, None]:
        try:
            async for piece in self._body:
                for event in self._parser.parse(piece):
                    yield bytes(event) if isinstance(event, bytearray) else event
            self.ended.set()
            self._parser.close()
        except ParserLimitReached as error:
            raise TooLarge(f"the multipart body breaks a limit ({MAX_PARTS} parts): {error}") from error
        except MultipartError as error:
            reason = f"the multipart body is damaged or ends early: {error}"
            raise ValidationFailed.of([FieldError("body", reason)]) from error

    async def __aiter__(self) -> AsyncIterator[Part]:
        events = self._events()
        async with contextlib.aclosing(events):
            async for event in events:
                if not isinstance(event, MultipartSegment):
                    continue
                if event.filename is None:
                    await self._field(event, events)
                    continue
                pieces = _until_end(events)
                yield Part(event, pieces)
                async for _ in pieces:  # what the caller left of this part
                    continue

    async def _field(self, segment: MultipartSegment, events: AsyncIterator[Any]) -> None:
        value = bytearray()
        async for piece in _until_end(events):
            value += piece
            self._field_bytes += len(piece)
            if self._field_bytes > self._field_limit:
                raise TooLarge(f"the form fields are larger than {self._field_limit} bytes: send files as file parts")
        try:
            self.fields[segment.name] = value.decode()
        except UnicodeDecodeError as error:
            raise ValidationFailed(f"the form field {segment.name[:64]!r} is not UTF-8") from error


async def _until_end(events: AsyncIterator[Any]) -> AsyncGenerator[bytes, None]:
    async for event in events:
        if event is None:
            return
        yield event
