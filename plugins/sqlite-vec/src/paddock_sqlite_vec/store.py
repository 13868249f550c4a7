"""One opened database: SQLite is the truth and answers everything; derived indexes may answer searches first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
from paddock_sqlite_vec import rows, texts, vectors
from paddock_sqlite_vec.config import dimension_of, metric_of
from paddock_sqlite_vec.filters import Where, compile_filters
from paddock_sqlite_vec.schema import Shape, change_metric, fetch, read_shape, snapshot, value


class SqliteVecStore(VectorStore):
    """The store of one project database. Open it with the provider."""

    def __init__(self, database: Database, config: Any) -> None:
        self._database = database
        self._metric: Metric = metric_of(config)
        self._dimension = dimension_of(config)
        self._collection: str = config.collection_name

    @classmethod
    async def create(cls, database: Database, config: Any) -> SqliteVecStore:
        """Build on an opened file. A config with another metric than the table's has the table built again."""
        self = cls(database, config)
        shape = await database.read(read_shape)
        if shape is not None and shape.metric != self._metric:
            await database.write(partial(change_metric, metric=self._metric))
        return self

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

    async def find_file(self, dataset: str, file_hash: str) -> StoredDocument | None:
        """The stored file, or None."""
        return await self._database.read(partial(rows.find_file, dataset=dataset, file_hash=file_hash))

    async def delete(self, dataset: str, file_hash: str | None = None) -> int:
        """Delete a file's chunks, or a dataset's."""
        return await self._database.write(partial(rows.remove_files, dataset=dataset, file_hash=file_hash))

    async def search_vectors(
        self, vector: Sequence[float] | Vectors, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        """The k nearest, best first; equally near ones in the order in which they were stored."""
        query, where = vectors.check_query(vector), compile_filters(filters)
        return await self._database.read(partial(self._nearest, query=query, k=k, where=where, metric=metric))

    def _nearest(
        self, connection: Connection, query: Vectors, k: int, where: Where, metric: Metric | None
    ) -> list[Hit]:
        with snapshot(connection):
            shape = _checked_shape(connection, query)
            if shape is None or k < 1:
                return []
            used = metric or self._metric
            found = vectors.nearest(connection, shape, vectors.Ask(query, k, used, where))
            return rows.hits(connection, [(near.id, vectors.score(near.distance, used)) for near in found])

    async def search_text(self, query: str, k: int, filters: Filters | None = None) -> list[Hit]:
        """The k best by BM25. The first 64 different words of a query count."""
        where = compile_filters(filters)
        return await self._database.read(partial(self._rank, query=query, k=k, where=where))

    def _rank(self, connection: Connection, query: str, k: int, where: Where) -> list[Hit]:
        if k < 1:
            return []
        with snapshot(connection):
            found = texts.rank(connection, query, k, where)
            return rows.hits(connection, [(one.id, texts.score(one.score)) for one in found])

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
        sizes = [side.stat().st_size for side in path.parent.glob(f"{path.name}*")]
        indexes: dict[str, Json] = {"collection_name": self._collection}
        return StoreStats(
            chunks=int(chunks),
            documents=files,
            dimension=shape.dimension if shape else self._dimension,
            metric=self._metric,
            size_bytes=sum(sizes),
            index_size_bytes=0,
            last_updated=value(connection, "SELECT at FROM changes ORDER BY seq DESC LIMIT 1"),
            indexes=indexes,
        )

    async def close(self) -> None:
        """Close the file; idempotent."""
        await self._database.close()


def _checked_shape(connection: Connection, query: Vectors) -> Shape | None:
    shape = read_shape(connection)
    if shape is not None and shape.dimension != len(query):
        raise ValidationFailed(
            f"the database holds vectors of dimension {shape.dimension}, the query has {len(query)}: "
            "use the embedder that the database was filled with"
        )
    return shape
