"""Retrieval quality on the Cranfield collection: 1,400 abstracts on aerodynamics, 225 questions, judged by people.

    python tests/benchmarks/cranfield.py FOLDER [--chunk-size 1000] [--alpha 0.25]

FOLDER holds cran.all.1400, cran.qry and cranqrel. Prints nDCG@10 of BM25 alone, of the hashing embedder alone and of the
default hybrid, all through the real store, with its derived indexes and without. The gain of a document is 2^g - 1 with
g = 4, 3, 2, 1 for the judgements 1, 2, 3, 4 and 0 otherwise; a document ranks where its best chunk does.
Ends with status 1 when a figure is below its goal.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.contracts.providers import Query, StoredChunk, StoredFile, VectorStore
from paddock.contracts.providers.fusion import DEFAULT_ALPHA
from paddock.testing.retrieval import StoreTools

K = 10
FETCHED = 50  # chunks, from which the first ten documents are taken
GOALS = {"vectors": 0.26, "hybrid": 0.35}
GAINS = {1: 4, 2: 3, 3: 2, 4: 1}
Find = Callable[[str], Awaitable[list[str]]]  # a question to the documents of its chunks, best first


class Collection(NamedTuple):
    """Documents by number, questions in the order of the file, and for each question (from 1) the gains by document."""

    documents: dict[str, str]
    questions: list[str]
    gains: dict[int, dict[str, int]]


def read(folder: Path) -> Collection:
    """The collection. Questions count from 1 in the order of the file, whatever their own numbers are."""
    documents = {number: f"{part['T']}\n{part['W']}" for number, part in records(folder / "cran.all.1400")}
    questions = [part["W"] for _, part in records(folder / "cran.qry")]
    gains: dict[int, dict[str, int]] = {}
    for line in (folder / "cranqrel").read_text("latin-1").splitlines():
        question, document, judgement = line.split()
        gains.setdefault(int(question), {})[document] = GAINS.get(int(judgement), 0)
    return Collection(documents, questions, gains)


def records(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The records of a file: number and parts by letter; white space is one space."""
    found = []
    for record in re.split(r"^\.I ", path.read_text("latin-1"), flags=re.MULTILINE)[1:]:
        number, _, rest = record.partition("\n")
        pieces = re.split(r"^\.([TABW])[ ]*\n", rest, flags=re.MULTILINE)
        parts = {letter: " ".join(text.split()) for letter, text in zip(pieces[1::2], pieces[2::2], strict=True)}
        found.append((number.strip(), {"T": "", "W": ""} | parts))
    return found


async def rank(questions: Sequence[str], find: Find) -> list[list[str]]:
    """For each question the documents in order, each once."""
    return [list(dict.fromkeys(await find(question))) for question in questions]


def score(rankings: Sequence[Sequence[str]], gains: Mapping[int, Mapping[str, int]]) -> float:
    """The mean nDCG@10 over all questions."""
    return sum(ndcg(ranking, gains.get(at, {})) for at, ranking in enumerate(rankings, 1)) / len(rankings)


def ndcg(ranking: Sequence[str], gains: Mapping[str, int]) -> float:
    """Discounted gain over that of the best possible order."""
    best = discounted(sorted(gains.values(), reverse=True))
    return discounted([gains.get(document, 0) for document in ranking]) / best if best else 0.0


def discounted(gains: Sequence[int]) -> float:
    """The sum of 2^g - 1 over the logarithm of the rank."""
    return sum((2.0**gain - 1) / math.log2(at + 2) for at, gain in enumerate(gains[:K]))


def split(text: str, size: int) -> list[str]:
    """Chunks of at most `size` characters; 0: the whole text."""
    from semantic_text_splitter import TextSplitter

    return (TextSplitter(size).chunks(text) if size else [text]) or [text]


@asynccontextmanager
async def stored(collection: Collection, chunk_size: int, *, fast: bool) -> AsyncIterator[VectorStore]:
    """The collection in the default store."""
    from paddock_sqlite_vec.config import SqliteVecConfig
    from paddock_sqlite_vec.provider import SqliteVecProvider
    from paddock_sqlite_vec.settings import SqliteVecSettings

    provider = SqliteVecProvider(SqliteVecSettings(fast=fast, fast_above=0))
    with tempfile.TemporaryDirectory(prefix="cranfield-") as folder:
        store = await provider.open(Path(folder) / "store", SqliteVecConfig())
        try:
            await fill(store, collection, chunk_size)
            await store.level()
            yield store
        finally:
            await store.close()


async def fill(store: VectorStore, collection: Collection, chunk_size: int) -> None:
    """Store all documents, each as a file."""
    embedder, config = HashingEmbedder(), HashingConfig()
    for number, text in collection.documents.items():
        texts = split(text, chunk_size)
        chunks = [StoredChunk(chunk_id=f"{number}-{at}", index=at, text=part) for at, part in enumerate(texts)]
        file = StoredFile(
            file_hash=number, dataset="d", filename=number, size=len(text), parser="-", token="", ingested_at=0.0
        )
        await store.replace(file, chunks, await embedder.embed(texts, config, "document"))


def finder(store: VectorStore, strategy: str, alpha: float | None = None) -> Find:
    """A strategy over a store."""
    tools = StoreTools(store)

    async def find(question: str) -> list[str]:
        found = await tools.run(strategy, {}, Query(text=question, top_k=FETCHED, alpha=alpha))
        return [hit.document_id for hit in found.hits]

    return find


async def in_process(collection: Collection, arguments: argparse.Namespace, *, fast: bool) -> bool:
    """Print the three figures and their ratios; False when one is below its goal."""
    async with stored(collection, arguments.chunk_size, fast=fast) as store:
        runs = {
            "bm25": finder(store, "bm25"),
            "vectors": finder(store, "semantic"),
            "hybrid": finder(store, "hybrid", arguments.alpha),
        }
        figures = {}
        for name, find in runs.items():
            start = time.perf_counter()
            figures[name] = score(await rank(collection.questions, find), collection.gains)
            each = (time.perf_counter() - start) / len(collection.questions) * 1000
            ratio = figures[name] / figures["bm25"]
            print(
                f"{'derived indexes' if fast else 'tables alone':16} {name:8} nDCG@10 {figures[name]:.4f}  "
                f"{ratio:.3f} of BM25  {each:.1f} ms a query"
            )
    return figures["hybrid"] >= figures["bm25"] and all(figures[name] >= goal for name, goal in GOALS.items())


async def main(arguments: argparse.Namespace) -> int:
    """Run all; the exit status."""
    collection = read(arguments.folder)
    print(json.dumps({"documents": len(collection.documents), "questions": len(collection.questions)}))
    good = [await in_process(collection, arguments, fast=fast) for fast in (False, True)]
    print(
        "goals:",
        "reached" if all(good) else "missed",
        f"(hybrid at alpha {arguments.alpha}, chunks {arguments.chunk_size})",
    )
    return 0 if all(good) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chunk-size", type=int, default=0, help="characters of a chunk; 0: whole documents")
    parser.add_argument("--alpha", type=float, default=DEFAULT_ALPHA)
    sys.exit(asyncio.run(main(parser.parse_args())))
