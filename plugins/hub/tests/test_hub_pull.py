"""Pulling models: whole or not at all, verified, bounded, resumed, shared, cancelled."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

import pytest
from paddock_hub import HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.providers import Progress
from paddock.errors import (
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
)
from paddock.testing.hub import FakeHub, hash_of, pulled
from paddock.testing.hub_cache import partials

MODEL = "org/model"
BIG = b"0123456789abcdef" * 400_000  # 6.4 MB


async def first(source: HubSource, model: str) -> tuple[AsyncGenerator[Progress, None], Progress]:
    """A pull that has begun, and its first progress."""
    pull = cast("AsyncGenerator[Progress, None]", source.pull(model))
    return pull, await anext(pull)


class TestWhole:
    async def test_a_model_arrives_with_all_its_files(self, source: HubSource, hub: FakeHub, cache: HubCache) -> None:
        progress = await pulled(source, MODEL)
        snapshot = cache.snapshot(MODEL)
        assert snapshot is not None
        assert snapshot.name == hub.repos[MODEL].commit
        assert {name: path.read_bytes() for name, path in cache.files(snapshot).items()} == hub.repos[MODEL].files
        assert [one.completed for one in progress] == sorted(one.completed for one in progress)
        assert progress[-1].completed == progress[-1].total == sum(map(len, hub.repos[MODEL].files.values()))
        [model] = cache.models()
        assert model.revisions == ("main",)
        assert partials(cache) == []

    async def test_of_a_graph_at_several_precisions_the_plain_one_is_fetched(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        needed = ("config.json", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/decoder_model_merged.onnx")
        other = ("onnx/model_O1.onnx", "onnx/model_qint8_avx512_vnni.onnx", "onnx/model_fp16.onnx_data")
        hub.add("org/exported", {name: name.encode() for name in (*needed, *other)})
        hub.add("org/small", {"onnx/model_quantized.onnx": b"8", "config.json": b"{}"})
        await pulled(source, "org/exported")
        await pulled(source, "org/small")
        for repo, names in (("org/exported", needed), ("org/small", ("onnx/model_quantized.onnx", "config.json"))):
            snapshot = cache.snapshot(repo)
            assert snapshot is not None
            assert set(cache.files(snapshot)) == set(names)

    async def test_what_is_there_is_not_fetched_again(self, source: HubSource, hub: FakeHub) -> None:
        await pulled(source, MODEL)
        count = len(hub.transfers())
        progress = await pulled(source, MODEL)
        assert len(hub.transfers()) == count
        assert progress[-1].completed == progress[-1].total

    async def test_a_new_commit_becomes_main_and_shares_the_blobs_that_stayed(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        await pulled(source, MODEL)
        hub.add(MODEL, {**hub.repos[MODEL].files, "config.json": b'{"v": 2}'}, commit="d" * 40)
        await pulled(source, MODEL)
        assert len(hub.transfers("model.safetensors")) == 1
        snapshot = cache.snapshot(MODEL)
        assert snapshot is not None
        assert (snapshot / "config.json").read_bytes() == b'{"v": 2}'
        [model] = cache.models()
        assert set(model.revisions) == {"main", "c0" * 20}

    async def test_of_gguf_one_quantization_with_its_shards_is_fetched(
        self, source: HubSource, hub: FakeHub, cache: HubCache, ggufs: dict[str, bytes]
    ) -> None:
        hub.add("org/gguf", ggufs)
        await pulled(source, "org/gguf:q8_0")
        snapshot = cache.snapshot("org/gguf")
        assert snapshot is not None
        assert list(cache.files(snapshot)) == ["tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf"]
        await pulled(source, "org/gguf")
        assert cache.gguf("org/gguf") == snapshot / "tiny-Q4_K_M.gguf"
        assert cache.gguf("org/gguf:Q8_0") is not None

    async def test_an_older_commits_quantization_stays_usable(
        self, source: HubSource, hub: FakeHub, cache: HubCache, ggufs: dict[str, bytes]
    ) -> None:
        hub.add("org/gguf", ggufs)
        await pulled(source, "org/gguf:Q8_0")
        hub.add("org/gguf", ggufs, commit="d" * 40)
        await pulled(source, "org/gguf:Q4_K_M")
        assert cache.holds("org/gguf:Q8_0")
        assert cache.holds("org/gguf:Q4_K_M")

    async def test_an_empty_file_and_equal_files_are_fetched_right(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        files = {"empty.txt": b"", "a.onnx": b"same", "b/a.onnx": b"same"}
        hub.add("org/odd", files)
        progress = await pulled(source, "org/odd")
        snapshot = cache.snapshot("org/odd")
        assert snapshot is not None
        assert {name: path.read_bytes() for name, path in cache.files(snapshot).items()} == files
        assert progress[-1].total == 4

    async def test_what_paddock_never_reads_is_left_out(self, source: HubSource, hub: FakeHub, cache: HubCache) -> None:
        hub.add("org/both", {"model.safetensors": b"s", "pytorch_model.bin": b"p", "x/Model.PKL": b"p"})
        await pulled(source, "org/both")
        snapshot = cache.snapshot("org/both")
        assert snapshot is not None
        assert list(cache.files(snapshot)) == ["model.safetensors"]

    async def test_a_renamed_repository_is_followed(self, source: HubSource, hub: FakeHub, cache: HubCache) -> None:
        hub.renamed["old/name"] = MODEL
        await pulled(source, "old/name")
        assert cache.holds("old/name")

    async def test_short_names_resolve(self, source: HubSource, hub: FakeHub, cache: HubCache) -> None:
        hub.add("sentence-transformers/all-MiniLM-L6-v2", {"model.safetensors": b"x"})
        await pulled(source, "all-MiniLM-L6-v2")
        assert cache.holds("all-MiniLM-L6-v2")
        assert cache.models()[0].repo == "sentence-transformers/all-MiniLM-L6-v2"


class TestResuming:
    async def test_a_broken_transfer_goes_on_where_it_ended(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/big", {"model.safetensors": BIG})
        hub.faults.cut_after = 3_000_000
        await pulled(source, "org/big")
        assert [one.headers.get("Range") for one in hub.transfers()] == [None, "bytes=3000000-"]
        assert cache.gguf("org/big") is None
        assert cache.holds("org/big")

    async def test_what_arrived_is_kept_when_the_hub_gives_up_and_is_never_a_model(
        self, make_source: Callable[..., HubSource], hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/big", {"model.safetensors": BIG})
        hub.faults.cut_after, hub.faults.times = 500_000, 100
        with pytest.raises(
            ProviderUnavailable, match=r"broke off.*: try again, model\.safetensors goes on where it ended"
        ):
            await pulled(make_source(retries=1), "org/big")
        [partial] = partials(cache)
        assert partial.read_bytes() == BIG[:1_000_000]
        assert cache.models() == []
        assert not cache.holds("org/big")
        hub.faults.times = 0
        progress = await pulled(make_source(), "org/big")
        assert progress[0].completed == 1_000_000
        assert hub.transfers()[-1].headers["Range"] == "bytes=1000000-"
        assert cache.holds("org/big")

    async def test_a_hub_that_does_not_resume_sends_all_again(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/big", {"model.safetensors": BIG})
        hub.faults.cut_after, hub.faults.ignore_range = 3_000_000, True
        await pulled(source, "org/big")
        assert cache.holds("org/big")

    async def test_a_partial_of_other_bytes_is_fetched_anew(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        blobs = cache.folder(MODEL) / "blobs"
        blobs.mkdir(parents=True)
        etag = hash_of("model.safetensors", b"w" * 300_000)
        (blobs / f"{etag}.incomplete").write_bytes(b"?" * 1000)
        await pulled(source, MODEL)
        assert (blobs / etag).read_bytes() == b"w" * 300_000

    @pytest.mark.parametrize("size", [300_000, 300_001])
    async def test_a_partial_that_is_long_enough_is_checked_too(
        self, source: HubSource, hub: FakeHub, cache: HubCache, size: int
    ) -> None:
        blobs = cache.folder(MODEL) / "blobs"
        blobs.mkdir(parents=True)
        etag = hash_of("model.safetensors", b"w" * 300_000)
        (blobs / f"{etag}.incomplete").write_bytes(b"?" * size)
        await pulled(source, MODEL)
        assert (blobs / etag).read_bytes() == b"w" * 300_000

    async def test_a_hub_that_is_busy_is_asked_again_when_it_says(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.faults.status.extend([(429, {"Retry-After": "0"}), (503, {"Retry-After": "0"})])
        await pulled(source, MODEL)
        assert cache.holds(MODEL)

    async def test_a_hub_that_stays_busy_is_the_callers_429(
        self, make_source: Callable[..., HubSource], hub: FakeHub
    ) -> None:
        hub.faults.status.extend([(429, {"Retry-After": "600"})])
        with pytest.raises(RateLimited) as caught:
            await pulled(make_source(), MODEL)
        assert caught.value.headers["Retry-After"] == "600"


class TestTogether:
    async def test_two_who_want_the_same_model_share_one_download(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.faults.hold = asyncio.Event()
        one, _ = await first(source, MODEL)
        other, _ = await first(source, MODEL)
        hub.faults.hold.set()
        ends = [[progress async for progress in pull][-1] for pull in (one, other)]
        assert [end.completed == end.total for end in ends] == [True, True]
        assert len(hub.transfers("model.safetensors")) == 1
        assert cache.holds(MODEL)

    async def test_one_who_leaves_does_not_take_the_download_from_the_other(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.faults.hold = asyncio.Event()
        one, _ = await first(source, MODEL)
        other, _ = await first(source, MODEL)
        await one.aclose()
        hub.faults.hold.set()
        assert [progress async for progress in other]
        assert cache.holds(MODEL)

    async def test_the_last_one_who_leaves_cancels_and_what_arrived_is_kept(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/big", {"model.safetensors": BIG})
        hub.faults.stall_after = 3_000_000
        pull, _ = await first(source, "org/big")
        async with aclosing(pull):
            async for progress in pull:
                if progress.completed >= 2_000_000:
                    break
        await asyncio.wait_for(hub.requests[-1].gone.wait(), 10)
        assert partials(cache)[0].stat().st_size >= 2_000_000
        await pulled(source, "org/big")
        assert cache.holds("org/big")

    async def test_an_error_reaches_everybody_who_waits(self, source: HubSource, hub: FakeHub) -> None:
        hub.faults.hold, hub.faults.corrupt = asyncio.Event(), True
        pulls = [(await first(source, MODEL))[0] for _ in range(2)]
        hub.faults.hold.set()
        for pull in pulls:
            with pytest.raises(UpstreamError):
                async for _ in pull:
                    pass

    async def test_another_process_that_fetches_the_same_blob_is_waited_for(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        blob = hash_of("model.safetensors", b"w" * 300_000)
        locks = cache.root / ".locks" / cache.folder(MODEL).name
        locks.mkdir(parents=True)
        with (locks / f"{blob}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            pull, _ = await first(source, MODEL)
            blobs = cache.folder(MODEL) / "blobs"
            async for progress in pull:
                if progress.completed == 2:  # config.json, fetched before
                    break
            (blobs / blob).write_bytes(b"w" * 300_000)
        assert [progress async for progress in pull][-1].completed == 300_005
        assert hub.transfers("model.safetensors") == []

    async def test_closing_the_source_ends_its_downloads(self, source: HubSource, hub: FakeHub) -> None:
        hub.faults.hold = asyncio.Event()
        pull, _ = await first(source, MODEL)
        await source.close()
        with pytest.raises(ProviderUnavailable, match="shutting down"):
            async for _ in pull:
                pass
