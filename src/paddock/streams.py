"""The wire kinds: how bytes come in (body, multipart) and go out (whole, streamed, a file), over plain ASGI."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
)
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from paddock.access import Gatekeeper
from paddock.access.gatekeeper import OVER
from paddock.contracts.base import FORM_BYTES, Caller, Download, Reply
from paddock.errors import (
    BadRequest,
    FieldError,
    PaddockError,
    ProviderUnavailable,
    TooLarge,
    Unauthenticated,
    ValidationFailed,
)
from paddock.meter import Meter
from paddock.replies import error_event
from paddock.settings import Auth

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

PIECE = 256 * 1024  # bytes read from a file at once
LINGER = 2.0  # seconds that the rest of a refused body is read away
MAX_PARTS = 1000


class ClientGone(Exception):
    """The client left; there is nobody to answer."""


async def read_body(receive: Receive, headers: Mapping[str, str], limit: int | None) -> bytes:
    """The whole body. Raises TooLarge before reading when Content-Length tells, else as soon as the limit is passed."""
    pieces: list[bytes] = []
    size = 0
    async for piece in body_pieces(receive, headers, limit):
        size += len(piece)
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def body_pieces(receive: Receive, headers: Mapping[str, str], limit: int | None) -> AsyncGenerator[bytes, None]:
    """The body as it arrives, at most `limit` bytes."""
    announced = headers.get("content-length", "")
    if limit is not None and announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"the body has {announced} bytes; at most {limit} are taken here")
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        size += len(piece)
        if limit is not None and size > limit:
            raise TooLarge(f"the body is larger than {limit} bytes, all that is taken here")
        if piece:
            yield piece
        if not message.get("more_body", False):
            return


class BodyWatch:
    """An ASGI `receive` that knows whether the body was read to its end, and can read the rest of it away.

    When an error is answered before the body has arrived, the connection must stay until the client has read the reply:
    a connection that is closed over unread bytes is reset, and the reply is lost with it.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._ended = True
        return message

    async def drain(self) -> None:
        """Read what still comes, for at most `LINGER` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self._ended:
                    await self()


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


async def _wait_gone(receive: Receive, body: Any = None) -> None:
    ended: asyncio.Event | None = getattr(body, "ended", None)
    if ended is not None:
        await ended.wait()  # until then the work itself reads, and hears of it
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        continue


async def while_client_stays(work: Awaitable[T], receive: Receive, hold: Hold, body: Any = None) -> T:
    """Run `work`, and cancel it when the client leaves (then ClientGone is raised) or its credential ends (then
    Unauthenticated is raised). The body must have been read, or `body` is one that is still arriving and has an event
    `ended`.

    A stream goes on with the same watcher: Granian now and then reports a client as gone when a `receive` was cancelled
    and is called again, and the stream would be cut.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_gone(receive, body))
    watching = True
    try:
        with hold.credential(task):
            await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGone
        if task.cancelled() and hold.over:
            raise hold.reason
        result = task.result()
        if isinstance(result, Streamed):
            result.gone, watching = gone, False
        return result
    finally:
        await (settle(task, gone) if watching else settle(task))


async def settle(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait for its end. Raises what goes wrong there: nobody else would hear of it."""
    running = [task for task in tasks if not task.done()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        if error is not None and task in running and not isinstance(error, PaddockError):
            raise error


Headers = Iterable[tuple[bytes, bytes]]


def header_list(media_type: str, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """ASGI's header list; a value that can't stand in a header (line breaks) is refused by encoding it away."""
    items = [(b"content-type", media_type.encode("latin-1", "replace"))]
    items += [(key.lower().encode("latin-1", "replace"), _clean(value)) for key, value in headers.items()]
    return items


def _clean(value: str) -> bytes:
    return re.sub(r"[\r\n\x00]+", " ", value).encode("latin-1", "replace")


class Whole:
    """A reply whose body is at hand: an ASGI application."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, media_type: str, headers: Mapping[str, str]) -> None:
        self.status = status
        self.body = body
        self.headers = header_list(media_type, headers)
        self.headers.append((b"content-length", str(len(body)).encode()))

    def to_asgi_response(self, **_: object) -> Whole:
        """What Litestar asks of the reply of an exception handler."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


class Streaming:
    """The streams that are open, so that a shutdown can end them: Granian waits for them for ever otherwise.

    `patience` is how many seconds a client may leave a piece unread; 0 is for ever.
    """

    def __init__(self, meter: Meter, patience: float = 0) -> None:
        self._meter = meter
        self.patience = patience
        self._open: set[asyncio.Future[None]] = set()
        self._stopping = False

    def stop(self) -> None:
        """End every open stream; each sends its closing piece."""
        self._stopping = True
        for task in self._open:
            task.cancel()

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self._stopping

    @contextlib.contextmanager
    def holding(self, task: asyncio.Future[None]) -> Iterator[None]:
        """Keep a stream's task on the list while it runs; one that comes when the server shuts down ends at once."""
        self._open.add(task)
        self._meter.open_streams += 1
        if self._stopping:
            task.cancel()
        try:
            yield
        finally:
            self._open.discard(task)
            self._meter.open_streams -= 1


class Hold:
    """What ends the work of one request before its time: the shutdown, and the end of the caller's key or token (of none
    without a keeper)."""

    __slots__ = ("_caller", "_keeper", "_streaming")

    def __init__(self, streaming: Streaming, keeper: Gatekeeper | None = None, caller: Caller = Caller()) -> None:  # noqa: B008  frozen
        self._streaming = streaming
        self._keeper = keeper or Gatekeeper(Auth())
        self._caller = caller

    @contextlib.contextmanager
    def holding(self, task: asyncio.Future[None]) -> Iterator[None]:
        """Cancel a stream's or conversation's task when either comes; `reason` tells which it was."""
        with self._streaming.holding(task), self._keeper.holding(self._caller, task):
            yield

    def credential(self, task: asyncio.Future[Any]) -> contextlib.AbstractContextManager[None]:
        """Cancel a task when the credential ends; whole replies may go on while the server shuts down."""
        return self._keeper.holding(self._caller, task)

    @property
    def patience(self) -> float:
        """How many seconds a client may leave a piece unread; 0 is for ever."""
        return self._streaming.patience

    @property
    def over(self) -> bool:
        """Whether the credential was revoked or has expired since the caller was admitted."""
        return not self._keeper.stands(self._caller)

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self._streaming.stopping

    @property
    def reason(self) -> PaddockError:
        """Why the task was cancelled."""
        return Unauthenticated(OVER) if self.over else ProviderUnavailable("the server is shutting down")

    def receiver(self, receive: Receive) -> Receive:
        """A `receive` that raises Unauthenticated when the credential ends while a body is on its way."""
        if self._caller.key_id is None:
            return receive

        async def receiving() -> Message:
            task = asyncio.current_task()
            assert task is not None
            if self.over:
                raise self.reason
            try:
                with self.credential(task):
                    return await receive()
            except asyncio.CancelledError:
                over = not self._keeper.stands(self._caller)
                if over and not task.uncancel():  # nobody else ends the task
                    raise self.reason from None
                raise

        return receiving


class Streamed:
    """A reply that arrives piece by piece: an ASGI application. `first` was fetched before, so errors kept their status."""

    def __init__(self, reply: Reply, first: bytes | None, rest: AsyncIterator[bytes], hold: Hold) -> None:
        self._reply = reply
        self._first = first
        self._rest = rest
        self._hold = hold
        self._events = reply.media_type.startswith("text/event-stream")
        self._sending = 0.0  # since when a piece waits to be read by the client; 0 while the upstream is waited for
        self.gone: asyncio.Future[None] | None = None  # ends when the client leaves, where somebody watches already

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = header_list(self._reply.media_type, self._reply.headers)
            await send({"type": "http.response.start", "status": self._reply.status, "headers": headers})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await self._body(receive, send)
        finally:
            if self.gone is not None:
                await settle(self.gone)
            await _close(self._rest)

    async def _body(self, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(send))
        gone = self.gone or asyncio.ensure_future(_wait_gone(receive))
        try:
            with self._hold.holding(pump):
                await self._watched(pump, gone)
            if pump.done():
                await self._end(pump, send)
        finally:
            await settle(pump, gone)

    async def _watched(self, pump: asyncio.Future[None], gone: asyncio.Future[None]) -> None:
        """Until the stream has ended, or its client has left or reads nothing any more. Looking now and then costs nothing
        for each piece, and a client gets at most a quarter more time than it should."""
        patience = self._hold.patience
        look = patience / 4 or None
        while True:
            done, _ = await asyncio.wait((pump, gone), timeout=look, return_when=asyncio.FIRST_COMPLETED)
            if done or (self._sending and time.monotonic() - self._sending > patience):
                return

    async def _pump(self, send: Send) -> None:
        if self._first is not None:
            clock = time.monotonic
            self._sending = clock()
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            self._sending = 0.0
            async for piece in self._rest:
                self._sending = clock()
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._sending = 0.0

    async def _end(self, pump: asyncio.Future[None], send: Send) -> None:
        last = b""
        if pump.cancelled():
            last = error_event(self._hold.reason) if self._events else b""
        elif (error := pump.exception()) is not None:
            if not isinstance(error, PaddockError) or not self._events:
                raise error
            last = error_event(error)
        await send({"type": "http.response.body", "body": last, "more_body": False})


async def _close(pieces: AsyncIterator[bytes]) -> None:
    close = getattr(pieces, "aclose", None)  # generators have it, other iterators need not
    if close is not None:
        await close()


async def start_stream(reply: Reply, hold: Hold) -> Streamed:
    """Fetch the first piece, so that what fails before it is an ordinary error reply."""
    assert not isinstance(reply.body, bytes)
    rest = aiter(reply.body)
    try:
        first: bytes | None = await anext(rest)
    except StopAsyncIteration:
        first = None
    except BaseException:
        await _close(rest)
        raise
    return Streamed(reply, first, rest, hold)


def file_reply(download: Download) -> Reply:
    """A stored file as an attachment that no browser runs."""
    try:
        size = download.path.stat().st_size
    except FileNotFoundError as error:
        raise BadRequest("the file's bytes are no longer stored") from error
    name = quote(download.filename, safe="")
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Reply(body=_file_pieces(download.path), media_type=download.media_type, headers=headers)


async def _file_pieces(path: Path) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(path.open, "rb") as source:
        while piece := await asyncio.to_thread(source.read, PIECE):
            yield piece
