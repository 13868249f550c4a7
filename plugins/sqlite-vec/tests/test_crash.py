"""A process that stores is killed at any moment; what it leaves is whole, and the indexes catch up."""

import asyncio
import random
import sys
from pathlib import Path

from paddock_sqlite_vec.store import SqliteVecStore
from sqlite_vec_kit import check, content, found, opened

CHILD = Path(__file__).with_name("crash_child.py")
CHUNKS = 30


async def run_and_kill(folder: Path, start: int, steps: int) -> int:
    """Let the child report `steps` steps, kill it in the middle of the next; returns the last step that was reported."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(folder), str(start), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    last = start - 1
    for _ in range(steps):
        last = int(await child.stdout.readline())
    child.kill()
    rest, _ = await child.communicate()
    return int(rest.splitlines()[-1]) if rest.strip() else last


async def assert_whole(folder: Path, last: int) -> None:
    """Each file is what the last reported step made of it; only the step after that may be there or not."""
    async with opened(folder) as store:
        for number in range(min(30, last + 1)):
            step = next(step for step in range(last, -1, -1) if step % 30 == number)
            possible = {step, last + 1} if (last + 1) % 30 == number else {step}
            await assert_one_of(store, number, possible)
        await check(store, folder)
        await store.level()
        await check(store, folder)


async def assert_one_of(store: SqliteVecStore, number: int, steps: set[int]) -> None:
    file, _, _ = content(number, CHUNKS, "any")
    stored = await store.find_file(file.dataset, file.file_hash)
    texts = found(await store.search_text("common", 10_000, {"file_hash": file.file_hash}))
    vectors = found(await store.search_vectors(content(1, 1, "q")[2][0], 10_000, {"file_hash": file.file_hash}))
    if stored is None:
        assert any(step % 7 == 6 for step in steps)
        assert (texts, vectors) == (set(), set())
        return
    assert stored.file.token in {f"v{step}" for step in steps if step % 7 != 6}
    expected = {chunk.chunk_id for chunk in content(number, CHUNKS, stored.file.token)[1]}
    assert stored.chunk_count == CHUNKS
    assert (texts, vectors) == (expected, expected)


async def test_after_kill_each_file_is_whole_or_absent(tmp_path: Path) -> None:
    rng = random.Random(4)
    start = 0
    for _ in range(5):
        last = await run_and_kill(tmp_path, start, rng.randint(8, 60))
        await assert_whole(tmp_path, last)
        start = last + 1  # the unfinished step is done again
