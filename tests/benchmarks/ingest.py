"""Chunks a second from stored files to searchable chunks, with the hashing embedder and the default store.

    python tests/benchmarks/ingest.py [--files 200] [--chunks 100] [--runs 3]

The alternative in the same run processes one file at a time and embeds one chunk at a time. Text is made of a fixed
vocabulary, chunks have about 600 characters, and the whole server runs except for its HTTP side.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from paddock.app import create_app
from paddock.contracts.datasets import DatasetCreate
from paddock.plugins import discover, settings_sections
from paddock.services import Services
from paddock.settings import load_settings

NAMESPACE, PROJECT, DATASET = "bench", "ingest", "texts"
PROJECT_FILE = """
version: v1
name: ingest
namespace: bench
runtime: {models: [{name: default, provider: extractive, model: extractive}]}
rag:
  databases:
    - name: main
      type: SqliteVecStore
      embedding_strategies: [{name: hashing, type: HashingEmbedder, config: {batch_size: %d}}]
      retrieval_strategies: [{name: basic, type: BasicSimilarityStrategy}]
  data_processing_strategies:
    - name: plain
      parsers: [{type: TextParser_Python, config: {chunk_size: 600, chunk_overlap: 60, chunk_strategy: sentences}}]
      extractors: [%s]
"""
SLOW_FILES = 20


def text(rng: random.Random, chunks: int) -> str:
    """Sentences of words whose frequencies fall as in a language, enough for that many chunks."""
    words = [f"{rng.choice('bcdfglmnprst')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{n:x}" for n in range(20_000)]
    sentences, length = [], 0
    while length < chunks * 540:
        picked = [words[int(rng.paretovariate(0.7)) % len(words)] for _ in range(rng.randint(6, 18))]
        sentences.append(" ".join(picked).capitalize() + ".")
        length += len(sentences[-1]) + 1
    return " ".join(sentences)


async def run(texts: list[str], *, slow: bool, extractors: str) -> tuple[float, int]:
    """Seconds and chunks of one processing."""
    with tempfile.TemporaryDirectory() as folder:
        overrides: dict[str, dict[str, Any]] = {"server": {"data_dir": folder}, "log": {"level": "error"}}
        loaded = discover()
        app = create_app(load_settings(settings_sections(loaded), environ={}, overrides=overrides), loaded)
        async with app.lifespan():
            services = app.services
            await services.files.create(NAMESPACE, PROJECT, PROJECT_FILE % (1 if slow else 256, extractors))
            data = DatasetCreate(name=DATASET, data_processing_strategy="plain")
            await services.datasets.create(NAMESPACE, PROJECT, data)
            hashes = []
            for number, content in enumerate(texts):
                path = Path(folder) / f"text-{number}.txt"
                path.write_text(content, encoding="utf-8")
                hashes.append((await services.datasets.add_file(NAMESPACE, PROJECT, DATASET, path)).hash)
            start = time.perf_counter()
            for part in [[one] for one in hashes] if slow else [None]:
                await process(services, part)
            seconds = time.perf_counter() - start
            async with services.stores.using(NAMESPACE, PROJECT) as opened:
                chunks = (await opened.store.stats()).chunks
            return seconds, chunks


async def process(services: Services, hashes: list[Any] | None) -> None:
    """Process and wait; every file must succeed."""
    task = await services.datasets.start(NAMESPACE, PROJECT, DATASET, hashes=hashes)
    reply = await services.tasks.views.finished(NAMESPACE, PROJECT, task)
    if reply.state != "SUCCESS":
        raise SystemExit(f"processing failed: {reply.error} {reply.meta.files[0].error}")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--chunks", type=int, default=100, help="chunks of a file")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--extractors", default="", help="for example '{type: ContentStatisticsExtractor}'")
    given = parser.parse_args()
    rng = random.Random(7)
    texts = [f"{number} {text(rng, given.chunks)}" for number in range(given.files)]
    rates = []
    for _ in range(given.runs):
        seconds, chunks = asyncio.run(run(texts, slow=False, extractors=given.extractors))
        rates.append(chunks / seconds)
    slow_seconds, slow_chunks = asyncio.run(run(texts[:SLOW_FILES], slow=True, extractors=given.extractors))
    fast, slow = statistics.median(rates), slow_chunks / slow_seconds
    print(
        f"{given.files} files, {chunks} chunks: {fast:,.0f} chunks/s (runs: {', '.join(f'{one:,.0f}' for one in rates)})"
    )
    print(f"one file and one chunk at a time: {slow:,.0f} chunks/s; ratio {fast / slow:.1f}")


if __name__ == "__main__":
    main()
