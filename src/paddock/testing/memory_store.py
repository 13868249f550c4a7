"""MemoryStore: a real vector store in memory, for tests and for trying things out. Exact, small, and forgotten at exit."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import (
    Environment,
    Filters,
    Hit,
    Metric,
    StoredChunk,
    StoredDocument,
    StoredFile,
    StoreStats,
    TypeName,
    Vectors,
    VectorStore,
    VectorStoreProvider,
)
from paddock.errors import FieldError, ValidationFailed

HALF = 5.0  # the BM25 score that becomes 0.5
K1, B = 1.2, 0.75


class MemoryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metric, and the dimension that vectors must have (None: the first ones decide)."""

    metric: Metric = "cosine"
    dimension: int | None = None


class Row(msgspec.Struct, frozen=True):
    """A chunk with its file and its vector."""

    file: StoredFile
    chunk: StoredChunk
    vector: Vectors

    def metadata(self) -> dict[str, Any]:
        """What filters see and hits show."""
        file, chunk = self.file, self.chunk
        named = {"filename": file.filename, "dataset": file.dataset, "page": chunk.page, "chunk_index": chunk.index}
        return {**chunk.metadata, **named}

    def hit(self, score: float) -> Hit:
        """The row as a search result."""
        chunk_id, text = self.chunk.chunk_id, self.chunk.text
        return Hit(
            chunk_id=chunk_id, document_id=self.file.file_hash, content=text, score=score, metadata=self.metadata()
        )


class MemoryStore(VectorStore):
    """Everything in one dict; each change puts a new tuple of rows in place, so readers see whole files."""

    def __init__(self, config: MemoryConfig) -> None:
        self.metric: Metric = config.metric
        self.dimension = config.dimension
        self.files: dict[tuple[str, str], tuple[StoredFile, tuple[Row, ...]]] = {}
        self.last_updated: float | None = None

    def rows(self, filters: Filters | None = None) -> list[Row]:
        """The stored rows that pass the filters."""
        allowed = compile_filters(filters)
        return [row for _, rows in self.files.values() for row in rows if allowed(row)]

    async def replace(self, file: StoredFile, chunks: Sequence[StoredChunk], vectors: Vectors) -> None:
        """Put a file's chunks, in place of its earlier ones."""
        array = check_vectors(vectors, len(chunks), self.dimension) if len(chunks) else vectors
        if len(chunks):
            self.dimension = int(array.shape[1])
        rows = tuple(Row(file, chunk, vector) for chunk, vector in zip(chunks, array, strict=True))
        self.files.pop((file.dataset, file.file_hash), None)
        self.files[file.dataset, file.file_hash] = (file, rows)
        self.last_updated = file.ingested_at

    async def find_file(self, dataset: str, file_hash: str) -> StoredDocument | None:
        """The stored file, or None."""
        found = self.files.get((dataset, file_hash))
        return StoredDocument(file=found[0], chunk_count=len(found[1])) if found else None

    async def delete(self, dataset: str, file_hash: str | None = None) -> int:
        """Delete a file's chunks, or a dataset's."""
        gone = [key for key in self.files if key[0] == dataset and file_hash in {None, key[1]}]
        return sum(len(self.files.pop(key)[1]) for key in gone)

    async def search_vectors(
        self, vector: Sequence[float] | Vectors, k: int, filters: Filters | None = None, metric: Metric | None = None
    ) -> list[Hit]:
        """The k nearest, by looking at all."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        query = check_vectors([vector], 1, self.dimension)[0]
        found = self.rows(filters)
        if not found or k < 1:
            return []
        scores = similarity(np.stack([row.vector for row in found]), query, metric or self.metric)
        order = np.argsort(-scores, kind="stable")[:k]
        return [found[at].hit(float(scores[at])) for at in order]

    async def search_text(self, query: str, k: int, filters: Filters | None = None) -> list[Hit]:
        """The k best by BM25 over words as they stand, without stemming."""
        scores = bm25(query, [words(row.chunk.text) for row in self.rows()])
        allowed = compile_filters(filters)
        scored = [(score, row) for score, row in zip(scores, self.rows(), strict=True) if score > 0 and allowed(row)]
        scored.sort(key=lambda pair: -pair[0])
        return [row.hit(score / (score + HALF)) for score, row in scored[: max(0, k)]]

    async def documents(self, limit: int, offset: int = 0) -> list[StoredDocument]:
        """Files, newest first."""
        found = [StoredDocument(file=file, chunk_count=len(rows)) for file, rows in reversed(self.files.values())]
        found.sort(key=lambda document: -document.file.ingested_at)
        return found[max(0, offset) :][: max(0, limit)]

    async def chunks(self, chunk_ids: Sequence[str]) -> list[Hit]:
        """Chunks by id."""
        by_id = {row.chunk.chunk_id: row for row in self.rows()}
        return [by_id[chunk_id].hit(0.0) for chunk_id in chunk_ids if chunk_id in by_id]

    async def stats(self) -> StoreStats:
        """Counts, and the bytes of texts and vectors."""
        rows = self.rows()
        return StoreStats(
            chunks=len(rows),
            documents=len(self.files),
            dimension=self.dimension,
            metric=self.metric,
            size_bytes=sum(len(row.chunk.text) + 4 * len(row.vector) for row in rows),
            index_size_bytes=0,
            last_updated=self.last_updated,
        )

    async def close(self) -> None:
        """Nothing to close."""


class MemoryStoreProvider(VectorStoreProvider):
    """Keeps its stores by folder, so that one which is opened again holds what it held."""

    types = (TypeName("MemoryStore", MemoryConfig),)

    def __init__(self) -> None:
        self.store: type[MemoryStore] = MemoryStore
        self._stores: dict[Path, MemoryStore] = {}

    async def open(self, folder: Path, config: MemoryConfig) -> MemoryStore:
        """The store of this folder."""
        found = self._stores.setdefault(folder, self.store(config))
        found.metric = config.metric
        return found

    def metric(self, config: MemoryConfig) -> Metric:
        """The metric that this config asks for."""
        return config.metric

    async def drop(self, folder: Path, config: MemoryConfig) -> None:  # noqa: ARG002  the contract's signature
        """Forget the store of this folder."""
        self._stores.pop(folder, None)


class MemoryStorePlugin:
    """Registers MemoryStore: ``Loaded("memory", "0", MemoryStorePlugin())`` in a test."""

    @hookimpl
    def paddock_vector_stores(self, env: Environment) -> Sequence[VectorStoreProvider]:  # noqa: ARG002  the hook's
        """The one store."""
        return [MemoryStoreProvider()]


def check_vectors(vectors: Any, count: int, dimension: int | None) -> Vectors:
    """Return float32 of shape (count, dimension), or raise ValidationFailed."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    try:
        array = np.ascontiguousarray(vectors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationFailed("the vectors are not numbers of one length") from error
    if array.ndim != 2 or len(array) != count or array.shape[1] < 1:
        raise ValidationFailed(f"{count} chunks need vectors of shape ({count}, dimension), not {array.shape}")
    if dimension not in {None, array.shape[1]}:
        raise ValidationFailed(f"the vectors have dimension {array.shape[1]}, the store {dimension}")
    if not bool((np.abs(array) < 1e18).all()):
        raise ValidationFailed("the vectors hold NaN, infinity or numbers too large for float32")
    return array.astype(np.float32)


def similarity(block: Vectors, query: Vectors, metric: Metric) -> Any:
    """The scores of all rows in [0, 1]; float64, so that nearly equal ones keep their order."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    rows, one = block.astype(np.float64), query.astype(np.float64)
    if metric == "l2":
        return 1 / (1 + np.linalg.norm(rows - one, axis=1))
    if metric == "l1":
        return 1 / (1 + np.abs(rows - one).sum(axis=1))
    if metric == "dot":
        return 1 / (1 + np.exp(-np.clip(rows @ one, -700, 700)))
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    return np.clip(rows @ one / np.where(lengths > 0, lengths, 1), 0, 1)


def words(text: str) -> list[str]:
    """Words in lower case."""
    return re.findall(r"\w+", text.lower())


def bm25(query: str, texts: Sequence[Sequence[str]]) -> list[float]:
    """The BM25 score of each text."""
    counts = [Counter(text) for text in texts]
    average = sum(len(text) for text in texts) / (len(texts) or 1)
    scores = [0.0] * len(texts)
    for word in dict.fromkeys(words(query)):
        having = [at for at, count in enumerate(counts) if word in count]
        idf = math.log1p((len(texts) - len(having) + 0.5) / (len(having) + 0.5))
        for at in having:
            often, length = counts[at][word], len(texts[at])
            scores[at] += idf * often * (K1 + 1) / (often + K1 * (1 - B + B * length / average))
    return scores


Check = Callable[[Row], bool]
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "gte": lambda have, wanted: bool(have >= wanted),
    "lte": lambda have, wanted: bool(have <= wanted),
    "gt": lambda have, wanted: bool(have > wanted),
    "lt": lambda have, wanted: bool(have < wanted),
}


def compile_filters(filters: Filters | None) -> Check:
    """A function that tells whether a row passes. Raises ValidationFailed for what no store may accept."""
    checks = list(_checks(filters or {}))
    return lambda row: all(check(row) for check in checks)


def _checks(filters: Filters) -> Iterator[Check]:
    for key, wanted in filters.items():
        if not isinstance(key, str) or not 0 < len(key) <= 256 or not key.isprintable():
            _refuse(str(key), "a metadata key is 1 to 256 printable characters")
        if isinstance(wanted, Mapping):
            if not wanted:
                _refuse(key, "an empty object compares nothing")
            yield from (_operation(key, name, _scalar(key, value)) for name, value in wanted.items())
        elif isinstance(wanted, list | tuple | set | frozenset):
            yield _any_of(key, [_scalar(key, value) for value in wanted])
        else:
            yield _any_of(key, [_scalar(key, wanted)])


def _any_of(key: str, wanted: Iterable[Any]) -> Check:
    values = list(wanted)
    return lambda row: any(_comparable(have(row, key), value) and have(row, key) == value for value in values)


def _operation(key: str, name: Any, wanted: Any) -> Check:
    if name == "ne":
        equal = _any_of(key, [wanted])
        return lambda row: not equal(row)
    if name not in OPERATORS or wanted is None:
        _refuse(key, f"{str(name)[:32]!r} with {wanted!a}: use gte, lte, gt, lt with a number or text, or ne")
    return lambda row: _comparable(have(row, key), wanted) and OPERATORS[name](have(row, key), wanted)


def have(row: Row, key: str) -> Any:
    """The value that a filter key means in this row."""
    return row.file.file_hash if key == "file_hash" else row.metadata().get(key)


def _comparable(have: Any, wanted: Any) -> bool:
    """Text with text, numbers with numbers, nothing with nothing."""
    kinds = (str, (int, float), type(None))
    return any(isinstance(have, kind) and isinstance(wanted, kind) for kind in kinds)


def _scalar(key: str, value: Any) -> Any:
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            _refuse(key, "the text is not valid Unicode")
        return value
    if value is None or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return _refuse(key, "a value is a text, a finite number of 64 bits, true, false or null")


def _refuse(key: str, reason: str) -> Any:
    raise ValidationFailed.of([FieldError(f"filters.{key[:64]}", reason)])
