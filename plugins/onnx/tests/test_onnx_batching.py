"""Requests share batches: order, fairness, little padding, cancellation, failures; and models come and go."""

import asyncio
import gc
import shutil
import threading
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from onnx_kit import put
from paddock_onnx.batching import ROWS, Batcher, Tokens
from paddock_onnx.cache import CachedGraph, find_graph
from paddock_onnx.model import MIB, Model
from paddock_onnx.residency import Residency
from paddock_onnx.settings import OnnxSettings

from paddock.builtin.hub_cache import HubCache
from paddock.errors import BadRequest, ModelNotFound, ProviderUnavailable

PATIENCE = 20


def texts(*lengths: int, mark: int = 0) -> list[Tokens]:
    return [Tokens([mark] * length) for length in lengths]


class Recorder:
    """A run that notes its batches, and waits in the first one until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[Tokens]] = []
        self.go = threading.Event()
        self.begun = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, items: Sequence[Tokens]) -> list[int]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return [len(item.ids) for item in items]


async def begun(run: Recorder) -> None:
    assert await asyncio.to_thread(run.begun.wait, PATIENCE)


async def test_results_stand_in_the_order_of_the_texts() -> None:
    batcher = Batcher(Recorder(), 100)
    lengths = [5, 90, 1, 33, 200, 7] * 20
    assert await batcher.submit(texts(*lengths)) == lengths
    assert await batcher.submit([]) == []


async def test_a_batch_keeps_to_its_tokens_and_rows() -> None:
    run = Recorder()
    await Batcher(run, 1000).submit(texts(*range(1, 300)))
    for batch in run.batches:
        longest = max(len(item.ids) for item in batch)
        assert len(batch) == 1 or longest * len(batch) <= 1000
        assert len(batch) <= ROWS


async def test_texts_of_a_batch_are_of_similar_length() -> None:
    run = Recorder()
    await Batcher(run, 4000).submit(texts(*([10] * 50 + [200] * 50)))
    assert all(max(len(one.ids) for one in batch) == min(len(one.ids) for one in batch) for batch in run.batches)


async def test_texts_of_requests_at_the_same_time_share_a_batch() -> None:
    run = Recorder(held=True)
    batcher = Batcher(run, 1000)
    first = asyncio.ensure_future(batcher.submit(texts(9)))
    await begun(run)
    others = [asyncio.ensure_future(batcher.submit(texts(10, mark=mark))) for mark in range(8)]
    await asyncio.sleep(0)
    run.go.set()
    assert await asyncio.gather(first, *others) == [[9], *[[10]] * 8]
    assert [len(batch) for batch in run.batches] == [1, 8]


async def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    run = Recorder(held=True)
    batcher = Batcher(run, 100)
    large = asyncio.ensure_future(batcher.submit(texts(*[50] * 100, mark=1)))
    await begun(run)
    small = asyncio.ensure_future(batcher.submit(texts(3, mark=2)))
    await asyncio.sleep(0)
    run.go.set()
    await asyncio.gather(small, large)
    assert any(item.ids[0] == 2 for batch in run.batches[:3] for item in batch)


async def test_a_question_does_not_wait_for_every_load_of_documents_nor_they_for_every_question() -> None:
    run = Recorder(held=True)
    batcher = Batcher(run, 100)
    loads = [asyncio.ensure_future(batcher.submit(texts(*[50] * 20, mark=1))) for _ in range(20)]
    await begun(run)
    questions = [asyncio.ensure_future(batcher.submit(texts(30 * step, mark=2))) for step in (1, 2, 3)]
    await asyncio.sleep(0)
    run.go.set()
    await asyncio.gather(*questions, *loads)
    assert [batch[0].ids[0] for batch in run.batches[1:7]] == [2, 1, 2, 1, 2, 1]


async def test_what_was_cancelled_is_not_run() -> None:
    run = Recorder(held=True)
    batcher = Batcher(run, 100)
    cancelled = asyncio.ensure_future(batcher.submit(texts(*[50] * 100, mark=1)))
    await begun(run)
    other = asyncio.ensure_future(batcher.submit(texts(40, mark=2)))
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    run.go.set()
    assert await other == [40]
    assert len(run.batches) == 2


async def test_a_failure_is_told_to_those_it_hit_and_the_next_request_is_served() -> None:
    failing = True

    def run(items: Sequence[Tokens]) -> list[int]:
        if failing:
            raise ProviderUnavailable("broken")
        return [1] * len(items)

    batcher = Batcher(run, 100)
    with pytest.raises(ProviderUnavailable):
        await batcher.submit(texts(1, 2))
    failing = False
    assert await batcher.submit(texts(1)) == [1]


class Loads:
    """A loader that counts, and waits until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.count: list[str] = []
        self.go, self.begun = threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def __call__(self, found: CachedGraph, settings: OnnxSettings) -> Model:
        self.count.append(found.id)
        self.begun.set()
        assert self.go.wait(PATIENCE)
        return Model.load(found, settings)


@asynccontextmanager
async def residency(root: Path, loads: Loads, settings: OnnxSettings | None = None) -> AsyncIterator[Residency]:
    made = Residency(HubCache(root), settings or OnnxSettings(), loads)
    try:
        yield made
    finally:
        await made.close()


async def use(made: Residency, model: str = "org/tiny") -> str:
    async with made.using(model) as found:
        return found.id


async def test_requests_that_come_first_share_one_load(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny")
    loads = Loads(held=True)
    async with residency(tmp_path / "hub", loads) as made:
        asked = [asyncio.ensure_future(use(made)) for _ in range(8)]
        await asyncio.to_thread(loads.begun.wait, PATIENCE)
        loads.go.set()
        assert await asyncio.gather(*asked) == ["org/tiny"] * 8
        assert loads.count == ["org/tiny"]
        assert [one.id for one in made.loaded()] == ["org/tiny"]


async def test_one_who_leaves_does_not_end_the_load_of_the_others(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny")
    loads = Loads(held=True)
    async with residency(tmp_path / "hub", loads) as made:
        first, second = (asyncio.ensure_future(use(made)) for _ in range(2))
        await asyncio.to_thread(loads.begun.wait, PATIENCE)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        loads.go.set()
        assert await second == "org/tiny"
        assert len(loads.count) == 1


async def test_a_failed_load_is_left_by_the_next_request(tmp_path: Path) -> None:
    graph = put(tmp_path / "hub", "org/tiny").folder / "onnx" / "model.onnx"
    sound = graph.read_bytes()
    async with residency(tmp_path / "hub", Loads()) as made:
        for damaged in (sound[:-50], b"", b"\xff" * 4000, sound[:200]):
            graph.write_bytes(damaged)
            with pytest.raises(BadRequest, match="org/tiny can't be used"):
                await use(made)
        assert made.loaded() == []
        graph.write_bytes(sound)
        assert await use(made) == "org/tiny"


async def test_the_least_recently_used_model_makes_room_and_one_in_use_never_does(tmp_path: Path) -> None:
    for name in "abc":
        put(tmp_path / "hub", f"org/{name}")
    async with residency(tmp_path / "hub", Loads()) as made:
        made._room = int(await _size(made, "org/a") * 2.5)
        await use(made, "org/a")
        await use(made, "org/b")
        async with made.using("org/a"):
            await use(made, "org/c")
            assert {one.id for one in made.loaded()} == {"org/a", "org/c"}
        await use(made, "org/b")
        assert {one.id for one in made.loaded()} == {"org/a", "org/b"}


async def _size(made: Residency, model: str) -> int:
    async with made.using(model) as found:
        size = found.size
    made.unload()
    return size


async def test_a_model_waits_for_room_until_another_is_given_back(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "hub", f"org/{name}")
    loads = Loads()
    async with residency(tmp_path / "hub", loads) as made:
        made._room = int(await _size(made, "org/a") * 1.5)
        async with made.using("org/a"):
            waiting = asyncio.ensure_future(use(made, "org/b"))
            done, _ = await asyncio.wait({waiting}, timeout=0.2)
            assert not done
        assert await asyncio.wait_for(waiting, PATIENCE) == "org/b"
        assert [one.id for one in made.loaded()] == ["org/b"]


async def test_a_model_that_is_always_in_use_makes_room_for_one_that_waits_and_gets_it_back(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "hub", f"org/{name}")
    async with residency(tmp_path / "hub", Loads()) as made:
        made._room = int(await _size(made, "org/a") * 1.5)
        ended = asyncio.Event()
        inside: list[int] = []
        uses = [0, 0]

        async def always(mine: int) -> None:
            """Hold it until the other holds it too, or can't."""
            while not ended.is_set():
                async with made.using("org/a"):
                    uses[mine] += 1
                    inside.append(mine)
                    while inside == [mine] and not ended.is_set() and not made._entries[found].leaving:  # noqa: ASYNC110  lets the other run
                        await asyncio.sleep(0)
                    inside.remove(mine)

        found = find_graph(made.cache, "org/a")
        busy = [asyncio.ensure_future(always(mine)) for mine in (0, 1)]
        for _ in range(2):
            assert await asyncio.wait_for(use(made, "org/b"), PATIENCE) == "org/b"
            before = sum(uses)
            async with asyncio.timeout(PATIENCE):
                while sum(uses) < before + 10:  # noqa: ASYNC110  lets the others run
                    await asyncio.sleep(0)
        ended.set()
        await asyncio.gather(*busy)


async def test_an_idle_model_is_unloaded_and_a_used_one_is_not(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny")
    async with residency(tmp_path / "hub", Loads(), OnnxSettings(idle_seconds=1)) as made:
        async with made.using("org/tiny"):
            assert made.unload() == []
        assert len(made.loaded()) == 1
        async with asyncio.timeout(PATIENCE):
            while made.loaded():
                async with made._changed:
                    await made._changed.wait()


async def test_a_model_that_was_loaded_for_nobody_is_idle_at_once(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny")
    loads = Loads(held=True)
    async with residency(tmp_path / "hub", loads, OnnxSettings(idle_seconds=1)) as made:
        left = asyncio.ensure_future(use(made))
        await asyncio.to_thread(loads.begun.wait, PATIENCE)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        (entry,) = made._entries.values()
        loads.go.set()
        assert entry.loading is not None
        await entry.loading
        assert entry.timer is not None


async def test_unloading_names_what_went(tmp_path: Path) -> None:
    for name in "ab":
        put(tmp_path / "hub", f"org/{name}")
    async with residency(tmp_path / "hub", Loads()) as made:
        for name in "ab":
            await use(made, f"org/{name}")
        assert made.unload("org/a") == ["org/a"]
        assert made.unload("org/a") == []
        assert made.unload() == ["org/b"]


async def test_the_weights_of_an_unloaded_model_leave_memory_at_once(tmp_path: Path) -> None:
    put(tmp_path, "org/tiny")
    made = Residency(HubCache(tmp_path), OnnxSettings())
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        async with made.using("org/tiny") as model:
            await model.run(await model.tokens(["a"], model.cut()))
            weakref.finalize(model, loop.call_soon_threadsafe, gone.set)
        del model
        assert made.unload() == ["org/tiny"]
        await asyncio.wait_for(gone.wait(), PATIENCE)  # a thread of the pool may hold it a moment longer
    finally:
        gc.enable()
        await made.close()


async def test_a_model_that_is_imported_anew_is_loaded_anew(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny", seed=1)
    async with residency(tmp_path / "hub", Loads()) as made:
        vectors = []
        for seed in (1, 2):
            put(tmp_path / "hub", "org/tiny", seed=seed)
            async with made.using("org/tiny") as model:
                vectors.append((await model.run(await model.tokens(["a cow"], model.cut())))[0])
        assert not np.allclose(vectors[0], vectors[1])


async def test_a_model_that_goes_while_it_is_loaded_is_looked_for_again(tmp_path: Path) -> None:
    for replaced in (True, False):
        put(tmp_path / "hub", "org/tiny", seed=1)
        loads = Loads(held=True)
        async with residency(tmp_path / "hub", loads) as made:
            asked = asyncio.ensure_future(use(made))
            await asyncio.to_thread(loads.begun.wait, PATIENCE)
            if replaced:
                put(tmp_path / "hub", "org/tiny", seed=2)  # the revision before is deleted
            else:
                shutil.rmtree(HubCache(tmp_path / "hub").folder("org/tiny"))
            loads.go.set()
            if replaced:
                assert await asked == "org/tiny"
            else:
                with pytest.raises(ModelNotFound, match="paddock models download"):
                    await asked
            assert len(loads.count) == 1 + replaced


async def test_a_model_larger_than_all_memory_is_refused_by_the_settings_name(tmp_path: Path) -> None:
    graph = put(tmp_path / "hub", "org/tiny").folder / "onnx" / "model.onnx"
    with graph.open("ab") as file:  # an unknown field of the protobuf, two MiB long
        file.write(b"\xfa\x07" + b"\x80\x80\x80\x01" + bytes(2 * MIB))
    async with residency(tmp_path / "hub", Loads(), OnnxSettings(memory_mb=1)) as made:
        with pytest.raises(BadRequest, match=r"onnx\.memory_mb"):
            await use(made)


async def test_an_execution_provider_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny")
    async with residency(tmp_path / "hub", Loads(), OnnxSettings(providers=("CUDA",))) as made:
        with pytest.raises(ProviderUnavailable, match=r"'CUDA'.*available: .*CPUExecutionProvider"):
            await use(made)
    async with residency(tmp_path / "hub", Loads(), OnnxSettings(providers=("cpu",), threads=1)) as made:
        assert await use(made) == "org/tiny"


async def test_an_unknown_model_is_not_found(tmp_path: Path) -> None:
    async with residency(tmp_path / "hub", Loads()) as made:
        with pytest.raises(ModelNotFound, match="paddock models download org/none"):
            await use(made, "org/none")


async def test_a_model_whose_weights_are_nan_is_told(tmp_path: Path) -> None:
    import onnx
    from onnx import numpy_helper

    graph = put(tmp_path / "hub", "org/tiny").folder / "onnx" / "model.onnx"
    model = onnx.load(graph)
    table = next(one for one in model.graph.initializer if "word_embeddings" in one.name)
    table.CopyFrom(numpy_helper.from_array(np.full(tuple(table.dims), np.nan, dtype=np.float32), table.name))
    onnx.save(model, graph)
    async with residency(tmp_path / "hub", Loads()) as made, made.using("org/tiny") as found:
        with pytest.raises(ProviderUnavailable, match="NaN"):
            await found.run(await found.tokens(["a cow"], found.cut()))
