"""Files to searchable chunks: choose a parser, parse, cut, extract metadata, embed, store.

What is bounded: `tasks.workers` threads parse; files of 256 MiB together are in memory at once, a larger one alone; a file
may hold 64 Mi characters of text and give 200,000 chunks; two batches for each embedder are under way.
"""

from paddock.services.ingest.handler import KIND, Ingest, ProcessHandler
from paddock.services.ingest.plan import Plan, Planner
from paddock.services.ingest.prepare import ChunkChange, Prepared, prepare

__all__ = ["KIND", "ChunkChange", "Ingest", "Plan", "Planner", "Prepared", "ProcessHandler", "prepare"]
