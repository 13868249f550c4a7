"""What happens to a database's data when its entry in llamafarm.yaml changes."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.contracts.config import DatabaseConfig, ProjectConfig
from paddock.contracts.providers import VectorStoreProvider
from paddock.errors import Conflict, ProviderUnavailable
from paddock.services.core import Core
from paddock.services.reembedding import Reembedding
from paddock.services.stores import Stores
from paddock.services.tasks import Item, Outcome, Payload, Task, TaskHandler, TaskService

KIND = "rebuild_database"


class RebuildHandler(TaskHandler):
    """Brings a database's data to what its entry says. The store does it when it is opened; this opens it, and looks.

    Payload: database. One item without payload.
    """

    kind = KIND
    cancellable = False

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def run_item(self, task: Task, item: Item) -> Outcome:
        """Open the database as it is configured now. Queries and uploads that come meanwhile wait."""
        async with self._stores.using(task.namespace, task.project, task.payload["database"]) as opened:
            stats = await opened.store.stats()
            if stats.metric != opened.metric:
                raise ProviderUnavailable(
                    f"database {opened.config.name} still measures {stats.metric} instead of {opened.metric}: its store "
                    f"{opened.config.type} can't be rebuilt in place; delete the database and process its datasets again"
                )
        return Outcome(result={"metric": stats.metric, "chunks": stats.chunks})

    def result(self, task: Task, items: Sequence[Item]) -> Payload:
        """The metric and how many chunks have it now."""
        found = (items[0].result if items else None) or {}
        return {
            "message": f"Database {task.payload['database']} rebuilt",
            "database": task.payload["database"],
            **found,
        }

    def message(self, current: int, total: int) -> str:
        """Progress for people."""
        return "Rebuilt" if current == total else "Rebuilding the database"


class DatabaseKeeper:
    """The `Keeper` of the database endpoints. Registers its task handler."""

    def __init__(self, core: Core, stores: Stores, tasks: TaskService, reembedding: Reembedding) -> None:
        self._core = core
        self._stores = stores
        self._tasks = tasks
        self._reembedding = reembedding
        tasks.register(RebuildHandler(stores))

    async def check_change(
        self, namespace: str, project: str, old: DatabaseConfig, new: DatabaseConfig, *, reembed: bool
    ) -> None:
        """Raise Conflict when `new` can't serve what is stored: another store, or another embedder without `reembed`."""
        same_store = self._provider(old) is self._provider(new)
        if same_store and (reembed or self._same_space(old, new)):
            return
        if not await self._stores.filled(namespace, project, old):
            return
        what = "another embedder" if same_store else "another store"
        further = (
            f", or change it by PATCH rag/databases/{old.name} with reembed: true to have that done as a task"
            if same_store
            else ""
        )
        raise Conflict(
            f"database {old.name} holds chunks and can't be given {what}: remove the chunks of its datasets first (action "
            f"delete_dataset_chunks), and process them again afterwards{further}"
        )

    async def check_project(self, namespace: str, project: str, old: ProjectConfig, new: ProjectConfig) -> None:
        """Raise Conflict when a database of the new configuration can't serve what is stored under the old one."""
        databases = {one.name: one for one in new.rag.databases}
        for former in old.rag.databases:
            if (later := databases.get(former.name)) is not None:
                await self.check_change(namespace, project, former, later, reembed=False)

    def _same_space(self, old: DatabaseConfig, new: DatabaseConfig) -> bool:
        """Whether vectors of the new embedder can be compared with those of the old one."""
        before, after = self._stores.bind(old), self._stores.bind(new)
        return before is None or (after is not None and before.fingerprint == after.fingerprint)

    async def carry_out(
        self, namespace: str, project: str, old: DatabaseConfig, new: DatabaseConfig, *, reembed: bool
    ) -> str | None:
        """Have a filled database embedded anew for another embedder, or rebuilt for another metric; returns the task's id,
        or None without need. With `reembed` it is the vectors themselves that are looked at: a change that was saved by a server
        which died before it began the task is made up for."""
        foreign = not self._same_space(old, new) or (reembed and await self._stores.foreign(namespace, project, new))
        if foreign and await self._stores.filled(namespace, project, new):
            return await self._reembedding.start(namespace, project, new.name)
        provider = self._provider(new)
        before, after = (provider.metric(self._stores.configured(config, provider)) for config in (old, new))
        if before == after or not self._stores.exists(namespace, project, new):
            return None
        item: tuple[str, Payload] = (new.name, {})
        return await self._tasks.create(KIND, namespace, project, [item], payload={"database": new.name})

    def _provider(self, config: DatabaseConfig) -> VectorStoreProvider:
        return self._core.plugins.vector_stores.find(config.type)

    async def drop(self, namespace: str, project: str, database: DatabaseConfig) -> bool:
        """Delete the data; whether there was any to delete."""
        found = self._stores.exists(namespace, project, database)
        await self._stores.drop(namespace, project, database)
        return found

    async def release(self, namespace: str, project: str, database: str) -> None:
        """Close the database if it is open; its data stays."""
        await self._stores.close(namespace, project, database)
