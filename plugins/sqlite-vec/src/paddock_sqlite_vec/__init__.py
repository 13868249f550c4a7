"""The default vector store: sqlite-vec and FTS5 in one file, with derived indexes beside it when it grows."""

from __future__ import annotations

from collections.abc import Sequence

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Environment, VectorStoreProvider
from paddock_sqlite_vec.settings import SqliteVecSettings

__all__ = ["SqliteVecSettings", "plugin"]


class SqliteVecPlugin:
    """The hooks of this plugin."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[SqliteVecSettings]]:
        """The section ``sqlite_vec``."""
        return "sqlite_vec", SqliteVecSettings

    @hookimpl
    def paddock_vector_stores(self, env: Environment) -> Sequence[VectorStoreProvider]:
        """The one store."""
        from paddock_sqlite_vec.provider import SqliteVecProvider  # noqa: PLC0415  importing a plugin is free

        return [SqliteVecProvider.create(env)]


plugin = SqliteVecPlugin()
