"""Who runs: starts on demand, places, the queue, eviction, groups, idleness, and what starts with the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from paddock_llama_server.bench import LIMIT, Bench, bench_of, call, eventually
from paddock_llama_server.fixtures import OpenBench
from paddock_llama_server.spec import Spec
from paddock_llama_server.tools import StartAborted, StartFailed

from paddock.errors import Conflict, InstanceLimit, ProviderUnavailable


@asynccontextmanager
async def streaming(bench: Bench, name: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """A stream whose first token has come."""
    async with bench.server.serve(call(name, stream=True)) as reply:
        pieces = reply.chunks()
        assert b"t0" in await anext(pieces)
        yield pieces


async def go(bench: Bench, name: str) -> None:
    """Let the held streams of an instance end."""
    run = bench.owner(name).run
    assert run is not None
    await bench.child(run.address, "POST", "/stub/go")


class TestOnDemand:
    async def test_the_first_request_starts_a_stopped_instance(self, bench: Bench) -> None:
        await bench.add("a")
        assert (await bench.ask("a"))[0] == 200
        found = bench.manager.get("a")
        assert (found.status, found.wanted) == ("running", "stopped")

    async def test_all_who_ask_together_share_one_start(self, bench: Bench) -> None:
        await bench.add("a", load_delay=0.1)
        replies = await asyncio.gather(*(bench.ask("a") for _ in range(20)))
        assert {status for status, _ in replies} == {200}
        assert bench.starts("a") == 1

    async def test_one_who_leaves_does_not_end_the_start_for_the_others(self, bench: Bench) -> None:
        await bench.add("a", load_delay=0.2)
        first, second = asyncio.ensure_future(bench.ask("a")), asyncio.ensure_future(bench.ask("a"))
        await bench.until("a", lambda one: one.waiting == 2)
        first.cancel()
        assert (await second)[0] == 200
        assert bench.starts("a") == 1
        assert bench.manager.get("a").in_flight == 0

    async def test_a_start_that_was_begun_goes_on_when_all_have_left(self, bench: Bench) -> None:
        await bench.add("a", load_delay=0.1)
        asking = asyncio.ensure_future(bench.ask("a"))
        await bench.until("a", lambda one: one.pid is not None)
        asking.cancel()
        found = await bench.settled("a")
        assert (found.status, found.in_flight, found.waiting) == ("running", 0, 0)

    async def test_a_failure_is_shared_and_remembered_for_a_moment(self, bench: Bench) -> None:
        await bench.add("a", spec={"auto_restart": False}, load_delay=0.05, fail_starts=9, say=["it broke"])
        ends: list[Any] = await asyncio.gather(*(bench.ask("a") for _ in range(10)), return_exceptions=True)
        for _ in range(5):
            ends += await asyncio.gather(bench.ask("a"), return_exceptions=True)
        assert {(type(end), end.code) for end in ends} == {(StartFailed, "crashed")}
        assert "it broke" in (bench.manager.get("a").last_error or "")
        assert bench.starts("a") == 1

    @pytest.mark.parametrize(
        ("knobs", "code"),
        [
            ({"fail_starts": 9, "say": ["error: invalid argument: --secret-path"]}, "bad_option"),
            ({"fail_starts": 9, "say": ["E failed to allocate /secret-path"]}, "out_of_memory"),
        ],
    )
    async def test_a_request_hears_why_a_start_failed_without_log_lines(
        self, bench: Bench, knobs: dict[str, Any], code: str
    ) -> None:
        await bench.add("a", **knobs)
        with pytest.raises(StartFailed) as raised:
            await bench.ask("a")
        assert raised.value.code == code
        assert "secret-path" not in raised.value.message
        assert "secret-path" in (bench.manager.get("a").last_error or "")

    async def test_a_look_at_the_address_is_no_use_of_the_instance(self, bench: Bench) -> None:
        await bench.add("a")
        assert bench.manager.address("a") is None
        await bench.manager.start("a")
        await bench.settled("a")
        run = bench.owner("a").run
        assert run is not None
        before = run.used_at
        assert bench.manager.address("a") == run.address
        assert (run.used_at, run.served) == (before, 0)

    async def test_without_on_demand_start_a_request_is_refused(self, bench: Bench) -> None:
        await bench.add("a", spec={"on_demand_start": False})
        with pytest.raises(ProviderUnavailable, match="not running"):
            await bench.ask("a")
        assert bench.starts("a") == 0

    async def test_a_stop_during_the_start_tells_those_who_wait(self, bench: Bench) -> None:
        await bench.add("a", never_ready=True)
        asking = asyncio.ensure_future(bench.ask("a"))
        await bench.until("a", lambda one: one.pid is not None)
        await bench.manager.stop("a")
        with pytest.raises(StartAborted, match="aborted") as raised:
            await asking
        assert raised.value.code == "start_aborted"
        found = await bench.settled("a")
        assert (found.status, found.last_error) == ("stopped", None)

    async def test_a_request_during_a_stop_waits_for_it_and_starts_again(self, bench: Bench) -> None:
        before = await bench.run("a", ignore_sigterm=True)
        await bench.manager.stop("a")
        assert (await bench.ask("a"))[0] == 200
        assert bench.manager.get("a").pid != before.pid


class TestPlaces:
    @pytest.fixture
    async def one(self, open_bench: OpenBench) -> Bench:
        """A bench with a single place."""
        return await open_bench(max_running_instances=1)

    async def test_two_models_never_hold_the_last_place_together(self, one: Bench) -> None:
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, sum(found.pid is not None for found in one.manager.all()))
                await asyncio.sleep(0)

        await one.add("a")
        await one.add("b")
        watching = asyncio.ensure_future(watch())
        replies = await asyncio.gather(*(one.ask("ab"[number % 2]) for number in range(10)))
        watching.cancel()
        assert {status for status, _ in replies} == {200}
        assert most == 1
        assert one.starts("a") + one.starts("b") <= 3  # collated: those who ask for a ready model are served first

    async def test_a_busy_instance_is_never_evicted(self, one: Bench) -> None:
        await one.run("a", hold=True)
        await one.add("b")
        async with streaming(one, "a") as pieces:
            asking = asyncio.ensure_future(one.ask("b"))
            await one.until("b", lambda found: found.waiting == 1)
            await eventually(lambda: one.owner("a").leaving)  # its patience ended: it takes nothing new, and goes on
            await go(one, "a")
            assert b"".join([piece async for piece in pieces]).endswith(b"[DONE]\n\n")
        assert (await asking)[0] == 200

    async def test_those_who_wait_do_not_starve_behind_a_model_in_use(self, one: Bench) -> None:
        await one.run("a", delay=0.02)
        await one.add("b")
        stop = asyncio.Event()

        async def traffic() -> None:
            while not stop.is_set():
                assert (await one.ask("a"))[0] == 200

        users = [asyncio.ensure_future(traffic()) for _ in range(3)]
        await eventually(lambda: one.manager.get("a").in_flight > 1)
        assert (await asyncio.wait_for(one.ask("b"), LIMIT))[0] == 200
        stop.set()
        await asyncio.gather(*users)

    async def test_one_who_leaves_the_queue_starts_nothing(self, one: Bench) -> None:
        await one.run("a", hold=True)
        await one.add("b")
        async with streaming(one, "a"):
            asking = asyncio.ensure_future(one.ask("b"))
            await one.until("b", lambda found: found.waiting == 1)
            asking.cancel()
            await one.until("b", lambda found: found.status == "stopped")
            await go(one, "a")
        assert one.starts("b") == 0

    async def test_a_full_queue_is_a_409_with_retry_after(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_running_instances=1, queue_size=1)
        await bench.run("a", hold=True)
        await bench.add("b")
        async with streaming(bench, "a"):
            asking = asyncio.ensure_future(bench.ask("b"))
            await bench.until("b", lambda found: found.waiting == 1)
            with pytest.raises(InstanceLimit, match="queue") as caught:
                await bench.ask("b")
            assert caught.value.http_status == 409
            assert caught.value.headers["Retry-After"]
            await go(bench, "a")
            assert bench.manager.get("a").in_flight == 1
        assert (await asking)[0] == 200

    async def test_who_waits_too_long_for_a_place_gets_a_409(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_running_instances=1, queue_timeout=0.05)
        await bench.run("a", hold=True)
        await bench.add("b")
        async with streaming(bench, "a"):
            with pytest.raises(InstanceLimit):
                await bench.ask("b")
            assert (await bench.settled("b")).status == "stopped"

    @pytest.mark.parametrize("spec", [{"pinned": True}, {"idle_timeout": 0.0}])
    async def test_pinned_instances_stay_and_nobody_waits_for_them(self, one: Bench, spec: dict[str, Any]) -> None:
        await one.run("a", spec=spec)
        await one.add("b")
        with pytest.raises(InstanceLimit):
            await asyncio.wait_for(one.ask("b"), LIMIT / 4)
        assert one.manager.get("a").status == "running"

    async def test_without_eviction_nobody_waits(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_running_instances=1, lru_eviction=False)
        await bench.run("a")
        await bench.add("b")
        with pytest.raises(InstanceLimit):
            await bench.ask("b")

    async def test_an_explicit_start_evicts_nobody(self, one: Bench) -> None:
        await one.run("a")
        await one.add("b")
        with pytest.raises(Conflict):
            await one.manager.start("b")
        with pytest.raises(Conflict):
            await one.add("c", start=True)
        assert [found.name for found in one.manager.all()] == ["a", "b"]
        assert one.manager.get("a").status == "running"

    async def test_the_place_of_a_stopping_instance_is_taken_until_it_is_reaped(self, one: Bench) -> None:
        await one.run("a", ignore_sigterm=True)
        await one.add("b")
        await one.manager.stop("a")
        with pytest.raises(Conflict):
            await one.manager.start("b")
        await one.settled("a")
        assert (await one.manager.start("b")).status == "starting"

    async def test_the_one_that_was_unused_longest_goes(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_running_instances=2)
        for name in ("a", "b", "c"):
            await bench.add(name)
        for name in ("a", "b", "a", "c"):
            await bench.ask(name)
        assert [found.status for found in bench.manager.all()] == ["running", "stopped", "running"]


class TestGroups:
    async def test_one_member_runs_at_a_time(self, open_bench: OpenBench) -> None:
        bench = await open_bench(groups={"gpu": ("a", "b")})
        await bench.run("a")
        await bench.run("free")
        await bench.add("b")
        with pytest.raises(Conflict):
            await bench.manager.start("b")
        assert (await bench.ask("b"))[0] == 200
        assert [found.status for found in bench.manager.all()] == ["stopped", "running", "running"]

    async def test_a_busy_member_is_waited_for(self, bench: Bench) -> None:
        await bench.run("a", spec={"group": "g"}, hold=True)
        await bench.add("b", spec={"group": "g"})
        async with streaming(bench, "a"):
            asking = asyncio.ensure_future(bench.ask("b"))
            await bench.until("b", lambda found: found.waiting == 1)
            await go(bench, "a")
            assert bench.manager.get("a").in_flight == 1
        assert (await asking)[0] == 200


class TestIdleness:
    async def test_the_idle_time_is_counted_from_the_end_of_the_last_request(self, open_bench: OpenBench) -> None:
        bench = await open_bench(idle_timeout=0.1)
        await bench.add("a", hold=True)
        async with streaming(bench, "a") as pieces:
            async with bench.manager.changes() as changes:
                with pytest.raises(TimeoutError):  # much longer than the idle time, and nothing changes
                    await asyncio.wait_for(anext(changes), 0.3)
            await go(bench, "a")
            assert b"[DONE]" in b"".join([piece async for piece in pieces])
        found = await bench.until("a", lambda one: one.status == "stopped")
        assert found.last_error is None

    async def test_a_pinned_instance_is_not_unloaded(self, open_bench: OpenBench) -> None:
        bench = await open_bench(idle_timeout=0.05)
        await bench.run("a", spec={"pinned": True})
        await bench.add("b")
        await bench.ask("b")
        await bench.until("b", lambda one: one.status == "stopped")
        assert bench.manager.get("a").status == "running"

    async def test_an_instances_own_time_is_in_minutes(self, bench: Bench) -> None:
        await bench.run("a", spec={"idle_timeout": 0.001})
        await bench.until("a", lambda one: one.status == "stopped")


class TestBoot:
    async def test_what_was_wanted_starts_again_and_what_failed_stays_failed(self, tmp_path: Path) -> None:
        async with bench_of(tmp_path) as first:
            await first.run("wanted")
            await first.run("stopped")
            await first.manager.stop("stopped")
            await first.add("asked")
            await first.ask("asked")
            await first.manager.create(
                "failed", Spec(options={"model": first.model("failed")}, extra_args=("--no-such-flag",)), start=True
            )
            assert (await first.settled("failed")).status == "failed"
        async with bench_of(tmp_path, host=first.host) as second:
            await second.until("wanted", lambda one: one.status == "running")
            states = {one.name: (one.status, one.error_code) for one in second.manager.all()}
        assert states == {
            "wanted": ("running", None), "stopped": ("stopped", None), "asked": ("stopped", None),
            "failed": ("failed", "bad_option"),
        }  # fmt: skip

    async def test_preload_comes_first_and_the_limit_holds(self, tmp_path: Path) -> None:
        async with bench_of(tmp_path) as first:
            await first.run("wanted")
            await first.add("first")
        settings: dict[str, Any] = {"preload": ("first", "unknown"), "max_running_instances": 1}
        async with bench_of(tmp_path, host=first.host, **settings) as second:
            await second.until("first", lambda one: one.status == "running")
            assert second.manager.get("wanted").status == "stopped"
            assert any(line["event"] == "instance_not_preloaded" for line in second.host.lines)

    async def test_a_spec_survives_whole(self, tmp_path: Path) -> None:
        async with bench_of(tmp_path) as first:
            spec = Spec(
                options={"model": first.model("a"), "gpu_layers": 0, "jinja": False}, extra_args=("--x", "y"),
                environment={"A": "b"},
                idle_timeout=0, pinned=True, group="g", max_memory_bytes=5, on_client_disconnect="drain", restart_delay=0.5,
            )  # fmt: skip
            await first.manager.create("a", spec, start=False)
        async with bench_of(tmp_path, host=first.host) as second:
            assert second.manager.get("a").spec == spec
