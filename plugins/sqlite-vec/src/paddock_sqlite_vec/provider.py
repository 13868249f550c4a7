"""Opens and drops the databases."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from importlib import util
from pathlib import Path
from typing import Any

from paddock.contracts.providers import Environment, Health, Metric, VectorStoreProvider
from paddock.storage import Database
from paddock_sqlite_vec.config import TYPES, dimension_of, metric_of, warnings_of
from paddock_sqlite_vec.schema import FILE_NAME, INDEX_FOLDER, MIGRATIONS, setup
from paddock_sqlite_vec.settings import SqliteVecSettings
from paddock_sqlite_vec.store import SqliteVecStore

READERS = 3  # two searches of a hybrid query, and one that feeds the derived indexes


class SqliteVecProvider(VectorStoreProvider):
    """One SQLite file for each project database, with derived indexes beside it when there are many chunks."""

    types = TYPES
    store = SqliteVecStore

    def __init__(self, settings: SqliteVecSettings) -> None:
        self._settings = settings

    @classmethod
    def create(cls, env: Environment) -> SqliteVecProvider:
        """Build from what the core hands over."""
        return cls(env.settings or SqliteVecSettings())

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """Check metric and dimension early, and name values that change nothing."""
        metric_of(config)
        dimension_of(config)
        return warnings_of(config)

    def metric(self, config: Any) -> Metric:
        """The metric that the config asks for."""
        return metric_of(config)

    async def open(self, folder: Path, config: Any) -> SqliteVecStore:
        """Open or create `folder/store.sqlite`."""
        database = await Database.open(folder / FILE_NAME, MIGRATIONS, setup=setup, readers=READERS)
        try:
            return await self.store.create(database, config, self._fast())
        except BaseException:
            await database.close()
            raise

    def _fast(self) -> SqliteVecSettings | None:
        """The settings of the derived indexes; None: there are none."""
        return self._settings if self._settings.fast and not missing_parts() else None

    async def drop(self, folder: Path, config: Any) -> None:  # noqa: ARG002  the contract's signature
        """Delete the file, what SQLite keeps beside it, and the derived indexes; other files stay."""
        await asyncio.to_thread(_delete, folder)

    async def health(self) -> Health:
        """Whether the parts are installed; nothing is imported for it."""
        if util.find_spec("sqlite_vec") is None:
            return Health(status="unhealthy", message="sqlite-vec is not installed: pip install sqlite-vec")
        missing = missing_parts()
        if missing and self._settings.fast:
            text = (
                f"without {' and '.join(missing)}: large databases answer slower; pip install paddock-sqlite-vec[fast]"
            )
            return Health(message=text, details={"fast": False})
        return Health(message="ready", details={"fast": self._settings.fast})


def missing_parts() -> list[str]:
    """The packages of the extra `fast` that are not installed."""
    return [name for name in ("usearch", "tantivy") if util.find_spec(name) is None]


def _delete(folder: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        (folder / (FILE_NAME + suffix)).unlink(missing_ok=True)
    indexes = folder / INDEX_FOLDER
    if indexes.is_symlink():
        indexes.unlink()
    elif indexes.exists():
        shutil.rmtree(indexes)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
