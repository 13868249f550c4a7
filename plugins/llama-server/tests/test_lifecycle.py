"""One instance's life: orders, requests and ends, each pair of them in both orders."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paddock_llama_server import groups
from paddock_llama_server.bench import LIMIT, Bench, bench_of, call, eventually
from paddock_llama_server.fixtures import OpenBench
from paddock_llama_server.spec import Spec

from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    InstanceNotFound,
    PaddockError,
    ProviderUnavailable,
)


async def vanishes(pid: int) -> None:
    """Wait until nothing is left of a child."""
    assert await groups.vanished(pid, LIMIT)


class TestOrders:
    async def test_an_instance_is_starting_then_running_with_a_process_and_a_port(self, bench: Bench) -> None:
        found = await bench.add("a", start=True, load_delay=0.1)
        assert (found.status, found.wanted) == ("starting", "running")
        found = await bench.settled("a")
        assert found.status == "running"
        assert found.pid in bench.pids("a")
        assert found.port is not None
        assert found.started is not None

    async def test_running_means_that_the_child_answered_that_it_is_ready(self, bench: Bench) -> None:
        await bench.add("a", start=True, never_ready=True)
        await bench.until("a", lambda one: one.pid is not None)
        assert bench.manager.get("a").status == "starting"
        with pytest.raises(ProviderUnavailable):
            async with bench.manager.lease("a", on_demand=False):
                pass

    async def test_every_order_is_idempotent(self, bench: Bench) -> None:
        running = await bench.run("a")
        assert (await bench.manager.start("a")).pid == running.pid
        assert (await bench.manager.stop("a")).status == "stopping"
        assert (await bench.manager.stop("a")).status == "stopping"
        assert (await bench.settled("a")).status == "stopped"
        assert (await bench.manager.stop("a")).status == "stopped"
        assert bench.starts("a") == 1

    async def test_a_restart_brings_a_new_process(self, bench: Bench) -> None:
        before = await bench.run("a")
        assert (await bench.manager.restart("a")).status == "restarting"
        after = await bench.settled("a")
        assert after.status == "running"
        assert after.pid != before.pid

    async def test_an_update_restarts_what_runs_with_the_new_options(self, bench: Bench) -> None:
        before = await bench.run("a")
        spec = Spec(options={**before.spec.options, "ctx_size": 77})
        await bench.manager.update("a", spec)
        await bench.settled("a")
        async with bench.manager.lease("a", on_demand=False) as address:
            state = await bench.child(address, "GET", "/stub/state")
        assert state["argv"][state["argv"].index("--ctx-size") + 1] == "77"

    async def test_an_update_of_a_stopped_one_leaves_it_stopped(self, bench: Bench) -> None:
        found = await bench.add("a")
        after = await bench.manager.update("a", Spec(options={**found.spec.options, "threads": 1}))
        assert after.status == "stopped"
        assert bench.starts("a") == 0

    async def test_after_a_deletion_the_name_is_free_and_nothing_is_left(self, bench: Bench) -> None:
        found = await bench.run("a")
        await bench.manager.delete("a")
        assert found.pid is not None
        assert groups.members(found.pid) == []
        assert not (bench.folder / "data" / "logs" / "instances" / "a").exists()
        assert await bench.host.records.all("instance") == {}
        assert await bench.host.records.all("spawned") == {}
        with pytest.raises(InstanceNotFound):
            bench.manager.get("a")
        assert (await bench.run("a")).status == "running"

    async def test_a_deletion_that_its_caller_leaves_goes_on(self, bench: Bench) -> None:
        await bench.run("a", ignore_sigterm=True)
        async with bench.manager.changes() as changes:
            deleting = asyncio.ensure_future(bench.manager.delete("a"))
            await anext(changes)
            deleting.cancel()
            async with asyncio.timeout(LIMIT):
                while (await anext(changes)).kind != "deleted":
                    pass
        assert bench.manager.all() == []

    async def test_stop_signals_then_kills_the_whole_group(self, bench: Bench) -> None:
        found = await bench.run("a", ignore_sigterm=True, fork=True)
        assert found.pid is not None
        assert len(groups.members(found.pid)) == 2
        await bench.manager.stop("a")
        assert (await bench.settled("a")).status == "stopped"
        assert groups.members(found.pid) == []

    async def test_a_forced_stop_kills_at_once(self, open_bench: OpenBench) -> None:
        bench = await open_bench(kill_grace=LIMIT * 2)
        found = await bench.run("a", ignore_sigterm=True)
        await bench.manager.stop("a", force=True)
        await bench.settled("a")
        assert found.pid is not None
        assert groups.members(found.pid) == []

    async def test_force_hurries_a_stop_that_is_under_way(self, open_bench: OpenBench) -> None:
        bench = await open_bench(kill_grace=LIMIT * 2)
        await bench.run("a", ignore_sigterm=True)
        await bench.manager.stop("a")
        await bench.manager.stop("a", force=True)
        assert (await bench.settled("a")).status == "stopped"


class TestBadOrders:
    @pytest.mark.parametrize("name", ["", "..", ".", "a/b", "a\x00", "ü", "x" * 65, "%2e%2e"])
    async def test_names_that_walk_the_disk_are_refused(self, bench: Bench, name: str) -> None:
        with pytest.raises(BadName):
            await bench.manager.create(name, Spec(), start=False)

    @pytest.mark.parametrize("name", ["start-all", "stop-all", "version", "server"])
    async def test_names_of_paths_are_reserved(self, bench: Bench, name: str) -> None:
        with pytest.raises(BadRequest, match="reserved"):
            await bench.manager.create(name, Spec(), start=False)

    async def test_a_name_is_given_once_also_to_two_who_ask_together(self, bench: Bench) -> None:
        ends = await asyncio.gather(bench.add("a"), bench.add("a"), return_exceptions=True)
        assert sorted(type(end).__name__ for end in ends) == ["Instance", "InstanceExists"]

    async def test_the_number_of_instances_is_limited(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_instances=1)
        await bench.add("a")
        with pytest.raises(Conflict, match="max_instances"):
            await bench.add("b")

    async def test_a_missing_file_is_told_with_its_path_and_nothing_is_created(self, bench: Bench) -> None:
        with pytest.raises(BadRequest, match=r"/nowhere/x\.gguf"):
            await bench.manager.create("a", Spec(options={"model": "/nowhere/x.gguf"}), start=True)
        assert bench.manager.all() == []

    async def test_a_missing_file_is_told_at_a_start(self, bench: Bench) -> None:
        await bench.manager.create("a", Spec(options={"model": "/nowhere/x.gguf"}), start=False)
        with pytest.raises(BadRequest, match=r"/nowhere/x\.gguf"):
            await bench.manager.start("a")

    @pytest.mark.parametrize(
        "variable", ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "PYTHONPATH", "PADDOCK_OWNER", "a b"]
    )
    async def test_variables_that_load_code_are_refused(self, bench: Bench, variable: str) -> None:
        with pytest.raises(BadRequest, match="environment"):
            await bench.manager.create("a", Spec(environment={variable: "x"}), start=False)

    async def test_with_keys_files_outside_the_folders_are_refused_naming_the_setting(self, bench: Bench) -> None:
        bench.host.closed = True
        with pytest.raises(BadRequest, match=r"llama_server\.model_dirs"):
            await bench.add("a", start=True)

    async def test_a_missing_llama_server_names_the_setting(self, open_bench: OpenBench) -> None:
        bench = await open_bench(command="/nowhere/llama-server")
        with pytest.raises(PaddockError, match=r"llama_server\.command") as caught:
            await bench.add("a", start=True)
        assert caught.value.http_status == 500
        assert (await bench.server.health()).status == "degraded"

    async def test_unknown_names_are_not_found(self, bench: Bench) -> None:
        for work in (bench.manager.start, bench.manager.stop, bench.manager.restart, bench.manager.delete):
            with pytest.raises(InstanceNotFound):
                await work("nobody")


class TestChild:
    async def test_it_gets_a_minimal_environment_and_the_instances_own(
        self, open_bench: OpenBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PADDOCK_AUTH__MANAGEMENT_KEYS", "secret")
        bench = await open_bench(environment={"FROM_SETTINGS": "1"})
        options = {"model": bench.model("a"), "api_key": "own", "hf_token": "hf_private"}
        await bench.run("a", spec={"environment": {"FROM_SPEC": "2"}, "options": options})
        async with bench.manager.lease("a", on_demand=False) as address:
            state = await bench.child(address, "GET", "/stub/state")
        environ = state["environ"]
        assert environ["FROM_SETTINGS"] == "1"
        assert environ["FROM_SPEC"] == "2"
        assert environ["LLAMA_API_KEY"] == f"{address.api_key},own"
        assert environ["HF_TOKEN"] == "hf_private"
        assert "PADDOCK_AUTH__MANAGEMENT_KEYS" not in environ
        assert address.api_key not in " ".join(state["argv"])
        assert not {"own", "hf_private", "--hf-token"} & set(state["argv"])

    async def test_the_kernel_would_rather_kill_it_than_paddock(self, bench: Bench) -> None:
        found = await bench.run("a")
        score = await asyncio.to_thread(Path(f"/proc/{found.pid}/oom_score_adj").read_text)
        assert int(score) >= 500

    async def test_a_server_that_does_not_know_the_key_is_not_taken_for_the_child(self, bench: Bench) -> None:
        """Another llama-server stands on the port and answers /health with 200."""
        await bench.run("a")
        other = await bench.run("b")
        run = bench.owner("a").run
        assert run is not None
        assert await run.is_ours(bench.http)
        run.plan = msgspec.structs.replace(run.plan, port=other.port)
        assert not await run.is_ours(bench.http)

    async def test_memory_and_processor_are_measured(self, bench: Bench) -> None:
        await bench.run("a", hog=30_000_000)
        found = await bench.until("a", lambda one: one.cpu_percent is not None)
        assert found.memory_bytes is not None
        assert found.memory_bytes > 30_000_000


# --- pairs -------------------------------------------------------------------------------------------------------------


async def request(bench: Bench) -> None:
    """A request, whole; it may be refused with a proper error."""
    with suppress(ProviderUnavailable, InstanceNotFound, Conflict):
        status, _ = await bench.ask("a")
        assert status == 200


async def crash(bench: Bench) -> None:
    """The process dies, if there is one."""
    run = bench.owner("a").run if bench.manager.has("a") else None
    if run is not None:
        with suppress(ProcessLookupError):
            os.kill(run.child.pid, signal.SIGSEGV)
        await eventually(lambda: run.exited)


async def idle(bench: Bench) -> None:
    """The idle time ends."""
    if bench.manager.has("a"):
        bench.owner("a").evict()


async def update(bench: Bench) -> None:
    """New options."""
    found = bench.manager.get("a")
    await bench.manager.update("a", Spec(options={**found.spec.options, "threads": 2}, restart_delay=0.01))


def order(name: str) -> Callable[[Bench], Awaitable[None]]:
    """An order that may come too late."""

    async def give(bench: Bench) -> None:
        with suppress(InstanceNotFound, Conflict):
            await getattr(bench.manager, name)("a")

    return give


ACTS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    **{name: order(name) for name in ("start", "stop", "restart", "delete")},
    "request": request, "crash": crash, "idle": idle, "update": update,
}  # fmt: skip
BEGINNINGS = ("stopped", "starting", "running")
LASTING = {"start": "running", "restart": "running", "stop": "stopped"}


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(ACTS, 2)))
async def test_any_two_acts_leave_the_instance_as_the_last_order_says(
    bench: Bench, first: str, second: str, beginning: str
) -> None:
    await bench.add(
        "a",
        start=beginning != "stopped",
        load_delay=0.05,
        spec={"restart_delay": 0.01},
    )
    if beginning == "running":
        await bench.settled("a")
    async with asyncio.timeout(LIMIT):
        one = asyncio.ensure_future(ACTS[first](bench))
        await asyncio.sleep(0)
        two = asyncio.ensure_future(ACTS[second](bench) if bench.manager.has("a") else asyncio.sleep(0))
        await asyncio.gather(one, two, return_exceptions=second == "update")
    if "delete" in (first, second):
        assert bench.manager.all() == []
        return
    found = await bench.settled("a")
    assert found.in_flight == found.waiting == 0
    if second in LASTING and first not in ("request", "crash", "idle"):
        assert found.status == LASTING[second]
    elif found.status == "running":
        assert found.pid is not None
        assert (await bench.ask("a"))[0] == 200
    else:
        assert found.status == "stopped", found.last_error
    live = [pid for pid in bench.pids("a") if groups.started(pid) and groups.members(pid)]
    assert live == ([found.pid] if found.status == "running" else [])


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.parametrize("act", ACTS)
async def test_a_shutdown_leaves_no_process_whatever_goes_on(tmp_path: Path, act: str, beginning: str) -> None:
    async with bench_of(tmp_path) as bench:
        await bench.add("a", start=beginning != "stopped", load_delay=0.05)
        if beginning == "running":
            await bench.settled("a")
        going = asyncio.ensure_future(ACTS[act](bench))
        await asyncio.sleep(0)
    await asyncio.gather(going, return_exceptions=True)
    for pid in bench.pids("a"):
        assert groups.members(pid) == []


async def test_after_a_shutdown_orders_and_requests_are_refused(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await bench.add("a")
    for work in (bench.manager.start("a"), bench.ask("a"), bench.add("b")):
        with pytest.raises(ProviderUnavailable):
            await work


class TestDraining:
    async def held(self, bench: Bench) -> tuple[Any, Any]:
        """A stream that stands behind its first token, and a way to let it go on."""
        context = bench.server.serve(call("a", stream=True))
        reply = await context.__aenter__()
        pieces = reply.chunks()
        assert b"t0" in await anext(pieces)
        return context, pieces

    @pytest.mark.parametrize("act", ["stop", "restart", "delete"])
    async def test_a_stream_in_flight_ends_whole(self, bench: Bench, act: str) -> None:
        found = await bench.run("a", hold=True)
        context, pieces = await self.held(bench)
        run = bench.owner("a").run
        assert run is not None
        ordered = asyncio.ensure_future(getattr(bench.manager, act)("a"))
        await bench.until("a", lambda one: one.status in ("stopping", "restarting"))
        await bench.child(run.address, "POST", "/stub/go")
        rest = b"".join([piece async for piece in pieces])
        assert rest.endswith(b"[DONE]\n\n")
        await context.__aexit__(None, None, None)
        await ordered
        assert found.pid is not None
        await vanishes(found.pid)

    async def test_a_stream_that_lasts_too_long_is_cut_when_the_grace_ends(self, bench: Bench) -> None:
        await bench.run("a", hold=True)
        context, pieces = await self.held(bench)
        await bench.manager.stop("a", timeout=0.05)
        with pytest.raises(ProviderUnavailable):
            async for _ in pieces:
                pass
        await context.__aexit__(None, None, None)
        assert (await bench.settled("a")).status == "stopped"

    async def test_force_cuts_a_stream_at_once(self, open_bench: OpenBench) -> None:
        bench = await open_bench(stop_grace=LIMIT * 2)
        await bench.run("a", hold=True)
        context, pieces = await self.held(bench)
        await bench.manager.stop("a", force=True)
        with pytest.raises(ProviderUnavailable):
            async for _ in pieces:
                pass
        await context.__aexit__(None, None, None)

    async def test_a_client_that_leaves_cancels_the_childs_work(self, bench: Bench) -> None:
        await bench.run("a", hold=True)
        context, pieces = await self.held(bench)
        await pieces.aclose()
        await context.__aexit__(None, None, None)
        await self.until_gone(bench)
        assert bench.manager.get("a").in_flight == 0

    async def until_gone(self, bench: Bench) -> None:
        run = bench.owner("a").run
        assert run is not None

        async def gone() -> bool:
            return bool((await bench.child(run.address, "GET", "/stub/state"))["gone"])

        await eventually(gone)

    async def test_with_drain_the_work_goes_on_without_its_client(self, bench: Bench) -> None:
        await bench.run("a", hold=True, spec={"on_client_disconnect": "drain"})
        context, pieces = await self.held(bench)
        await pieces.aclose()
        await context.__aexit__(None, None, None)
        assert bench.manager.get("a").in_flight == 1
        run = bench.owner("a").run
        assert run is not None
        await bench.child(run.address, "POST", "/stub/go")
        await bench.server.close()
        assert bench.manager.get("a").in_flight == 0
        assert (await bench.child(run.address, "GET", "/stub/state"))["gone"] == 0

    async def test_with_drain_a_client_that_leaves_before_the_answer_loses_nothing(self, bench: Bench) -> None:
        await bench.run("a", hold=True, spec={"on_client_disconnect": "drain"})
        asking = asyncio.ensure_future(bench.ask("a"))
        run = bench.owner("a").run
        assert run is not None

        async def asked() -> bool:
            return bool((await bench.child(run.address, "GET", "/stub/state"))["requests"])

        await eventually(asked)
        asking.cancel()
        await asyncio.wait({asking})
        assert run.in_flight == 1
        await bench.child(run.address, "POST", "/stub/go")
        await bench.server.close()
        assert run.in_flight == 0
