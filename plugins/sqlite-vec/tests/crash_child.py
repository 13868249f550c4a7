"""Stores, replaces and deletes files for ever and says what is done; somebody kills it. Run by test_crash.py."""

import asyncio
import sys
from pathlib import Path

from sqlite_vec_kit import content, opened


async def main(folder: Path, start: int) -> None:
    """Files 0 to 29 in turn, every seventh deleted instead; one line for each that is on disk."""
    async with opened(folder) as store:
        for step in range(start, start + 100_000):
            number = step % 30
            file, chunks, vectors = content(number, 30, f"v{step}")
            if step % 7 == 6:
                await store.delete(file.dataset, file.file_hash)
            else:
                await store.replace(file, chunks, vectors)
            print(step, flush=True)


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
