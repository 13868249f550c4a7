"""The uploaded bytes and who needs them: rows of datasets and of uploaded files.

Bytes are on disk before the row that needs them, and gone after the last row that did. A crash in between leaves bytes
without a row, which the next start removes; never a row without bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from paddock.services.core import Core
from paddock.storage import Connection, Stored


class StoredBytes:
    """Bytes that come, stay and go. For one event loop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pinned: Counter[str] = Counter()
        self._dropping: set[str] = set()

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[Callable[[str], None]]:
        """While this is open, bytes named by calls of what it yields are not removed: their row is about to be written.
        When it ends with an error, they go unless somebody else needs them."""
        mine: list[str] = []

        def arrived(sha256: str) -> None:
            mine.append(sha256)
            self._pin(sha256)

        try:
            yield arrived
        except BaseException:
            self._release(mine)
            for sha256 in mine:
                await self.drop(sha256)
            raise
        self._release(mine)

    @contextmanager
    def holding(self, sha256: str) -> Iterator[None]:
        """While this is open, the bytes stay although their row may go; call `drop` afterwards."""
        self._pin(sha256)
        try:
            yield
        finally:
            self._release([sha256])

    def _pin(self, sha256: str) -> None:
        self._pinned[sha256] += 1
        self._dropping.discard(sha256)

    def _release(self, hashes: Sequence[str]) -> None:
        self._pinned -= Counter(hashes)

    async def store(
        self,
        pieces: AsyncIterator[bytes],
        limit: int,
        arrived: Callable[[str], None],
        setting: str = "uploads.max_bytes",
    ) -> Stored:
        """Store bytes that arrive, at most `limit`. Raises TooLarge naming the setting, ProviderUnavailable (disk full)."""
        return await self._core.blobs.store(pieces, limit, arrived, setting)

    async def drop(self, sha256: str) -> bool:
        """Delete bytes that no row needs; whether they went. An upload of the same bytes that comes in between keeps them."""
        self._dropping.add(sha256)
        needed = await self._core.state.write(partial(_needed, sha256=sha256))
        # From here on there is no await: nothing of this event loop comes between the look and the deletion.
        undisturbed = sha256 in self._dropping
        self._dropping.discard(sha256)
        if needed or sha256 in self._pinned or not undisturbed:
            return False
        self._core.blobs.delete(sha256)
        return True

    async def sweep(self) -> int:
        """At start: delete bytes that no row needs; returns how many files went."""
        stored = await asyncio.to_thread(lambda: list(self._core.blobs.hashes()))
        known = await self._core.state.read(_hashes)
        orphans = [sha256 for sha256 in stored if sha256 not in known]
        return sum([await self.drop(sha256) for sha256 in orphans])


def _needed(connection: Connection, sha256: str) -> bool:
    asked = "SELECT 1 FROM files WHERE hash = ?1 UNION ALL SELECT 1 FROM uploads WHERE hash = ?1 LIMIT 1"
    return connection.execute(asked, (sha256,)).fetchone() is not None


def _hashes(connection: Connection) -> set[Any]:
    return {row[0] for row in connection.execute("SELECT hash FROM files UNION SELECT hash FROM uploads")}
