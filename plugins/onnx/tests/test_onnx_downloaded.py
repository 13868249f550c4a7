"""Models as they come from a hub: run as they are where they hold ONNX, else built on first use, beside what was fetched."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
from onnx_kit import SENTENCE, WORDS, imported, lexicon, overlap_reranker, put, tiny
from paddock_onnx.cache import Unready, find_graph
from paddock_onnx.residency import Residency
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.trial import Trials

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.errors import BadRequest, ProviderUnavailable
from paddock.testing.hub import FakeHub
from paddock.testing.hub_cache import COMMIT, cache_model
from paddock.testing.server import RunningServer, running_server

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PATIENCE = 60


def files(folder: Path) -> dict[str, bytes]:
    """A model folder as the files of a repository."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest_asyncio.fixture
async def hub(tmp_path: Path) -> AsyncIterator[FakeHub]:
    """A hub with an embedding model as weights, a recogniser as weights with an old tokenizer, and an exported reranker."""
    async with FakeHub() as found:
        found.add(MINILM, files(tiny(tmp_path / "embedding", files=SENTENCE)))
        old = files(tiny(tmp_path / "ner", "distilbert", "ner"))
        del old["tokenizer.json"]
        found.add("org/ner", {**old, "vocab.txt": "\n".join(WORDS).encode()})
        found.add("org/overlap", files(overlap_reranker(tmp_path / "overlap")))
        yield found


def served(tmp_path: Path, hub: FakeHub, *, auto: bool) -> Any:
    settings = {**hub.settings(), "models": {"auto_download": auto}}
    return running_server(tmp_path / "data", settings=settings)


async def embedded(server: RunningServer, model: str) -> np.ndarray:
    reply = await server.ask("POST", "/v1/embeddings", {"model": model, "input": "a cow"})
    assert reply.status == 200, reply.body
    return np.array(reply.json()["data"][0]["embedding"])


async def test_a_model_that_was_downloaded_as_weights_embeds(tmp_path: Path, hub: FakeHub) -> None:
    put(tmp_path / "data" / "models" / "hub", "org/imported", files=SENTENCE)
    async with served(tmp_path, hub, auto=False) as server:
        reply = await server.ask("POST", "/v1/models/download", {"model_name": MINILM})
        assert (reply.status, b'"complete"' in reply.body) == (200, True), reply.body
        item = (await server.ask("GET", f"/v1/models/{MINILM}")).json()
        assert (item["type"], item["status"], item["owned_by"]) == ("embedding", "unloaded", "onnx")
        found = await embedded(server, MINILM)
        assert np.allclose(found, await embedded(server, "org/imported"), atol=1e-6)
    cache = HubCache(tmp_path / "data" / "models" / "hub")
    snapshot = cache.snapshot(MINILM)
    assert snapshot is not None
    assert snapshot.name == hub.repos[MINILM].commit
    assert set(cache.files(snapshot)) == {*hub.repos[MINILM].files, "onnx/model.onnx"}
    assert list(cache.root.glob(".import-*")) == []
    built = (snapshot / "onnx" / "model.onnx").stat()
    async with served(tmp_path, hub, auto=False) as server:
        await embedded(server, MINILM)
        assert (snapshot / "onnx" / "model.onnx").stat() == built
        assert (await server.ask("DELETE", f"/v1/models/{MINILM}")).status == 200
    assert not snapshot.exists()


@pytest.mark.parametrize("name", [MINILM, "all-MiniLM-L6-v2", f"onnx/{MINILM}"])
async def test_a_model_that_is_not_there_is_fetched_and_used_if_the_settings_say_so(
    tmp_path: Path, hub: FakeHub, name: str
) -> None:
    async with served(tmp_path, hub, auto=False) as server:
        reply = await server.ask("POST", "/v1/embeddings", {"model": name, "input": "a cow"})
        assert reply.status == 404, reply.body
        assert hub.requests == []
    async with served(tmp_path, hub, auto=True) as server:
        found = await asyncio.gather(*(embedded(server, name) for _ in range(4)))
        assert all(np.array_equal(found[0], one) for one in found)


async def test_every_kind_of_model_is_fetched_by_its_bare_name(tmp_path: Path, hub: FakeHub) -> None:
    async with served(tmp_path, hub, auto=True) as server:
        body: Json = {"model": "org/overlap", "query": "a cow", "documents": ["ship", "cow"]}
        reply = await server.ask("POST", "/v1/rerank", body)
        assert [one["index"] for one in reply.json()["results"]] == [1, 0]
        reply = await server.ask("POST", "/v1/ner", {"model": "org/ner", "texts": ["a cow"]})
        assert (reply.status, reply.json()["data"][0]["entities"][0]["text"]) == (200, "a cow"), reply.body
        reply = await server.ask("POST", "/v1/embeddings", {"model": "org/overlab", "input": "a"})
        assert (reply.status, "(near: org/overlap" in reply.json()["error"]["message"]) == (404, True), reply.body
        chat: Json = {"model": MINILM, "messages": [{"role": "user", "content": "a"}]}
        assert (await server.ask("POST", "/v1/chat/completions", chat)).status == 404


async def test_a_key_for_other_models_fetches_nothing(tmp_path: Path, hub: FakeHub) -> None:
    settings = {**hub.settings(), "models": {"auto_download": True}, "auth": {"management_keys": ["manage"]}}
    async with running_server(tmp_path / "data", settings=settings) as server:
        body: Json = {"name": "some", "kind": "inference", "scopes": {"models": ["org/overlap"]}}
        made = await server.ask("POST", "/api/v1/auth/keys", body, headers={"Authorization": "Bearer manage"})
        key = {"Authorization": f"Bearer {made.json()['key']}"}
        reply = await server.ask("POST", "/v1/embeddings", {"model": MINILM, "input": "a"}, headers=key)
        assert (reply.status, hub.requests) == (404, [])


def cached(root: Path, folder: Path, name: str = "org/tiny") -> Residency:
    cache_model(root, name, files(folder))
    return Residency(HubCache(root), OnnxSettings(), trials=Trials(OnnxSettings()))


async def use(residency: Residency, name: str = "org/tiny") -> str:
    async with residency.using(name) as model:
        return model.id


async def test_requests_that_come_first_share_one_build(tmp_path: Path) -> None:
    residency = cached(tmp_path / "hub", tiny(tmp_path / "source"))
    asked = [asyncio.ensure_future(use(residency)) for _ in range(8)]
    await building()
    assert residency._builds is not None
    assert len(residency._builds._running) == 1
    asked[0].cancel()
    assert await asyncio.gather(*asked[1:]) == ["org/tiny"] * 7
    await residency.close()


def builders() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "paddock_onnx.trying" in one.cmdline()]


async def building() -> psutil.Process:
    """The process that builds, as soon as there is one."""
    async with asyncio.timeout(PATIENCE):
        while not (found := builders()):  # noqa: ASYNC110  another process: there is no event
            await asyncio.sleep(0)
    return found[0]


async def test_a_build_that_was_killed_begins_anew_with_the_next_request(tmp_path: Path) -> None:
    residency = cached(tmp_path / "hub", tiny(tmp_path / "source"))
    asked = asyncio.ensure_future(use(residency))
    (await building()).kill()
    with pytest.raises((ProviderUnavailable, BadRequest), match="memory"):  # while it started, or later
        await asked
    with pytest.raises(Unready):
        find_graph(residency.cache, "org/tiny")
    assert await use(residency) == "org/tiny"
    await residency.close()


async def test_closing_ends_a_build(tmp_path: Path) -> None:
    residency = cached(tmp_path / "hub", tiny(tmp_path / "source"))
    asked = asyncio.ensure_future(use(residency))
    child = await building()
    await residency.close()
    with pytest.raises(ProviderUnavailable):
        await asked
    await asyncio.to_thread(child.wait, PATIENCE)


async def test_an_onnx_file_of_the_repository_is_used_as_it_is(tmp_path: Path) -> None:
    folder = lexicon(tmp_path / "source", "ner", ("O", "B-PER"), {"cow": "B-PER"})
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    (folder / "model.safetensors").write_bytes(b"never looked at")
    residency = cached(tmp_path / "hub", folder)
    assert await use(residency) == "org/tiny"
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    residency = cached(tmp_path / "other", folder)
    assert await use(residency) == "org/tiny"
    snapshot = HubCache(tmp_path / "other").snapshot("org/tiny")
    assert snapshot is not None
    assert (snapshot / "onnx" / "model.onnx").is_symlink()
    await residency.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config.json": b'{"model_type": "gpt2"}'}, "gpt2.*optimum-cli"),
        ({"model.safetensors": b"short"}, "no safetensors file"),
        ({"model.safetensors": None, "pytorch_model.bin": b"x"}, "pickle"),
        ({"tokenizer.json": None}, "vocab.txt"),
        ({"tokenizer.json": b"{}"}, "tokenizer.json"),
        ({"modules.json": b'[{"type": "a.Dense"}]'}, "Dense"),
    ],
    ids=str,
)
async def test_what_can_not_be_built_says_why_and_leaves_nothing(
    tmp_path: Path, change: dict[str, bytes | None], words: str
) -> None:
    given = {**files(tiny(tmp_path / "source")), **change}
    cache_model(tmp_path / "hub", "org/tiny", {name: data for name, data in given.items() if data is not None})
    residency = Residency(HubCache(tmp_path / "hub"), OnnxSettings(), trials=Trials(OnnxSettings()))
    with pytest.raises(BadRequest, match=f"org/tiny can't be run: .*{words}"):
        await use(residency)
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["models--org--tiny"]
    snapshot = HubCache(tmp_path / "hub").folder("org/tiny") / "snapshots" / COMMIT
    assert not (snapshot / "onnx").exists()
    await residency.close()


async def test_a_link_in_the_place_of_the_graphs_folder_is_not_followed(tmp_path: Path) -> None:
    residency = cached(tmp_path / "hub", tiny(tmp_path / "source"))
    snapshot = HubCache(tmp_path / "hub").snapshot("org/tiny")
    assert snapshot is not None
    (tmp_path / "outside").mkdir()
    (snapshot / "onnx").symlink_to(tmp_path / "outside")
    with pytest.raises(BadRequest, match="symbolic link"):
        await use(residency)
    assert list((tmp_path / "outside").iterdir()) == []
    await residency.close()


async def test_a_model_that_was_imported_over_a_download_stays_the_current_one(tmp_path: Path) -> None:
    residency = cached(tmp_path / "hub", tiny(tmp_path / "source"))
    found = imported(tmp_path / "hub", Path("org/tiny"), quantize="int8")
    assert find_graph(residency.cache, "org/tiny").folder == found.folder
    assert await use(residency) == "org/tiny"
    await residency.close()
