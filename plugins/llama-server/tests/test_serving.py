"""Instances as a model server and as universal chat: names, catalogue, credentials, managed instances; the real llama-server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paddock_llama_server import UniversalChat, stub
from paddock_llama_server.bench import Bench, call
from paddock_llama_server.fixtures import OpenBench
from paddock_llama_server.server import instance_name, with_model
from paddock_llama_server.spec import Spec
from paddock_llama_server.tiny import write_tiny_model
from paddock_llama_server.tools import StartFailed

from paddock.contracts.providers import ChatCall
from paddock.contracts.providers.serving import GatewayCall, Operation
from paddock.errors import BadRequest, InstanceLimit, ModelNotFound, UpstreamError


class TestNames:
    async def test_instances_are_claimed_and_nothing_else(self, bench: Bench) -> None:
        await bench.add("a")
        assert bench.server.claims("a") == "a"
        assert bench.server.claims("a/inner/x") == "a/inner/x"
        assert bench.server.claims("b") is None
        assert bench.server.claims("/a") is None

    @pytest.mark.parametrize("model", ["org/name:Q4_K_M", "x" * 200, "../../etc", "ü", "-.", "/models/a.gguf"])
    def test_a_managed_instances_name_is_fit_and_its_own(self, model: str) -> None:
        names = {instance_name(model), instance_name(model + "x")}
        assert len(names) == 2
        assert all(0 < len(name) <= 64 and name.strip("-.") == name for name in names)

    def test_another_model_changes_no_other_byte(self) -> None:
        body = b'{"z": 12345678901234567890123, "model" : "a/b", "a": [1.0, 1e3], "u": "\\u00e4"}'
        changed = with_model(body, "b")
        assert b"12345678901234567890123" in changed
        assert b"[1.0, 1e3]" in changed
        assert b'"\\u00e4"' in changed
        assert msgspec.json.decode(changed)["model"] == "b"

    async def test_the_catalogue_lists_instances_with_their_status_and_files(self, bench: Bench) -> None:
        await bench.run("a")
        await bench.add("b")
        stub.write_model(bench.folder / "data/models/hub/models--o--m/snapshots/1/m-Q4_0.gguf")
        found = {one.id: one for one in await bench.server.models()}
        assert list(found) == ["a", "b", "o/m:Q4_0"]
        assert (found["a"].owned_by, found["a"].details["status"], found["b"].details["status"]) == (
            "llamactl",
            "running",
            "stopped",
        )
        assert found["o/m:Q4_0"].size


class TestServing:
    @pytest.mark.parametrize(
        "operation", ["chat/completions", "completions", "embeddings", "rerank", "responses", "messages"]
    )
    async def test_every_operation_has_its_path(self, bench: Bench, operation: Operation) -> None:
        await bench.add("a")
        asked = GatewayCall(operation=operation, model="a", body=b'{"model":"a"}', stream=False)
        async with bench.server.serve(asked) as reply:
            assert reply.status == 200

    async def test_the_child_gets_its_own_key_and_the_body_as_it_came(self, bench: Bench) -> None:
        await bench.add("a")
        asked = call("a", extra=1)
        asked = msgspec.structs.replace(asked, headers={"openai-beta": "x"})
        async with bench.server.serve(asked) as reply:
            got = msgspec.json.decode(await reply.read())["got"]
        run = bench.owner("a").run
        assert run is not None
        assert got["headers"]["authorization"] == f"Bearer {run.plan.api_key}"
        assert got["headers"]["openai-beta"] == "x"
        assert got["body"] == msgspec.json.decode(asked.body)

    async def test_the_name_inside_an_instance_reaches_the_child(self, bench: Bench) -> None:
        await bench.add("a")
        _, reply = await bench.ask("a/inner")
        assert reply["got"]["body"]["model"] == "inner"

    async def test_a_gguf_file_becomes_an_instance_with_the_first_request(self, bench: Bench) -> None:
        path = stub.write_model(bench.folder / "data/models/hub/models--o--m/snapshots/1/m-Q4_0.gguf")
        replies = await asyncio.gather(*(bench.ask("o/m:Q4_0") for _ in range(5)))
        assert {status for status, _ in replies} == {200}
        (found,) = bench.manager.all()
        assert found.spec.managed
        assert found.spec.options == {"model": str(path)}
        assert (await bench.ask(found.name))[0] == 200

    async def test_an_unknown_model_is_not_found(self, bench: Bench) -> None:
        with pytest.raises(ModelNotFound):
            await bench.ask("nobody")

    async def test_health_tells_what_failed(self, bench: Bench) -> None:
        await bench.manager.create(
            "a", Spec(options={"model": bench.model("a")}, extra_args=("--no-such-flag",)), start=True
        )
        await bench.settled("a")
        health = await bench.server.health()
        assert (health.status, health.details["failed"]) == ("degraded", ["a"])


class TestUniversal:
    @pytest.fixture
    def chat(self, bench: Bench) -> UniversalChat:
        stub.write_model(bench.folder / "data/models/m.gguf")
        return UniversalChat(bench.server)

    async def whole(self, chat: UniversalChat, **given: Any) -> Any:
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **given.pop("body", {})}
        pieces = [piece async for piece in chat.chat(ChatCall(body=body, stream=given.pop("stream", False), **given))]
        return b"".join(pieces)

    async def test_a_file_of_the_model_folder_answers(self, chat: UniversalChat) -> None:
        reply = msgspec.json.decode(await self.whole(chat))
        assert reply["choices"][0]["message"]["content"] == "t0 t1 t2 "
        assert (await self.whole(chat, stream=True)).endswith(b"data: [DONE]\n\n")

    async def test_of_first_requests_that_come_together_each_is_answered_by_the_one_instance(
        self, chat: UniversalChat, bench: Bench
    ) -> None:
        replies = await asyncio.gather(*(self.whole(chat) for _ in range(10)))
        assert all(b"t0 t1 t2" in reply for reply in replies)
        assert [one.name for one in bench.manager.all()] == ["m"]

    async def test_as_many_instances_as_may_be_are_told_as_such(self, open_bench: OpenBench) -> None:
        bench = await open_bench(max_instances=1)
        await bench.add("a")
        stub.write_model(bench.folder / "data/models/m.gguf")
        with pytest.raises(InstanceLimit):
            await self.whole(UniversalChat(bench.server))

    async def test_n_ctx_is_the_managed_instances_context(self, chat: UniversalChat, bench: Bench) -> None:
        await self.whole(chat)
        await self.whole(chat, options={"n_ctx": 512})
        (found,) = bench.manager.all()
        assert found.spec.options["ctx_size"] == 512

    async def test_another_n_ctx_waits_for_the_requests_in_flight(self, chat: UniversalChat, bench: Bench) -> None:
        stub.write_model(bench.folder / "data/models/m.gguf", hold=True)
        pieces = chat.chat(ChatCall(body={"model": "m", "messages": []}, stream=True))
        assert b"t0" in await anext(pieces)
        run = bench.owner("m").run
        assert run is not None
        asking = asyncio.ensure_future(
            anext(chat.chat(ChatCall(body={"model": "m"}, stream=True, options={"n_ctx": 512})))
        )
        await bench.until("m", lambda one: one.waiting == 1)
        await bench.child(run.address, "POST", "/stub/go")
        assert b"".join([piece async for piece in pieces]).endswith(b"[DONE]\n\n")
        assert b"t0" in await asking
        assert bench.manager.get("m").spec.options["ctx_size"] == 512

    async def test_the_options_of_loading_that_a_project_may_name_are_the_managed_instances(
        self, chat: UniversalChat, bench: Bench
    ) -> None:
        given = {"n_ctx": 256, "n_batch": 64, "n_gpu_layers": 0, "n_threads": 2, "flash_attn": False}
        kept = {"use_mmap": True, "use_mlock": False, "cache_type_k": None, "temperature": 0.5}
        reply = msgspec.json.decode(await self.whole(chat, body={**given, **kept}, options={"n_ctx": 512}))
        options = {"ctx_size": 512, "batch_size": 64, "gpu_layers": 0, "threads": 2, "flash_attn": "off"}
        (found,) = bench.manager.all()
        assert {**found.spec.options, **options} == found.spec.options
        assert set(found.spec.options) == {"model", *options}
        assert not set(reply["got"]["body"]) & {*given, "use_mmap", "use_mlock", "cache_type_k"}
        assert reply["got"]["body"]["temperature"] == 0.5

    async def test_what_one_request_asked_for_in_vain_does_not_break_the_model_for_the_next(
        self, chat: UniversalChat, bench: Bench
    ) -> None:
        stub.write_model(
            bench.folder / "data/models/m.gguf",
            state=str(bench.folder / "m.starts"),
            fail_starts=1,
            say=["error: invalid argument: 1000000000000"],
        )
        with pytest.raises(StartFailed):
            await self.whole(chat, options={"n_ctx": 10**12})
        assert b"t0 t1 t2" in await self.whole(chat)
        (found,) = bench.manager.all()
        assert set(found.spec.options) == {"model"}

    @pytest.mark.parametrize("given", [{"n_batch": "x"}, {"flash_attn": 3}, {"cache_type_k": 5}])
    async def test_a_value_of_the_wrong_type_is_refused_by_name(self, chat: UniversalChat, given: Any) -> None:
        (name,) = given
        with pytest.raises(BadRequest, match=name):
            await self.whole(chat, body=given)

    async def test_n_ctx_of_an_instance_of_the_users_own_is_refused(self, chat: UniversalChat, bench: Bench) -> None:
        await bench.add("own")
        with pytest.raises(BadRequest, match="ctx_size"):
            await self.whole(chat, body={"model": "own"}, options={"n_ctx": 512})

    @pytest.mark.parametrize("option", ["auto_truncate", "truncation_strategy"])
    async def test_what_it_can_not_do_is_refused_by_name(self, chat: UniversalChat, option: str) -> None:
        with pytest.raises(BadRequest, match=option):
            await self.whole(chat, options={option: "x"})

    async def test_think_is_the_switch_of_the_chat_template(self, chat: UniversalChat) -> None:
        got = msgspec.json.decode(await self.whole(chat, think=True, thinking_budget=10, body={"max_tokens": 5}))[
            "got"
        ]["body"]
        assert got["chat_template_kwargs"] == {"enable_thinking": True}
        assert got["max_tokens"] == 15


class TestRealLlamaServer:
    @pytest.fixture
    def tiny(self, tmp_path: Path) -> Path:
        return write_tiny_model(tmp_path / "models" / "tiny.gguf")

    @pytest.fixture
    async def real(self, open_bench: OpenBench, real_llama_server: str) -> Bench:
        return await open_bench(command=real_llama_server)

    async def test_it_answers_chats_whole_and_streamed(self, real: Bench, tiny: Path) -> None:
        await real.manager.create(
            "a", Spec(options={"model": str(tiny), "ctx_size": 256, "gpu_layers": 0}), start=False
        )
        status, reply = await real.ask("a", max_tokens=4)
        assert (status, reply["usage"]["completion_tokens"]) == (200, 4)
        async with real.server.serve(call("a", stream=True, max_tokens=4)) as streamed:
            assert b"".join([piece async for piece in streamed.chunks()]).endswith(b"data: [DONE]\n\n")

    async def test_its_errors_pass_through(self, real: Bench, tiny: Path) -> None:
        await real.manager.create("a", Spec(options={"model": str(tiny)}), start=False)
        asked = GatewayCall(
            operation="rerank", model="a", body=b'{"model":"a","query":"x","documents":["y"]}', stream=False
        )
        async with real.server.serve(asked) as reply:
            assert reply.status == 501
            assert b"error" in await reply.read()
        pieces = UniversalChat(real.server).chat(ChatCall(body={"model": "a", "messages": 5}, stream=False))
        with pytest.raises(UpstreamError):
            await anext(pieces)

    async def test_a_bad_option_is_told_in_its_words(self, real: Bench, tiny: Path) -> None:
        await real.manager.create("a", Spec(options={"model": str(tiny)}, extra_args=("--no-such-thing",)), start=True)
        found = await real.settled("a")
        assert (found.error_code, found.restarts) == ("bad_option", 0)
        assert "--no-such-thing" in (found.last_error or "")

    async def test_a_file_without_tensors_fails_with_its_words(self, real: Bench) -> None:
        await real.add("a", start=True)
        found = await real.settled("a")
        assert found.status == "failed"
        assert "stub" in (found.last_error or "")

    async def test_a_client_that_leaves_frees_the_slot(self, real: Bench, tiny: Path) -> None:
        await real.manager.create("a", Spec(options={"model": str(tiny)}), start=False)
        async with real.server.serve(call("a", stream=True, max_tokens=100_000, ignore_eos=True)) as reply:
            await anext(reply.chunks())
        assert (await real.ask("a", max_tokens=1))[0] == 200
        assert real.manager.get("a").in_flight == 0
