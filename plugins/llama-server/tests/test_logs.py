"""Logs: cut lines, clean text, files that rotate, tails from the end, followers, a full disk, a child that never waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from paddock_llama_server import lines
from paddock_llama_server.bench import Bench, eventually
from paddock_llama_server.lines import LINE_BYTES, Splitter, entry, last_lines
from paddock_llama_server.logs import InstanceLog, Limits, LogFiles
from paddock_llama_server.spec import LogEntry

LIMITS = Limits(file_bytes=4096, files=3, ring_bytes=4096)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[InstanceLog]:
    with ThreadPoolExecutor(1) as pool:
        found = InstanceLog(LogFiles(tmp_path / "logs", LIMITS), LIMITS, pool, lambda text: None)
        yield found
        await found.close()


def texts(entries: list[LogEntry]) -> list[str]:
    return [one.text for one in entries]


class TestLines:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
    def test_chunks_may_be_cut_anywhere(self, size: int) -> None:
        data = "eins\nzwei ä\n\ndrei".encode()
        splitter = Splitter()
        found = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
        assert found + splitter.end() == ["eins", "zwei ä", "", "drei"]

    def test_a_long_line_is_cut_and_marked_and_the_next_is_whole(self) -> None:
        splitter = Splitter()
        found = [line for _ in range(160) for line in splitter.feed(b"x" * LINE_BYTES)]
        assert found == []
        first, second = splitter.feed(b"end\nnext\n")
        assert first.startswith("x" * LINE_BYTES)
        assert first.endswith(f"[{159 * LINE_BYTES + 3} more bytes cut]")
        assert second == "next"

    def test_terminal_escapes_and_control_characters_are_taken_out(self) -> None:
        assert Splitter().feed(b"\x1b[31mred\x1b[0m \x1b]0;title\x07a\rb\x00c\td\n") == ["red abc\td"]

    @pytest.mark.parametrize(
        ("text", "level"),
        [
            ("0.00.002.063 I srv  llama_server: initializing ...", "info"), ("0.01.397.290 W srv    operator(): x", "warn"),
            ("0.00.019.324 E llama_model_load: x", "error"), ("0.00.001.000 D x", "debug"), ("error: invalid argument", "error"),
            ("warning: x", "warn"), ("Information without a letter", "info"), ("", "info"), ("I am a text", "info"),
        ],
    )  # fmt: skip
    def test_the_level_is_the_one_that_the_line_states(self, text: str, level: str) -> None:
        assert entry(text, 0).level == level

    def test_a_stored_line_comes_back(self) -> None:
        one = entry("0.00 E two  blanks ä", 1700000000.25)
        assert lines.restored(lines.stored(one).rstrip(b"\n")) == one

    @pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 100, None])
    def test_the_last_lines_are_read_over_the_ends_of_files(self, tmp_path: Path, count: int | None) -> None:
        stored = [lines.stored(entry(str(number) * 40_000, number)) for number in range(6)]
        (tmp_path / "old").write_bytes(b"".join(stored[:3]))
        (tmp_path / "new").write_bytes(b"".join(stored[3:]))
        found = last_lines([tmp_path / "new", tmp_path / "old", tmp_path / "none"], count)
        expected = [str(number) for number in range(6)]
        assert [one.text[0] for one in found] == (expected if count is None else expected[max(0, 6 - count) :])


class TestInstanceLog:
    async def test_the_tail_comes_from_memory_and_from_the_files_alike(self, log: InstanceLog) -> None:
        log.add(f"line {number} " + "x" * 50 for number in range(100))
        assert texts(await log.tail(2)) == [f"line {number} " + "x" * 50 for number in (98, 99)]
        assert [text.split()[1] for text in texts(await log.tail(90))] == [str(number) for number in range(10, 100)]
        assert len(await log.tail(None)) == 100

    async def test_files_are_rotated_by_size_and_count(self, log: InstanceLog, tmp_path: Path) -> None:
        for number in range(600):
            log.add([f"line {number} " + "x" * 50])
        kept = await log.tail(None)
        files = sorted(path.name for path in (tmp_path / "logs").iterdir())
        assert files == ["log", "log.1", "log.2"]
        assert all(path.stat().st_size <= LIMITS.file_bytes for path in (tmp_path / "logs").iterdir())
        assert kept[-1].text.startswith("line 599 ")
        numbers = [int(one.text.split()[1]) for one in kept]
        assert numbers == list(range(numbers[0], 600))

    async def test_a_follower_gets_the_last_lines_and_every_new_one_once(self, log: InstanceLog) -> None:
        log.add(f"old {number} " + "x" * 100 for number in range(100))
        following = log.follow(50)
        found = [(await anext(following)).text.split()[1] for _ in range(3)]
        log.add(["new 1", "new 2"])
        found += [(await anext(following)).text.split()[1] for _ in range(49)]
        assert found == [*map(str, range(50, 100)), "1", "2"]
        await log.close()
        assert [one async for one in following] == []

    async def test_a_slow_follower_loses_the_oldest(self, log: InstanceLog) -> None:
        following = log.follow(0)
        first = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)
        log.add(["first"])
        assert (await first).text == "first"
        log.add(str(number) for number in range(5000))
        assert (await anext(following)).text == "4000"
        await following.aclose()

    async def test_a_disk_that_takes_nothing_costs_lines_and_one_warning(self, tmp_path: Path) -> None:
        (tmp_path / "logs").write_text("a file where the folder should be")
        warnings: list[str] = []
        with ThreadPoolExecutor(1) as pool:
            log = InstanceLog(LogFiles(tmp_path / "logs", LIMITS), LIMITS, pool, warnings.append)
            for number in range(50):
                log.add([f"line {number}"])
                await asyncio.sleep(0)
            await eventually(lambda: bool(warnings))
            assert texts(await log.tail(1)) == ["line 49"]
            await log.close()
        assert len(warnings) == 1


class TestOfInstances:
    async def test_a_line_of_ten_megabytes_blocks_nobody(self, bench: Bench) -> None:
        await bench.run("a", long_line=10_000_000)
        found = await bench.manager.log_tail("a", None)
        cut = [one for one in found if "more bytes cut" in one.text]
        assert len(cut) == 1
        assert len(cut[0].text) < LINE_BYTES + 100

    async def test_starts_and_ends_are_marked(self, bench: Bench) -> None:
        await bench.run("a")
        await bench.manager.stop("a")
        await bench.settled("a")
        found = texts(await bench.manager.log_tail("a", None))
        assert "a started" in found[0]
        assert "a ended" in found[-1]

    async def test_following_ends_with_the_instance(self, bench: Bench) -> None:
        await bench.run("a")
        following = bench.manager.log_follow("a", 1)
        assert (await anext(following)).text
        await bench.manager.delete("a")
        rest = [one.text async for one in following]
        assert any("ended" in text for text in rest)

    async def test_the_log_outlives_the_server(self, open_bench: object, bench: Bench) -> None:
        await bench.run("a")
        await bench.manager.stop("a")
        await bench.settled("a")
        again = Bench(bench.folder, bench.host, bench.http, bench.manager.settings)
        reader = again.manager._tools.logs.open("a")
        assert "a started" in (await reader.tail(None))[0].text
        await reader.close()
        await again.manager._tools.logs.close()
