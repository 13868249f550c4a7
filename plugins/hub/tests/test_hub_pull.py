"""Pulling models: whole or not at all, verified, bounded, resumed, shared, cancelled."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import pytest
from paddock_hub import HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.providers import Progress
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    ModelNotFound,
    PaddockError,
    ProviderUnavailable,
    RateLimited,
    TooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from paddock.testing.hub import FakeHub, hash_of, pulled

MODEL = "org/model"
BIG = b"0123456789abcdef" * 400_000  # 6.4 MB
GGUF = {
    "tiny-Q4_K_M.gguf": b"4" * 1000,
    "tiny-Q8_0-00001-of-00002.gguf": b"8" * 1500,
    "tiny-Q8_0-00002-of-00002.gguf": b"9" * 500,
    "README.md": b"# Tiny",
}


@pytest.fixture
def cache(tmp_path: Path) -> HubCache:
    return HubCache(tmp_path / "hub")


def partials(cache: HubCache) -> list[Path]:
    """The partial files in the cache."""
    return list(cache.root.rglob("*.incomplete"))


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
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/gguf", GGUF)
        await pulled(source, "org/gguf:q8_0")
        snapshot = cache.snapshot("org/gguf")
        assert snapshot is not None
        assert list(cache.files(snapshot)) == ["tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf"]
        await pulled(source, "org/gguf")
        assert cache.gguf("org/gguf") == snapshot / "tiny-Q4_K_M.gguf"
        assert cache.gguf("org/gguf:Q8_0") is not None

    async def test_an_older_commits_quantization_stays_usable(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/gguf", GGUF)
        await pulled(source, "org/gguf:Q8_0")
        hub.add("org/gguf", GGUF, commit="d" * 40)
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
        with pytest.raises(ProviderUnavailable, match="broke off"):
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


class TestBadHubs:
    async def test_a_transfer_that_stalls_is_given_up_and_kept(
        self, make_source: Callable[..., HubSource], hub: FakeHub, cache: HubCache
    ) -> None:
        hub.faults.stall_after = 100_000
        with pytest.raises(UpstreamTimeout, match=r"0\.2 seconds"):
            await pulled(make_source(stall_timeout=0.2, retries=0), MODEL)
        assert [path.stat().st_size for path in partials(cache)] == [100_000]
        assert cache.models() == []

    async def test_a_hub_that_stalls_before_its_first_byte_is_given_up(
        self, make_source: Callable[..., HubSource], hub: FakeHub
    ) -> None:
        hub.faults.hold = asyncio.Event()
        with pytest.raises(UpstreamTimeout):
            await pulled(make_source(stall_timeout=0.2, retries=0), MODEL)

    @pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
    async def test_other_bytes_than_promised_are_refused_and_deleted(
        self, source: HubSource, hub: FakeHub, cache: HubCache, file: str
    ) -> None:
        hub.add("org/evil", {file: b"x" * 200_000, "weights.onnx": b"w"})
        hub.faults.corrupt = True
        with pytest.raises(UpstreamError, match="promised hash"):
            await pulled(source, "org/evil")
        assert partials(cache) == []
        assert list((cache.folder("org/evil") / "blobs").iterdir()) == []
        assert cache.models() == []

    @pytest.mark.parametrize("fault", ["extra", "etag", "wrong_range"])
    async def test_a_lying_reply_is_refused_and_nothing_kept(
        self, source: HubSource, hub: FakeHub, cache: HubCache, fault: str
    ) -> None:
        setattr(hub.faults, fault, "0" * 64 if fault == "etag" else True)
        if fault == "wrong_range":
            hub.faults.cut_after = 100_000
        with pytest.raises(UpstreamError):
            await pulled(source, MODEL)
        assert partials(cache) == []
        assert cache.models() == []

    @pytest.mark.parametrize("size", [299_999, 300_001, 10**15])
    async def test_a_size_that_lies_is_refused_before_the_first_byte(
        self, make_source: Callable[..., HubSource], hub: FakeHub, cache: HubCache, size: int
    ) -> None:
        lfs = {"sha256": hash_of("model.safetensors", b"w" * 300_000), "size": size}
        hub.repos[MODEL].claims["model.safetensors"] = {"lfs": lfs}
        with pytest.raises(PaddockError) as caught:
            await pulled(make_source(max_bytes=10**16), MODEL)
        assert isinstance(caught.value, BadRequest if size == 10**15 else UpstreamError)
        assert partials(cache) == []

    @pytest.mark.parametrize(
        "name",
        [
            "../evil",
            "/etc/evil",
            "a/../../evil",
            "a//b",
            "./a",
            "a\\b",
            "a\0b",
            "a\nb",
            "x" * 300,
            "a/" * 20 + "b",
            "",
            "a/",
        ],
    )
    async def test_a_name_that_walks_the_tree_fetches_nothing(
        self, source: HubSource, hub: FakeHub, cache: HubCache, name: str
    ) -> None:
        hub.add("org/evil", {"ok.safetensors": b"x", name: b"evil"})
        with pytest.raises(UpstreamError, match="not allowed"):
            await pulled(source, "org/evil")
        assert hub.transfers() == []

    @pytest.mark.parametrize(
        "claim",
        [
            {"lfs": {"sha256": "../../evil", "size": 1}},
            {"lfs": {"sha256": "A" * 64, "size": 1}},
            {"lfs": {"sha256": "a" * 64, "size": -1}},
            {"lfs": None, "blobId": "../x"},
            {"lfs": None, "size": None},
            {"lfs": 7},
        ],
    )
    async def test_a_hash_or_size_that_is_none_fetches_nothing(
        self, source: HubSource, hub: FakeHub, claim: dict[str, Any]
    ) -> None:
        hub.repos[MODEL].claims["model.safetensors"] = claim
        with pytest.raises(UpstreamError):
            await pulled(source, MODEL)
        assert hub.transfers() == []

    async def test_a_commit_that_is_none_fetches_nothing(self, source: HubSource, hub: FakeHub) -> None:
        hub.repos[MODEL].commit = "../../../evil"
        with pytest.raises(UpstreamError, match="not valid"):
            await pulled(source, MODEL)

    async def test_a_file_that_is_also_a_folder_fetches_nothing(self, source: HubSource, hub: FakeHub) -> None:
        hub.add("org/evil", {"a": b"x", "a/b": b"y"})
        with pytest.raises(UpstreamError, match="twice"):
            await pulled(source, "org/evil")

    async def test_a_model_over_the_limit_is_refused_by_the_settings_name(
        self, make_source: Callable[..., HubSource], hub: FakeHub
    ) -> None:
        with pytest.raises(TooLarge, match=r"hub\.max_bytes"):
            await pulled(make_source(max_bytes=300_000), MODEL)
        assert hub.transfers() == []

    async def test_only_pickles_are_refused_by_the_settings_name(self, source: HubSource, hub: FakeHub) -> None:
        hub.add("org/pickle", {"config.json": b"{}", "pytorch_model.bin": b"p"})
        with pytest.raises(BadRequest, match=r"hub\.skip"):
            await pulled(source, "org/pickle")

    async def test_what_is_no_hub_is_told(self, source: HubSource, hub: FakeHub) -> None:
        hub.faults.status.append((200, {}))
        with pytest.raises(UpstreamError, match=r"hub\.endpoint"):
            await pulled(source, MODEL)

    async def test_down_is_not_unknown(self, source: HubSource, hub: FakeHub) -> None:
        await hub.stop()
        with pytest.raises(ProviderUnavailable):
            await pulled(source, MODEL)


class TestDisk:
    async def test_a_model_that_does_not_fit_is_refused_before_the_first_byte(
        self, make_source: Callable[..., HubSource], hub: FakeHub
    ) -> None:
        lfs = {"sha256": "a" * 64, "size": 10**17}
        hub.repos[MODEL].claims["model.safetensors"] = {"lfs": lfs}
        with pytest.raises(BadRequest, match="are free"):
            await pulled(make_source(max_bytes=10**18), MODEL)
        assert hub.transfers() == []

    async def test_a_disk_that_fills_up_ends_the_download_and_gets_its_space_back(
        self, source: HubSource, hub: FakeHub, cache: HubCache
    ) -> None:
        hub.add("org/big", {"model.safetensors": BIG})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))  # a longer file can't be written
        try:
            with pytest.raises(ProviderUnavailable, match="free some space"):
                await pulled(source, "org/big")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert partials(cache) == []
        assert cache.models() == []

    @pytest.mark.parametrize("place", ["", "blobs", "snapshots", "refs"])
    async def test_nothing_is_written_through_a_link(
        self, source: HubSource, cache: HubCache, tmp_path: Path, place: str
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        link = cache.folder(MODEL) / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(outside)
        with pytest.raises(Conflict, match="symbolic link"):
            await pulled(source, MODEL)
        assert list(outside.iterdir()) == []

    async def test_old_leftovers_are_swept_and_young_ones_kept(
        self, make_source: Callable[..., HubSource], cache: HubCache
    ) -> None:
        folder = cache.folder("org/other")
        (folder / "blobs").mkdir(parents=True)
        (folder / ".paddock-old").mkdir()
        old, young = folder / "blobs" / "a.incomplete", folder / "blobs" / "b.incomplete"
        for path in (old, young):
            path.write_bytes(b"x")
        day_ago = time.time() - 24 * 3600
        for path in (old, folder / ".paddock-old"):
            os.utime(path, (day_ago, day_ago))
        assert await make_source(keep_partial_hours=23).sweep() == 2
        assert [path.name for path in folder.rglob("*") if path.is_file()] == ["b.incomplete"]


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


class TestNames:
    @pytest.mark.parametrize("model", ["../x", "a/b/c", "", "a b", "/etc/passwd", "a\0", "a" * 10_000])
    async def test_what_is_no_name_is_refused_without_a_request(
        self, source: HubSource, hub: FakeHub, model: str
    ) -> None:
        for call in (source.size, source.quantizations, source.show, source.delete):
            with pytest.raises(BadName):
                await call(model)
        with pytest.raises(BadName):
            await pulled(source, model)
        assert hub.requests == []

    async def test_an_unknown_model_and_an_unknown_quantization_are_404(self, source: HubSource, hub: FakeHub) -> None:
        hub.add("org/gguf", GGUF)
        with pytest.raises(ModelNotFound, match=r"hub\.token"):
            await pulled(source, "org/none")
        with pytest.raises(ModelNotFound, match="it has Q4_K_M, Q8_0"):
            await pulled(source, "org/gguf:Q2_K")
        with pytest.raises(ModelNotFound, match="no GGUF"):
            await pulled(source, f"{MODEL}:Q2_K")
