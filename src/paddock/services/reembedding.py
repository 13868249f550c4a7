"""Another embedder for a database that holds chunks: its files are processed anew, as one task with an item for each.

Vectors of two embedders can't be compared, so the old chunks go before the first new one comes. Every item looks whether that
was done: after a crash the task goes on where it was.
"""

from __future__ import annotations

from paddock.contracts.config import ProjectConfig
from paddock.contracts.providers import VectorStore
from paddock.services.dataset_chunks import ChunkRemoval
from paddock.services.ingest import Ingest, ProcessHandler
from paddock.services.keyed_locks import KeyedLocks
from paddock.services.tasks import Item, Outcome, Payload, Task, TaskService

KIND = "reembed_database"
PAGE = 1000


class ReembedHandler(ProcessHandler):
    """Payload: database, strategy (for people). Item payload: dataset, hash, strategy."""

    kind = KIND

    def __init__(self, ingest: Ingest) -> None:
        super().__init__(ingest)
        self._removal = ChunkRemoval(ingest)
        self._emptying = KeyedLocks()

    async def run_item(self, task: Task, item: Item) -> Outcome:
        """Process one file, once the chunks of the embedder before are gone."""
        await self._empty(task)
        return await super().run_item(task, item)

    async def _empty(self, task: Task) -> None:
        place = (task.namespace, task.project, task.payload["database"])
        async with self._emptying.holding(*place):
            async with self._ingest.stores.using(*place) as opened:
                if opened.embedder is not None and opened.space == opened.embedder.fingerprint:
                    return
            config = await self._ingest.files.config(task.namespace, task.project)
            for name in datasets_of(config, task.payload["database"]):
                await self._removal.of_dataset((task.namespace, task.project, name), task.payload["database"])
            async with self._ingest.stores.using(*place) as opened:
                await _remove_rest(opened.store)
            async with self._ingest.stores.filling(*place):
                pass  # from here on the database is the new embedder's

    def message(self, current: int, total: int) -> str:
        """Progress for people."""
        return f"Embedding anew {current}/{total} files"


async def _remove_rest(store: VectorStore) -> None:
    """Chunks of datasets that are no more."""
    while found := await store.documents(PAGE):
        for dataset in {one.file.dataset for one in found}:
            await store.delete(dataset)


def datasets_of(config: ProjectConfig, database: str) -> list[str]:
    """The datasets of a database."""
    return [item.name for item in config.datasets if item.database == database]


class Reembedding:
    """Starts such tasks. Registers their handler."""

    def __init__(self, ingest: Ingest, tasks: TaskService) -> None:
        self._ingest = ingest
        self._tasks = tasks
        tasks.register(ReembedHandler(ingest))

    async def start(self, namespace: str, project: str, database: str) -> str:
        """Process every processed file of the database anew; returns the task's id."""
        config = await self._ingest.files.config(namespace, project)
        items: list[tuple[str, Payload]] = []
        strategies: dict[str, None] = {}
        for dataset in config.datasets:
            if dataset.database != database:
                continue
            strategies[dataset.data_processing_strategy] = None
            items += [
                (
                    row.filename,
                    {"dataset": dataset.name, "hash": row.hash, "strategy": dataset.data_processing_strategy},
                )
                for row in await self._ingest.rows.of_dataset(namespace, project, dataset.name)
                if row.processed_as is not None
            ]
        payload: Payload = {"database": database, "strategy": ", ".join(strategies)}
        return await self._tasks.create(KIND, namespace, project, items, payload=payload)
