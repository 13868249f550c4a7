"""Fetching one file: resumed where it ended, bounded, verified, tried again while it makes progress."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from paddock.errors import ProviderUnavailable, RateLimited, UpstreamError, UpstreamTimeout
from paddock_hub.blobs import PIECE, BlobLock, Mismatch, Partial, is_whole
from paddock_hub.selection import Wanted
from paddock_hub.settings import HubSettings
from paddock_hub.wire import PATIENCE, Bytes, Hub, number

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LOOK = 0.2  # seconds between two looks at a lock that another process holds
GAIN = 1024 * 1024  # bytes that make an attempt count as progress
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_PASSING = (ProviderUnavailable, UpstreamTimeout, RateLimited)
Report = Callable[[int], None]  # is told how many bytes of the file are here


class Refused(UpstreamError):
    """The hub sends something else than it promised: nothing of it is kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 502)


class Transfer:
    """Fetches files of one repository's commit into its folder."""

    def __init__(self, hub: Hub, settings: HubSettings, folder: Path, repo: str, commit: str) -> None:
        self._hub = hub
        self._settings = settings
        self._folder = folder
        self._repo = repo
        self._commit = commit

    async def fetch(self, file: Wanted, report: Report) -> None:
        """Have the blob whole. Raises UpstreamError (it does not have its hash: nothing of it is kept), ProviderUnavailable
        and UpstreamTimeout (what arrived is kept), OSError."""
        blobs = self._folder / "blobs"
        async with self._locked(file):
            if await asyncio.to_thread(is_whole, blobs, file):
                return
            partial = await asyncio.to_thread(Partial, blobs, file)
            try:
                await self._verified(partial, file, report)
            except OSError:
                await asyncio.to_thread(partial.drop)  # the disk is full: the rest of the server needs the space
                raise
            finally:
                await asyncio.to_thread(partial.close)

    async def _verified(self, partial: Partial, file: Wanted, report: Report) -> None:
        try:
            while True:
                await self._all(partial, file, report)
                try:
                    return await asyncio.to_thread(partial.keep)
                except Mismatch:
                    if not partial.resumed:
                        raise
                    await asyncio.to_thread(
                        partial.reset
                    )  # what an earlier attempt left was wrong: once more from its start
        except (Mismatch, UpstreamError) as error:
            await asyncio.to_thread(partial.drop)
            if isinstance(error, UpstreamError):
                raise
            raise UpstreamError(
                f"what {self._hub.where} sent as {file.name} does not have the promised hash: it was deleted; try again",
                502,
            ) from error

    async def _all(self, partial: Partial, file: Wanted, report: Report) -> None:
        """Have all bytes here, in as many attempts as it takes while they make progress."""
        failures = 0
        while partial.size < file.size:
            before = partial.size
            try:
                await self._attempt(partial, file, report)
            except _PASSING as error:
                failures = 0 if partial.size - before >= GAIN else failures + 1
                if failures > self._settings.retries:
                    if isinstance(error, RateLimited):
                        raise
                    what = error.message.partition(": try again")[0]
                    raise type(error)(f"{what}: try again, {file.name} goes on where it ended") from error
                await asyncio.sleep(self._wait(error, failures))

    def _wait(self, error: Exception, failures: int) -> float:
        asked = number(error.headers.get("Retry-After")) if isinstance(error, RateLimited) else None
        if asked is not None:
            return min(float(asked), PATIENCE)
        return min(self._settings.retry_delay * 2.0 ** min(failures, 10), PATIENCE)

    async def _attempt(self, partial: Partial, file: Wanted, report: Report) -> None:
        start = partial.size
        async with self._hub.bytes_of(self._repo, self._commit, file.name, start) as got:
            check_identity(got, file)
            if got.reply.status == 416 or (start and got.reply.status != 206):
                await asyncio.to_thread(partial.reset)
                if got.reply.status == 416:
                    raise ProviderUnavailable(f"{self._hub.where} does not resume {file.name}: it begins again")
            check_range(got, partial.size, file)
            await self._receive(got, partial, file, report)

    async def _receive(self, got: Bytes, partial: Partial, file: Wanted, report: Report) -> None:
        """Write what arrives, a piece at a time; also what arrived before a break."""
        buffer = bytearray()
        pieces = cast("AsyncGenerator[bytes, None]", got.reply.chunks())
        try:
            async with aclosing(pieces):
                while piece := await self._next(pieces, file):
                    buffer += piece
                    if partial.size + len(buffer) > file.size:
                        buffer.clear()
                        raise Refused(f"{self._hub.where} sends more of {file.name} than its size: it was deleted")
                    if len(buffer) >= PIECE:
                        data, buffer = bytes(buffer), bytearray()
                        await asyncio.to_thread(partial.write, data)
                        report(partial.size)
        finally:
            if buffer:
                await asyncio.shield(asyncio.to_thread(partial.write, bytes(buffer)))
                report(partial.size)
        if partial.size < file.size:
            raise ProviderUnavailable(f"{self._hub.where} ended {file.name} too early: try again")

    async def _next(self, pieces: AsyncGenerator[bytes, None], file: Wanted) -> bytes:
        try:
            async with asyncio.timeout(self._settings.stall_timeout):
                return await anext(pieces, b"")
        except TimeoutError as error:
            seconds = f"{self._settings.stall_timeout:g} seconds"
            raise UpstreamTimeout(f"{self._hub.where} sent nothing of {file.name} for {seconds}: try again") from error

    @asynccontextmanager
    async def _locked(self, file: Wanted) -> AsyncIterator[None]:
        """Hold the blob's lock; wait for another process that fetches the same one."""
        lock = await asyncio.to_thread(BlobLock, self._folder.parent, self._folder, file.etag)
        try:
            while not lock.take():  # noqa: ASYNC110  another process holds it: nothing here could set an event
                await asyncio.sleep(LOOK)
            yield
        finally:
            lock.release()


def check_identity(got: Bytes, file: Wanted) -> None:
    """Raise Refused when the hub's own headers tell of another file than its description."""
    named = got.etag if got.etag and len(got.etag) == len(file.etag) else None
    if named not in (None, file.etag) or got.size not in (None, file.size):
        raise Refused(f"the hub's {file.name} is another than it described: try again")


def check_range(got: Bytes, start: int, file: Wanted) -> None:
    """Raise Refused when the reply is not the rest of the file."""
    length = number(got.reply.headers.get("Content-Length"))
    if got.reply.status == 206:
        found = _RANGE.fullmatch(got.reply.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != start or found[3] not in ("*", str(file.size)):
            raise Refused(f"the hub resumes {file.name} at another place than asked: it was deleted")
    if length is not None and length != file.size - start:
        raise Refused(f"the hub announces another size of {file.name} than it described: nothing was kept")
