"""Deleting models: all of them, one quantization, imported ones; links are removed, never followed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from paddock_hub import HubSource

from paddock.builtin.hub_cache import HubCache
from paddock.errors import Conflict, ModelNotFound
from paddock.testing.hub import FakeHub, pulled
from paddock.testing.hub_cache import cache_model

MODEL = "org/model"
GGUF = {"t-Q8_0-00001-of-00002.gguf": b"8" * 10, "t-Q8_0-00002-of-00002.gguf": b"9" * 20, "t-Q4_K_M.gguf": b"4" * 5}


async def test_a_model_goes_with_all_revisions_and_its_size_is_told(source: HubSource, cache: HubCache) -> None:
    cache_model(cache.root, MODEL, {"a": b"x" * 100})
    cache_model(cache.root, MODEL, {"a": b"y" * 50}, commit="f" * 40, ref="v2")
    cache_model(cache.root, "org/other", {"a": b"z"})
    refs = sum(path.stat().st_size for path in (cache.folder(MODEL) / "refs").iterdir())
    freed = await source.delete(MODEL)
    assert (freed.size - refs, freed.revisions, freed.path) == (150, 2, str(cache.folder(MODEL)))
    assert [model.repo for model in cache.models()] == ["org/other"]
    assert sorted(path.name for path in cache.root.iterdir()) == ["models--org--other"]


async def test_an_imported_model_goes_too(source: HubSource, cache: HubCache) -> None:
    snapshot = cache.folder("me/imported") / "snapshots" / "imported"
    snapshot.mkdir(parents=True)
    (snapshot / "model.onnx").write_bytes(b"x" * 7)
    assert (await source.delete("me/imported")).size == 7
    assert cache.models() == []


async def test_a_partial_download_can_be_deleted(source: HubSource, cache: HubCache) -> None:
    blobs = cache.folder(MODEL) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a.incomplete").write_bytes(b"x" * 7)
    assert (await source.delete(MODEL)).size == 7


async def test_an_unknown_model_is_404_with_its_neighbours(source: HubSource, cache: HubCache) -> None:
    cache_model(cache.root, "org/model-a", {"a": b"x"})
    with pytest.raises(ModelNotFound, match="org/model-a"):
        await source.delete("org/model-b")


async def test_one_quantization_goes_and_the_others_stay(source: HubSource, cache: HubCache) -> None:
    cache_model(cache.root, "org/gguf", GGUF)
    freed = await source.delete("org/gguf:q8_0")
    assert (freed.size, freed.revisions) == (30, 0)
    assert not cache.holds("org/gguf:Q8_0")
    assert cache.holds("org/gguf:Q4_K_M")
    with pytest.raises(ModelNotFound):
        await source.delete("org/gguf:Q8_0")
    freed = await source.delete("org/gguf:Q4_K_M")
    assert freed.revisions == 1
    assert not cache.folder("org/gguf").exists()


async def test_a_blob_that_another_file_needs_stays(source: HubSource, cache: HubCache) -> None:
    snapshot = cache_model(cache.root, "org/gguf", {"t-Q8_0.gguf": b"same", "copy": b"same"})
    freed = await source.delete("org/gguf:Q8_0")
    assert freed.size == 0
    assert (snapshot / "copy").read_bytes() == b"same"


async def test_links_are_removed_and_what_they_lead_to_stays(
    source: HubSource, cache: HubCache, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("p")
    snapshot = cache_model(cache.root, MODEL, {"a": b"x"})
    (snapshot / "file").symlink_to(outside / "precious")
    (snapshot / "folder").symlink_to(outside)
    (cache.folder(MODEL) / "blobs" / "linked").symlink_to(outside / "precious")
    await source.delete(MODEL)
    linked = cache.folder("org/linked")
    linked.symlink_to(outside)
    assert (await source.delete("org/linked")).size == 0
    assert not linked.is_symlink()
    assert (outside / "precious").read_text() == "p"


async def test_locks_of_a_deleted_model_go_with_it(source: HubSource, cache: HubCache) -> None:
    await pulled(source, MODEL)
    await source.delete(MODEL)
    assert list((cache.root / ".locks").iterdir()) == []


async def test_a_model_that_is_being_fetched_is_not_deleted(source: HubSource, hub: FakeHub) -> None:
    hub.faults.hold = asyncio.Event()
    pull = source.pull(MODEL)
    await anext(pull)
    with pytest.raises(Conflict, match="being fetched"):
        await source.delete(MODEL)
    hub.faults.hold.set()
    assert [progress async for progress in pull]
    assert (await source.delete(MODEL)).revisions == 1
