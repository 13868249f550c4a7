"""The derived index of vectors: usearch's HNSW graph over rounded copies, whose finds are measured again exactly.

usearch allows neither two searches nor a search and an addition at the same moment (they share buffers), so each goes
alone; additions come in small portions, and a search waits for one of them at most. Nothing is ever removed: dead ids
are dropped by whoever asks, and when too many are dead the index is built again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from paddock.contracts.providers import Metric, Vectors
from paddock.storage.files import fsync_folder
from paddock_sqlite_vec.derived import BATCH, Damaged, Derived, Manifest
from paddock_sqlite_vec.schema import Shape
from paddock_sqlite_vec.vectors import as_array

# usearch's name of the metric, and how it keeps the vectors. Bytes are as good as bfloat16 when the finds are measured
# again (recall@10 of k + 12 finds among 100,000: 0.993 and 0.998), and twice as fast, but they keep directions only.
METRICS: dict[Metric, tuple[str, str]] = {"cosine": ("cos", "i8"), "l2": ("l2sq", "bf16")}
CONNECTIVITY, EXPANSION_ADD, EXPANSION_SEARCH = 32, 128, 224
PORTION = 32  # vectors added while searches wait
SUFFIX = ".usearch"


class Hnsw(Derived):
    """Approximate nearest vectors."""

    name = "vectors"
    rows_sql = (
        "SELECT v.rowid, v.embedding FROM chunks c CROSS JOIN vectors v ON v.rowid = c.id "
        "WHERE c.id BETWEEN ? AND ? AND NOT c.zero ORDER BY c.id"
    )

    def __init__(self, root: Path, shape: Shape) -> None:
        self._kind, self._dtype = METRICS[shape.metric]
        super().__init__(root, f"usearch {self._dtype} {CONNECTIVITY} {shape.metric} {shape.dimension}")
        self.shape = shape
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._index: Any = None

    def __len__(self) -> int:
        return 0 if self._index is None else len(self._index)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the index; who waits here is next, so that additions can't shut out a search."""
        with self._turn:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    def clear(self) -> None:
        """An empty graph."""
        from usearch.index import Index  # noqa: PLC0415  heavy: on first use

        self._index = Index(
            ndim=self.shape.dimension,
            metric=self._kind,
            dtype=self._dtype,
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add vectors, in portions; on half of the processors, or on all while many wait."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        processors = os.cpu_count() or 1
        threads = processors if len(rows) == BATCH else max(1, processors // 2)
        for at in range(0, len(rows), PORTION):
            portion = rows[at : at + PORTION]
            ids = np.array([row[0] for row in portion], dtype=np.uint64)
            vectors = as_array([row[1] for row in portion], self.shape.dimension)
            with self._alone():
                self._index.add(ids, vectors, threads=threads)

    def remove(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Nothing: see the module's text."""

    def finish(self) -> None:
        """Nothing: additions are visible at once."""

    def again(self) -> Hnsw:
        """An empty graph; the files are left alone until it is saved."""
        fresh = Hnsw(self.folder.parent, self.shape)
        fresh.clear()
        return fresh

    def wasteful(self, live: int) -> bool:
        """More than a third is dead."""
        return len(self) > live * 1.5 + 1000

    def search(self, query: Vectors, count: int, width: int = EXPANSION_SEARCH) -> list[int]:
        """The ids of about the `count` nearest; some may be of chunks that are gone. A greater `width` finds them more
        surely, and takes longer."""
        with self._alone():
            if not len(self._index):
                return []
            self._index.expansion_search = max(EXPANSION_SEARCH, width)
            found: list[int] = self._index.search(query, min(count, len(self._index)), threads=1).keys.tolist()
        return found

    def restore(self, manifest: Manifest) -> None:
        """Read the graph into memory."""
        (name,) = manifest.files
        self.clear()
        self._index.load(str(self.folder / name))
        if self._index.ndim != self.shape.dimension:
            raise Damaged(f"{name} is not an index of dimension {self.shape.dimension}")

    def write(self) -> Iterable[str]:
        """Write the graph under a new name; usearch itself would write over the old file."""
        name = f"{self.position.seq}-{self.position.top}-{secrets.token_hex(4)}{SUFFIX}"
        temporary = self.folder / f".{name}.tmp"
        self._index.save(str(temporary))  # only reads; additions come from the same thread
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)
        fsync_folder(self.folder)
        return [name]

    def tidy(self, files: Iterable[str]) -> None:
        """Delete earlier graphs and unfinished ones."""
        keep = set(files)
        for path in self.folder.iterdir():
            if path.name not in keep and path.name.removesuffix(".tmp").endswith(SUFFIX):
                path.unlink()
