"""Removing chunks: of a file, of a dataset, at once or as a task."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from paddock.services.dataset_files import FileKey, Place, set_all_unprocessed, set_unprocessed
from paddock.services.ingest import Ingest
from paddock.services.tasks import Item, Outcome, Payload, Task, TaskHandler, uninterrupted

KIND = "delete_chunks"


class ChunkRemoval:
    """Removes chunks and notes it in the files' rows. Whoever calls has stopped what would put new ones there."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    async def of_file(self, key: FileKey, database: str) -> int:
        """Remove a file's chunks; returns how many. Waits while the file is being processed."""
        async with self._ingest.locks.holding(*key):
            return await uninterrupted(self._remove(key, database))

    async def _remove(self, key: FileKey, database: str) -> int:
        namespace, project, dataset, sha256 = key
        async with self._ingest.stores.using(namespace, project, database) as opened:
            count = await opened.store.delete(dataset, sha256)
        await self._ingest.core.state.write(partial(set_unprocessed, key=key))
        return count

    async def of_dataset(self, place: Place, database: str) -> int:
        """Remove all chunks of a dataset, those of files that it no longer holds too; returns how many."""
        rows = await self._ingest.rows.of_dataset(*place)
        async with AsyncExitStack() as stack:
            for row in sorted(rows, key=lambda row: row.hash):
                await stack.enter_async_context(self._ingest.locks.holding(*row.key))
            return await uninterrupted(self._remove_all(place, database))

    async def _remove_all(self, place: Place, database: str) -> int:
        namespace, project, dataset = place
        async with self._ingest.stores.using(namespace, project, database) as opened:
            count = await opened.store.delete(dataset)
        await self._ingest.core.state.write(
            partial(set_all_unprocessed, namespace=namespace, project=project, dataset=dataset)
        )
        return count


class DeleteChunksHandler(TaskHandler):
    """Payload: database. One item; its payload holds a hash, or nothing for the whole dataset."""

    kind = KIND
    cancellable = False

    def __init__(self, removal: ChunkRemoval) -> None:
        self._removal = removal

    async def run_item(self, task: Task, item: Item) -> Outcome:
        """Remove the chunks."""
        assert task.dataset is not None
        place, database = (task.namespace, task.project, task.dataset), task.payload["database"]
        file_hash = item.payload.get("hash")
        if file_hash is None:
            count = await self._removal.of_dataset(place, database)
        else:
            count = await self._removal.of_file((*place, file_hash), database)
        return Outcome(result={"deleted_count": count})

    def result(self, task: Task, items: Sequence[Item]) -> Payload:
        """How many chunks went."""
        count = sum((item.result or {}).get("deleted_count", 0) for item in items)
        return {"message": f"Deleted {count} chunk(s)", "deleted_count": count, "database": task.payload["database"]}

    def message(self, current: int, total: int) -> str:
        """Progress for people."""
        return f"Deleting chunks ({current}/{total})"
