"""The sqlite-vec store with 100,000 chunks: ingest, vector, full-text and hybrid queries, against its own plain path.

python tests/benchmarks/store_100k.py [--corpus FOLDER] [--chunks 100000] [--dimension 384] [--vectors hashing|clusters]

FOLDER holds Cranfield (cran.all.1400, cran.qry): chunks are made of its sentences and the queries are its own. Without it
words are drawn by Zipf's law. Derived indexes and plain path answer from the same file in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from paddock_sqlite_vec.provider import SqliteVecProvider
from paddock_sqlite_vec.settings import SqliteVecSettings
from paddock_sqlite_vec.store import SqliteVecStore

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.contracts.providers import Hit, StoredChunk, StoredFile, Vectors

QUERIES = 225
FILE = 100  # chunks of one file
WRITERS = 4  # files stored at once
PLAIN_QUERIES = 60  # the plain path is slow; it gets fewer
K = 10


def cranfield(folder: Path) -> tuple[list[str], list[str]]:
    """All sentences of the documents, and the queries."""
    text = (folder / "cran.all.1400").read_text("latin-1")
    bodies = re.findall(r"\.W\n(.*?)(?=\n\.I |\Z)", text, re.DOTALL)
    sentences = [" ".join(one.split()) for body in bodies for one in re.split(r" \.\s", body)]
    queries = re.findall(r"\.W\n(.*?)(?=\n\.I |\Z)", (folder / "cran.qry").read_text("latin-1"), re.DOTALL)
    return [one for one in sentences if len(one) > 20], [" ".join(one.split()) for one in queries]


def zipf(rng: random.Random) -> tuple[list[str], list[str]]:
    """Made-up sentences and queries whose words are as unevenly common as real ones."""
    weights = [1 / rank for rank in range(1, 20_001)]
    words = [f"w{rank:x}" for rank in range(1, 20_001)]
    sentences = [" ".join(rng.choices(words, weights, k=rng.randint(12, 30))) for _ in range(8000)]
    return sentences, [" ".join(rng.choices(words, weights, k=12)) for _ in range(QUERIES)]


def make_texts(sentences: Sequence[str], count: int, rng: random.Random) -> list[str]:
    """Chunks of two to four sentences."""
    return [". ".join(rng.choices(sentences, k=rng.randint(2, 4))) for _ in range(count)]


def clusters(count: int, dimension: int, seed: int) -> Vectors:
    """Vectors around 1000 centres, as embedding models make them."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, dimension)).astype(np.float32)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((count, dimension)).astype(np.float32)
    vectors: Vectors = centres[rng.integers(0, 1000, count)] + noise
    return vectors


async def ingest(store: SqliteVecStore, texts: Sequence[str], embed: Callable[[int, int], Awaitable[Vectors]]) -> None:
    """Store everything in files of 100 chunks, a few at once."""
    starts = iter(range(0, len(texts), FILE))

    async def work() -> None:
        for at in starts:
            part = texts[at : at + FILE]
            stored = StoredFile(
                file_hash=f"{at:064x}",
                dataset=f"set{at // FILE % 10}",
                filename=f"file{at}.txt",
                size=sum(map(len, part)),
                parser="bench",
                token="run",
                ingested_at=time.time(),
            )
            chunks = [
                StoredChunk(
                    chunk_id=f"{at:x}-{index}", index=index, text=text, metadata={"part": index % 7, "kind": "text"}
                )
                for index, text in enumerate(part)
            ]
            await store.replace(stored, chunks, await embed(at, at + len(part)))

    await asyncio.gather(*(work() for _ in range(WRITERS)))


async def median_ms(run: Callable[[int], Awaitable[list[Hit]]], count: int) -> tuple[float, list[list[Hit]]]:
    """The median time of a query in milliseconds after a warm-up, and the answers."""
    for at in range(min(count, 10)):
        await run(at)
    times, answers = [], []
    for at in range(count):
        start = time.perf_counter()
        answers.append(await run(at))
        times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times), answers


def recall(found: Sequence[Sequence[Hit]], exact: Sequence[Sequence[Hit]]) -> float:
    """The share of the exact answers' hits that were found; a hit that is as good as the last one counts."""
    total = 0.0
    for ours, theirs in zip(found, exact, strict=False):
        worst = theirs[-1].score - 1e-6
        total += min(1.0, sum(hit.score >= worst for hit in ours) / len(theirs))
    return total / len(exact)


def line(name: str, *columns: str) -> None:
    """One row of the table."""
    print(f"{name:<34}" + "".join(f"{column:>16}" for column in columns), flush=True)


async def measure(given: argparse.Namespace, folder: Path) -> None:
    """Fill a store, ask it, ask its plain path, and print."""
    rng = random.Random(1)
    sentences, queries = cranfield(given.corpus) if given.corpus else zipf(rng)
    queries, texts = queries[:QUERIES], make_texts(sentences, given.chunks, rng)
    hashing, config = HashingEmbedder(), HashingConfig(dimension=given.dimension)
    prepared = clusters(given.chunks, given.dimension, 1) if given.vectors == "clusters" else None
    asked = clusters(len(queries), given.dimension, 2)
    if prepared is None:
        asked = await hashing.embed(queries, config, "query")

    async def embed(start: int, end: int) -> Vectors:
        return await hashing.embed(texts[start:end], config, "document") if prepared is None else prepared[start:end]

    provider = SqliteVecProvider(SqliteVecSettings())
    store = await provider.open(folder, provider.configure("SqliteVecStore", {}).config)
    start = time.perf_counter()
    await ingest(store, texts, embed)
    stored = time.perf_counter() - start
    await store.level()
    level = time.perf_counter() - start
    line("stored and searchable", f"{given.chunks / stored:,.0f}/s", "goal 2,000/s")
    line("indexes level after", f"{level:.1f} s", f"{given.chunks / level:,.0f}/s")
    await store.close()
    start = time.perf_counter()
    store = await provider.open(folder, provider.configure("SqliteVecStore", {}).config)
    opened = time.perf_counter() - start
    await store.level()
    line("opened; indexes loaded after", f"{opened:.2f} s", f"{time.perf_counter() - start:.2f} s")
    await compare(store, folder, queries, asked)
    stats = await store.stats()
    line("file; indexes", f"{stats.size_bytes / 1e6:,.0f} MB", f"{stats.index_size_bytes / 1e6:,.0f} MB")
    line("peak memory of this process", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    await store.close()


async def compare(store: SqliteVecStore, folder: Path, queries: Sequence[str], asked: Vectors) -> None:
    """Each kind of query on both paths."""
    slow = SqliteVecProvider(SqliteVecSettings(fast=False))
    plain = await slow.open(folder, slow.configure("SqliteVecStore", {}).config)
    narrow: dict[str, Any] = {"part": 3}
    kinds: dict[str, Callable[[SqliteVecStore, int], Awaitable[list[Hit]]]] = {
        "vector (goal 1 ms)": lambda one, at: one.search_vectors(asked[at], K),
        "text (goal 4 ms)": lambda one, at: one.search_text(queries[at], K),
        "hybrid (goal 8 ms over HTTP)": lambda one, at: one.search_hybrid(queries[at], asked[at], K, 0.5),
        "vector, filter allows 1 in 7": lambda one, at: one.search_vectors(asked[at], K, narrow),
        "text, filter allows 1 in 7": lambda one, at: one.search_text(queries[at], K, narrow),
    }
    line("query, k = 10, p50", "indexes", "SQLite alone", "ratio", "same hits")
    for name, run in kinds.items():
        fast, found = await median_ms(lambda at, run=run: run(store, at), len(queries))  # type: ignore[misc]  # mypy infers no type for a default
        slowly, exact = await median_ms(lambda at, run=run: run(plain, at), min(PLAIN_QUERIES, len(queries)))  # type: ignore[misc]  # mypy infers no type for a default
        line(name, f"{fast:.2f} ms", f"{slowly:.1f} ms", f"{slowly / fast:.0f}", f"{recall(found, exact):.4f}")
    await plain.close()


def main() -> None:
    """Read the command line and measure in a folder that is deleted afterwards."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--chunks", type=int, default=100_000)
    options.add_argument("--dimension", type=int, default=384)
    options.add_argument("--vectors", choices=("hashing", "clusters"), default="hashing")
    options.add_argument("--corpus", type=Path, help="folder with cran.all.1400 and cran.qry")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options.parse_args(), Path(folder) / "store"))


if __name__ == "__main__":
    main()
