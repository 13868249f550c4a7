"""What ends by itself: back-off, permanent causes, memory, ports, and who is told."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from typing import Any

import pytest
from paddock_llama_server import causes, groups
from paddock_llama_server.bench import Bench, call, eventually
from paddock_llama_server.fixtures import OpenBench
from paddock_llama_server.spec import Spec

from paddock.errors import BadRequest, Conflict, ProviderUnavailable


async def crash(bench: Bench, name: str = "a", number: signal.Signals = signal.SIGSEGV) -> None:
    run = bench.owner(name).run
    assert run is not None
    os.kill(run.child.pid, number)
    await eventually(lambda: run.exited)


class TestBackOff:
    async def test_a_crashed_instance_comes_back(self, bench: Bench) -> None:
        before = await bench.run("a")
        await crash(bench)
        assert bench.manager.get("a").status == "restarting"
        after = await bench.settled("a")
        assert after.status == "running"
        assert after.pid != before.pid
        assert after.restarts == 1
        await bench.manager.restart("a")
        assert (await bench.settled("a")).restarts == 1  # a counter of /metrics: it never falls

    async def test_a_request_during_the_wait_joins_the_pending_start(self, open_bench: OpenBench) -> None:
        bench = await open_bench(restart_delay=0.1)
        await bench.run("a")
        await crash(bench)
        assert (await bench.ask("a"))[0] == 200
        assert bench.starts("a") == 2

    @pytest.mark.parametrize("act", ["stop", "delete"])
    async def test_an_order_ends_the_wait_at_once(self, open_bench: OpenBench, act: str) -> None:
        bench = await open_bench(restart_delay=60)
        await bench.run("a")
        await crash(bench)
        await bench.until("a", lambda one: one.pid is None)
        await getattr(bench.manager, act)("a")
        if act == "stop":
            assert (await bench.settled("a")).status == "stopped"
        else:
            assert bench.manager.all() == []
        assert bench.starts("a") == 1

    async def test_a_start_does_not_wait_for_the_end_of_the_back_off(self, open_bench: OpenBench) -> None:
        bench = await open_bench(restart_delay=60)
        await bench.run("a")
        await crash(bench)
        await bench.until("a", lambda one: one.pid is None)
        await bench.manager.start("a")
        assert (await bench.settled("a")).status == "running"

    async def test_too_many_crashes_are_a_failure_with_an_alert(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_restarts=2)
        await bench.run("a", say=["about to die"])
        for _ in range(2):
            await crash(bench)
            await bench.settled("a")
        async with bench.manager.changes() as changes:
            await crash(bench)
            alert = await anext(change async for change in changes if change.kind == "alert")
        assert alert.code == "crash_loop"
        found = await bench.settled("a")
        assert (found.status, found.error_code) == ("failed", "crash_loop")
        assert "SIGSEGV" in (found.last_error or "")
        assert "about to die" in (found.last_error or "")
        assert any(event["type"] == "instance" and event.get("action") == "fail" for event in bench.host.events)

    async def test_crashes_outside_of_the_window_do_not_count(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_restarts=1, restart_window=0)
        await bench.run("a")
        for _ in range(3):
            await crash(bench)
            assert (await bench.settled("a")).status == "running"

    async def test_a_failure_is_left_by_the_next_request(self, bench: Bench) -> None:
        await bench.run("a", spec={"auto_restart": False})
        await crash(bench)
        found = await bench.settled("a")
        assert (found.status, found.error_code) == ("failed", "crashed")
        bench.owner("a")._failed_at = 0.0
        assert (await bench.ask("a"))[0] == 200
        assert bench.manager.get("a").last_error is None

    async def test_a_failure_is_left_by_start_and_by_stop(self, bench: Bench) -> None:
        await bench.run("a", spec={"auto_restart": False})
        for act, status in (("start", "running"), ("stop", "stopped")):
            if bench.manager.get("a").status == "running":
                await crash(bench)
            assert (await bench.settled("a")).status == "failed"
            await getattr(bench.manager, act)("a")
            found = await bench.settled("a")
            assert (found.status, found.last_error) == (status, None)

    async def test_a_clean_end_is_no_crash(self, bench: Bench) -> None:
        await bench.run("a", exit_code=0)
        await crash(bench, number=signal.SIGTERM)
        found = await bench.settled("a")
        assert (found.status, found.last_error) == ("stopped", None)
        assert bench.starts("a") == 1

    async def test_a_death_in_mid_stream_reaches_the_reader(self, bench: Bench) -> None:
        await bench.run("a", die_after=2)
        async with bench.server.serve(call("a", stream=True)) as reply:
            with pytest.raises(ProviderUnavailable):
                async for _ in reply.chunks():
                    pass
        assert (await bench.settled("a")).status == "running"

    async def test_grandchildren_of_a_crashed_process_are_killed(self, bench: Bench) -> None:
        found = await bench.run("a", fork=True, spec={"auto_restart": False})
        assert found.pid is not None
        await crash(bench)
        await bench.settled("a")
        assert groups.members(found.pid) == []


class TestPermanentCauses:
    async def test_a_bad_flag_fails_at_once_with_its_words(self, bench: Bench) -> None:
        spec = Spec(options={"model": bench.model("a")}, extra_args=("--no-such-flag",))
        await bench.manager.create("a", spec, start=True)
        found = await bench.settled("a")
        assert (found.status, found.error_code, found.restarts) == ("failed", "bad_option", 0)
        assert "--no-such-flag" in (found.last_error or "")

    async def test_the_same_words_twice_are_enough(self, bench: Bench) -> None:
        await bench.add("a", start=True, fail_starts=99, say=["number 1 went wrong"])
        found = await bench.settled("a")
        assert (found.status, bench.starts("a")) == ("failed", 2)

    async def test_the_path_of_a_model_that_vanished_is_for_those_who_manage_it(self, bench: Bench) -> None:
        found = await bench.run("a")
        await bench.manager.stop("a")
        await bench.settled("a")
        await asyncio.to_thread(os.unlink, found.spec.options["model"])
        with pytest.raises(ProviderUnavailable, match="a file of its model is missing") as raised:
            await bench.ask("a")
        assert (raised.value.code, "a.gguf" in raised.value.message) == ("model_file_missing", False)
        failed = bench.manager.get("a")
        assert (failed.error_code, "a.gguf" in (failed.last_error or "")) == ("model_file_missing", True)

    async def test_a_start_without_progress_fails_in_time(self, open_bench: OpenBench) -> None:
        bench = await open_bench(start_timeout=0.3)
        await bench.add("a", start=True, never_ready=True)
        found = await bench.settled("a")
        assert (found.status, found.error_code) == ("failed", "start_timeout")
        assert all(groups.members(pid) == [] for pid in bench.pids("a"))

    async def test_the_words_of_an_earlier_process_do_not_explain_the_end_of_a_later_one(self, bench: Bench) -> None:
        await bench.add(
            "a", spec={"auto_restart": False}, start=True, fail_starts=1, say=["error: unknown argument: -x"]
        )
        assert (await bench.settled("a")).error_code == "bad_option"
        bench.model("a", fail_starts=9)
        await bench.manager.start("a")
        found = await bench.settled("a")
        assert (found.error_code, "unknown argument" in (found.last_error or "")) == ("crashed", False)


class TestMemory:
    async def test_an_idle_one_makes_room_and_the_start_is_tried_once_more(self, bench: Bench) -> None:
        await bench.run("idle")
        await bench.add("a", fail_starts=1, say=["ggml: failed to allocate buffer"])
        assert (await bench.ask("a"))[0] == 200
        assert bench.manager.get("idle").status == "stopped"
        assert bench.starts("a") == 2

    async def test_without_an_idle_one_it_fails_at_once(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_running_instances=1)
        await bench.add("a", start=True, fail_starts=9, say=["CUDA error: out of memory"])
        found = await bench.settled("a")
        assert (found.status, found.error_code, bench.starts("a")) == ("failed", "out_of_memory", 1)
        await bench.run("b")  # its place was free at once

    async def test_a_kill_that_is_not_ours_while_loading_is_the_kernels(self, bench: Bench) -> None:
        await bench.add("a", start=True, never_ready=True)
        await bench.until("a", lambda one: bench.starts("a") == 1)
        await crash(bench, number=signal.SIGKILL)
        assert (await bench.settled("a")).error_code == "out_of_memory"

    async def test_over_its_ceiling_it_is_recycled_once_idle(self, bench: Bench) -> None:
        before = await bench.run("a", hold=True, spec={"max_memory_bytes": 1000})
        run = bench.owner("a").run
        assert run is not None
        async with bench.server.serve(call("a", stream=True)) as reply:
            pieces = reply.chunks()
            await anext(pieces)
            await eventually(lambda: run.recycle)
            assert bench.manager.get("a").pid == before.pid
            await bench.child(run.address, "POST", "/stub/go")
            assert b"[DONE]" in b"".join([piece async for piece in pieces])
        after = await bench.until("a", lambda one: one.status == "running" and one.pid != before.pid)
        assert after.pid is not None
        assert bench.starts("a") == 2


class TestPorts:
    async def test_a_child_that_could_not_bind_gets_another_port(self, bench: Bench) -> None:
        await bench.add("a", start=True, fail_starts=1, say=["couldn't bind HTTP server socket"])
        found = await bench.settled("a")
        assert (found.status, found.restarts, bench.starts("a")) == ("running", 0, 2)

    async def test_a_fixed_port_in_use_is_told_with_its_holder_and_nothing_is_created(self, bench: Bench) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(BadRequest, match=f"process {os.getpid()}"):
                await bench.add("a", start=True, spec={"port": port})
        assert bench.manager.all() == []

    async def test_a_taken_port_is_skipped(self, open_bench: OpenBench) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            bench = await open_bench(port_first=port, port_last=port + 1 if port < 65535 else port)
            found = await bench.add("a", start=True)
            found = await bench.settled("a")
        assert found.port != port

    async def test_without_a_free_port_the_setting_is_named(self, open_bench: OpenBench) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            bench = await open_bench(port_first=port, port_last=port)
            await bench.add("a", start=True)
            assert "llama_server.port_first" in ((await bench.settled("a")).last_error or "")

    async def test_paddocks_own_port_and_those_of_others_are_refused(self, bench: Bench) -> None:
        bench.host.port = 14000
        with pytest.raises(BadRequest, match="paddock's own"):
            await bench.add("a", spec={"port": 14000})
        await bench.add("b", spec={"port": 14001})
        with pytest.raises(Conflict, match="b"):
            await bench.add("c", spec={"port": 14001})
        await bench.manager.delete("b")
        await bench.add("c", spec={"port": 14001})


@pytest.mark.parametrize(
    ("code", "line", "kind"),
    [
        (1, "error: invalid argument: --nosuch", "bad_option"),
        (1, "0.00.019.324 E gguf_init_from_file: failed to open GGUF file '/x' (No such file or directory)",
         "model_file_missing"),
        (1, "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory",
         "out_of_memory"),
        (-9, "loading", "out_of_memory"),
        (1, "E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 80", "port_taken"),
        (127, "error: can't run /bin/x: Permission denied", "not_run"),
        (-11, "loading", "crashed"),
        (0, "bye", "clean"),
    ],
)  # fmt: skip
def test_an_end_is_judged_by_its_words_and_status(code: int, line: str, kind: str) -> None:
    assert causes.judge(code, ["first", line]).kind == kind


def test_ends_that_differ_in_numbers_only_look_alike() -> None:
    marks: set[Any] = {causes.judge(1, [f"0.00.{number} E failed at 0x{number}"]).mark for number in (100, 222)}
    assert len(marks) == 1
