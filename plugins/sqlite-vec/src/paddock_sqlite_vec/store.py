"""One opened database: SQLite is the truth and answers everything; derived indexes may answer searches first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from paddock.contracts.base import Json
from paddock.contracts.providers import (
    Filters,
    Hit,
    Metric,
    StoredChunk,
    StoredDocument,
    StoredFile,
    StoreStats,
    Vectors,
    VectorStore,
)
from paddock.errors import ValidationFailed
from paddock.storage import Connection, Database
from paddock_sqlite_vec import fast, rows, texts, vectors
from paddock_sqlite_vec.config import dimension_of, metric_of
from paddock_sqlite_vec.filters import Where, compile_filters
from paddock_sqlite_vec.keeper import Keeper
from paddock_sqlite_vec.schema import INDEX_FOLDER, Shape, change_metric, fetch, read_shape, snapshot, value
from paddock_sqlite_vec.settings import SqliteVecSettings
from paddock_sqlite_vec.vectors import Ask


class SqliteVecStore(VectorStore):
    """The store of one project database. Open it with the provider."""

    def __init__(self, database: Database, config: Any) -> None:
        self._database = database
        self._metric: Metric = metric_of(config)
        self._dimension = dimension_of(config)
        self._collection: str = config.collection_name
        self._keeper: Keeper | None = None

    @classmethod
    async def create(cls, database: Database, config: Any, settings: SqliteVecSettings | None) -> SqliteVecStore:
        """Build on an opened file; with settings derived indexes are kept. Another metric has the table built again."""
        self = cls(database, config)
        shape = await database.read(read_shape)
        if shape is not None and shape.metric != self._metric:
            await database.write(partial(change_metric, metric=self._metric))
        if settings is not None:
            self._keeper = Keeper(database, database.path.parent / INDEX_FOLDER, settings)
            self._keeper.start()
        return self

    async def level(self) -> None:
        """Wait until the derived indexes hold all that was stored before, or have given up. Answers never need it."""
        if self._keeper is not None:
            await self._keeper.level()

    def _changed(self) -> None:
        if self._keeper is not None:
            self._keeper.wake()

    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors_: Vectors) -> None:
        """Put a file's chunks in one transaction."""
        array = vectors.check_vectors(vectors_, len(chunks)) if len(chunks) else vectors_
        if len(chunks) and self._dimension not in {None, array.shape[1]}:
            raise ValidationFailed(
                f"the config says dimension {self._dimension}, the vectors have {array.shape[1]}: correct the config "
                "or use the embedder that it was written for"
            )
        await self._database.write(
            partial(rows.store_file, file=file, chunks=chunks, vectors=array, metric=self._metric)
        )
        self._changed()

    async def find_file(self, dataset: str, file_hash: str) -> StoredDocument | None:
        """The stored file, or None."""
        return await self._database.read(partial(rows.find_file, dataset=dataset, file_hash=file_hash))

    async def delete(self, dataset: str, file_hash: str | None = None) -> int:
        """Delete a file's chunks, or a dataset's."""
        count = await self._database.write(partial(rows.remove_files, dataset=dataset, file_hash=file_hash))
        self._changed()
        return count

    async def search_vectors(
        self, vector: Sequence[float] | Vectors, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        """The k nearest, best first; equally near ones in the order in which they were stored."""
        query, where = vectors.check_query(vector), compile_filters(filters)
        return await self._database.read(partial(self._nearest, query=query, k=k, where=where, metric=metric))

    def _nearest(
        self, connection: Connection, query: Vectors, k: int, where: Where, metric: Metric | None
    ) -> list[Hit]:
        shape = _checked_shape(connection, query)
        if shape is None or k < 1:
            return []
        ask = Ask(query, k, metric or self._metric, where)

        def show(found: list[vectors.Near]) -> list[Hit]:
            return rows.hits(connection, [(near.id, vectors.score(near.distance, ask.metric)) for near in found])

        index = self._keeper.vectors if self._keeper else None
        if index is not None and index.shape.metric == ask.metric:
            hits = fast.nearest(connection, index, ask, show)
            if hits is not None:
                return hits
        with snapshot(connection):
            return show(vectors.nearest(connection, shape, ask))

    async def search_text(self, query: str, k: int, filters: Filters | None = None) -> list[Hit]:
        """The k best by BM25. The first 64 different words of a query count."""
        where = compile_filters(filters)
        return await self._database.read(partial(self._rank, query=query, k=k, where=where))

    def _rank(self, connection: Connection, query: str, k: int, where: Where) -> list[Hit]:
        if k < 1:
            return []

        def show(found: list[texts.Found]) -> list[Hit]:
            return rows.hits(connection, [(one.id, texts.score(one.score)) for one in found])

        index = self._keeper.texts if self._keeper else None
        hits = fast.rank(connection, index, query, k, where, show=show) if index is not None else None
        if hits is not None:
            return hits
        with snapshot(connection):
            return show(texts.rank(connection, query, k, where))

    async def documents(self, limit: int, offset: int = 0) -> list[StoredDocument]:
        """Files, newest first."""
        return await self._database.read(partial(rows.documents, limit=limit, offset=offset))

    async def chunks(self, chunk_ids: Sequence[str]) -> list[Hit]:
        """Chunks by id."""
        return await self._database.read(partial(rows.hits_by_name, chunk_ids=chunk_ids))

    async def stats(self) -> StoreStats:
        """Counts, sizes in bytes, and the state of the derived indexes."""
        return await self._database.read(self._stats)

    def _stats(self, connection: Connection) -> StoreStats:
        shape = read_shape(connection)
        files, chunks = fetch(connection, "SELECT count(*), total(chunk_count) FROM files")[0]
        path = self._database.path
        indexes: dict[str, Json] = {"collection_name": self._collection}
        if self._keeper is not None:
            indexes |= self._keeper.states()
        return StoreStats(
            chunks=int(chunks),
            documents=files,
            dimension=shape.dimension if shape else self._dimension,
            metric=self._metric,
            size_bytes=_size(path.parent.glob(f"{path.name}*")),
            index_size_bytes=_size((path.parent / INDEX_FOLDER).rglob("*")),
            last_updated=value(connection, "SELECT at FROM changes ORDER BY seq DESC LIMIT 1"),
            indexes=indexes,
        )

    async def close(self) -> None:
        """Save the derived indexes and close the file; idempotent."""
        if self._keeper is not None:
            await self._keeper.stop()
        await self._database.close()


def _checked_shape(connection: Connection, query: Vectors) -> Shape | None:
    shape = read_shape(connection)
    if shape is not None and shape.dimension != len(query):
        raise ValidationFailed(
            f"the database holds vectors of dimension {shape.dimension}, the query has {len(query)}: "
            "use the embedder that the database was filled with"
        )
    return shape


def _size(paths: Iterable[Path]) -> int:
    """Bytes of files, of which some may go while we look."""
    total = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
