"""What a hub, a disk or a name may not do: every lie is refused, and nothing of it is kept."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paddock_hub import HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    ModelNotFound,
    PaddockError,
    ProviderUnavailable,
    TooLarge,
    UpstreamError,
    UpstreamTimeout,
)
from paddock.testing.hub import FakeHub, hash_of, pulled
from paddock.testing.hub_cache import partials

MODEL = "org/model"
BIG = b"0123456789abcdef" * 400_000  # 6.4 MB


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

    async def test_an_unknown_model_and_an_unknown_quantization_are_404(
        self, source: HubSource, hub: FakeHub, ggufs: dict[str, bytes]
    ) -> None:
        hub.add("org/gguf", ggufs)
        with pytest.raises(ModelNotFound, match=r"hub\.token"):
            await pulled(source, "org/none")
        with pytest.raises(ModelNotFound, match="it has Q4_K_M, Q8_0"):
            await pulled(source, "org/gguf:Q2_K")
        with pytest.raises(ModelNotFound, match="no GGUF"):
            await pulled(source, f"{MODEL}:Q2_K")
