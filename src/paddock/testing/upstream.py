"""A fake upstream: a real HTTP server that speaks OpenAI's, Anthropic's and Ollama's API as a script tells it.

::

    async with FakeUpstream() as upstream:
        upstream.plan = Plan(texts=["Hello", " world"])
        …                                  # talk to upstream.base_url (or upstream.root for Ollama)
        request = upstream.requests[-1]
        await request.gone.wait()          # the client left before the reply was whole

Nothing here sleeps unless a plan says so; to hold a reply at some point give an `asyncio.Event` and never set it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from aiohttp import web

from paddock.contracts.base import Json
from paddock.testing.upstream_shapes import encoded, endings, pieces, whole

Wait = float | asyncio.Event
Phase = Literal["headers", "first token", "stream", "done"]


@dataclass(kw_only=True)
class Plan:
    """How to answer. Waits are seconds, or an event to wait for. Counts are of text pieces.

    `fail_after` sends an error event in place of the next piece, `cut_after` drops the connection there, `hold_after`
    waits there. `html` answers `status` with a web page, `error` with a JSON error.
    """

    texts: Sequence[str] = ("Hello", " from", " upstream")
    reasoning: Sequence[str] = ()
    tool_calls: Sequence[Mapping[str, Json]] = ()
    usage: Mapping[str, int] = field(
        default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    )
    status: int = 200
    error: Json = None
    html: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    before_headers: Wait = 0
    before_first: Wait = 0
    between: Wait = 0
    hold_after: int | None = None
    fail_after: int | None = None
    cut_after: int | None = None

    @property
    def message(self) -> dict[str, Json]:
        """The whole message of the assistant."""
        found: dict[str, Json] = {"role": "assistant", "content": "".join(self.texts) or None}
        if self.reasoning:
            found["reasoning_content"] = "".join(self.reasoning)
        if self.tool_calls:
            found["tool_calls"] = list(self.tool_calls)
        return found

    @property
    def finish_reason(self) -> str:
        """As OpenAI would say."""
        return "tool_calls" if self.tool_calls else "stop"

    def deltas(self) -> list[dict[str, Json]]:
        """The pieces of a stream, before the one that ends it. Arguments of tool calls come in two halves."""
        found: list[dict[str, Json]] = [{"role": "assistant", "content": ""}]
        found += [{"reasoning_content": text} for text in self.reasoning]
        found += [{"content": text} for text in self.texts]
        for index, call in enumerate(self.tool_calls):
            arguments = call["function"]["arguments"]
            half = len(arguments) // 2
            head = {"index": index, **call, "function": {**call["function"], "arguments": arguments[:half]}}
            tail = {"index": index, "function": {"arguments": arguments[half:]}}
            found += [{"tool_calls": [head]}, {"tool_calls": [tail]}]
        return found


@dataclass(kw_only=True)
class Recorded:
    """A request that arrived. `gone` is set when the client left before its reply was whole, `finished` when it was."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes
    phase: Phase = "headers"
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    reached: dict[Phase, asyncio.Event] = field(
        default_factory=lambda: {"headers": asyncio.Event(), "first token": asyncio.Event(), "stream": asyncio.Event()}
    )

    @property
    def body(self) -> Any:
        """The JSON body."""
        return json.loads(self.raw)

    @property
    def operation(self) -> str:
        """The path behind /v1/."""
        return self.path.removeprefix("/v1/")

    def enter(self, phase: Phase) -> None:
        """Note how far the reply is."""
        self.phase = phase
        if phase in self.reached:
            self.reached[phase].set()


GENERATING = ("chat/completions", "completions", "rerank", "responses", "messages", "messages/count_tokens")


class FakeUpstream:
    """The server. `plan` answers every request but embeddings; plans given to `script` come first, one each.

    `models` are Ollama's and OpenAI's alike: name to size in bytes. `registry` can be pulled. With `strict_models` a
    chat or embedding of a model that is not there is a 404 in Ollama's words. `dimension` is that of embeddings,
    `catalogue_wait` is waited for before OpenAI's list of models.
    """

    def __init__(self, *, models: Mapping[str, int] | None = None, strict_models: bool = False) -> None:
        self.plan = Plan()
        self.embedding_plan = Plan()
        self.models = dict(models if models is not None else {"fake-model": 1_000_000})
        self.registry: dict[str, int] = {}
        self.strict_models = strict_models
        self.dimension = 8
        self.catalogue_wait: Wait = 0
        self.requests: list[Recorded] = []
        self._script: deque[Plan] = deque()
        self._arrived = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def root(self) -> str:
        """``http://127.0.0.1:port``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        """With ``/v1``."""
        return f"{self.root}/v1"

    @property
    def allow(self) -> str:
        """The entry for ``outgoing.allow``."""
        return f"127.0.0.1:{self.port}"

    def script(self, *plans: Plan) -> None:
        """Answer the next requests so, in order; afterwards as `plan` says."""
        self._script.extend(plans)

    async def request(self, number: int = 0) -> Recorded:
        """The request of that number (from 0), as soon as it has arrived."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    async def __aenter__(self) -> FakeUpstream:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                *(web.post(f"/v1/{operation}", self._generate) for operation in GENERATING),
                web.post("/v1/embeddings", self._embeddings),
                web.get("/v1/models", self._models),
                web.get("/api/version", self._version),
                web.get("/api/tags", self._tags),
                web.post("/api/show", self._show),
                web.post("/api/pull", self._pull),
                web.delete("/api/delete", self._delete),
                web.route("*", "/{rest:.*}", self._unknown),
            ]
        )
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and drop every connection; the port stays, so that ``async with`` again brings it back."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _record(self, request: web.Request) -> Recorded:
        recorded = Recorded(
            method=request.method, path=request.path_qs, headers=request.headers, raw=await request.read()
        )
        async with self._arrived:
            self.requests.append(recorded)
            self._arrived.notify_all()
        recorded.enter("headers")
        return recorded

    # --- OpenAI --------------------------------------------------------------------------------------------------------

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        recorded = await self._record(request)
        plan = self._script.popleft() if self._script else self.plan
        try:
            response = await self._answer(request, recorded, plan)
        except (asyncio.CancelledError, ConnectionError):
            recorded.gone.set()
            raise
        recorded.enter("done")
        recorded.finished.set()
        return response

    async def _answer(self, request: web.Request, recorded: Recorded, plan: Plan) -> web.StreamResponse:
        await _wait(plan.before_headers)
        early = self._early(plan) or self._missing(recorded.body["model"])
        if early is not None:
            return early
        if recorded.body.get("stream"):
            return await self._stream(request, recorded, plan)
        await _wait(plan.before_first)
        reply = whole(recorded.operation, recorded.body, plan, dict(plan.usage))
        return web.json_response(reply, headers=plan.headers)

    def _early(self, plan: Plan) -> web.Response | None:
        """The answer of a plan that fails before the first byte, or that says the whole body."""
        if plan.html is not None:
            return web.Response(status=plan.status, text=plan.html, content_type="text/html", headers=plan.headers)
        if plan.body is not None:
            return web.Response(
                status=plan.status, body=plan.body, headers={"Content-Type": "application/json", **plan.headers}
            )
        if plan.error is not None and plan.fail_after is None:
            return web.json_response({"error": plan.error}, status=plan.status, headers=plan.headers)
        return None if plan.status == 200 else web.Response(status=plan.status, headers=plan.headers)

    def _missing(self, model: str) -> web.Response | None:
        if not self.strict_models or {model, f"{model}:latest"} & set(self.models):
            return None
        text = f'model "{model}" not found, try pulling it first'
        error = {"message": text, "type": "not_found_error", "param": None, "code": None}
        return web.json_response({"error": error}, status=404)

    async def _stream(self, request: web.Request, recorded: Recorded, plan: Plan) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **plan.headers})
        await response.prepare(request)
        recorded.enter("first token")
        await _wait(plan.before_first)
        for number, piece in enumerate(pieces(recorded.operation, recorded.body, plan)):
            texts = number - 1  # the first event only opens the stream
            if plan.fail_after == texts:
                await _event(response, {"error": plan.error or {"message": "it broke", "type": "server_error"}})
                return response
            if plan.cut_after == texts and request.transport is not None:
                request.transport.abort()
                raise ConnectionResetError("cut as planned")
            if plan.hold_after == texts:
                recorded.enter("stream")
                await asyncio.Event().wait()
            await response.write(encoded(piece))
            if number:
                recorded.enter("stream")
                await _wait(plan.between)
        for last in endings(recorded.operation, recorded.body, plan, dict(plan.usage)):
            await response.write(encoded(last))
        if recorded.operation in ("chat/completions", "completions"):
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        recorded = await self._record(request)
        plan = self._script.popleft() if self._script else self.embedding_plan
        try:
            await _wait(plan.before_headers)
        except asyncio.CancelledError:
            recorded.gone.set()
            raise
        early = self._early(plan) or self._missing(recorded.body["model"])
        if early is not None:
            return early
        given = recorded.body["input"]
        texts = [given] if isinstance(given, str) else given
        size = recorded.body.get("dimensions") or self.dimension
        data = [{"object": "embedding", "index": n, "embedding": vector(text, size)} for n, text in enumerate(texts)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        return web.json_response(
            {"object": "list", "data": data[::-1], "model": recorded.body["model"], "usage": usage}
        )

    async def _models(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        await _wait(self.catalogue_wait)
        data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "fake"} for name in self.models]
        return self._early(self.plan) or web.json_response({"object": "list", "data": data})

    # --- Ollama --------------------------------------------------------------------------------------------------------

    async def _version(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        return web.json_response({"version": "0.30.0"})

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        data = [
            {
                "name": name, "model": name, "modified_at": "2026-01-02T03:04:05Z", "size": size, "digest": "0" * 64,
                "details": {"format": "gguf", "family": "llama", "parameter_size": "1B", "quantization_level": "Q4_0"},
            }
            for name, size in self.models.items()
        ]  # fmt: skip
        return self._early(self.plan) or web.json_response({"models": data})

    async def _show(self, request: web.Request) -> web.StreamResponse:
        name = (await self._record(request)).body["model"]
        if name not in self.models:
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        details = {"format": "gguf", "family": "llama", "parameter_size": "1B", "quantization_level": "Q4_0"}
        info = {"general.architecture": "llama"}
        return web.json_response({"details": details, "model_info": info, "template": "{{ .Prompt }}"})

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        recorded = await self._record(request)
        name = recorded.body["model"]
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        if name not in self.registry:
            await _line(response, {"status": "pulling manifest"})
            await _line(response, {"error": "pull model manifest: file does not exist"})
            return response
        size = self.registry[name]
        try:
            await _line(response, {"status": "pulling manifest"})
            for part in (size // 2, size):
                await _line(response, {"status": "pulling 0", "digest": "0", "total": size, "completed": part})
                recorded.enter("stream")
                await _wait(self.plan.between)
            await _line(response, {"status": "success"})
        except (asyncio.CancelledError, ConnectionError):
            recorded.gone.set()
            raise
        self.models[name] = size
        recorded.finished.set()
        return response

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        name = (await self._record(request)).body["model"]
        if self.models.pop(name, None) is None:
            return web.json_response({"error": f"model '{name}' not found"}, status=404)
        return web.Response()

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        return web.Response(status=404, text="404 page not found")


async def _wait(wait: Wait) -> None:
    if isinstance(wait, asyncio.Event):
        await wait.wait()
    elif wait:
        await asyncio.sleep(wait)


async def _event(response: web.StreamResponse, value: Json) -> None:
    await response.write(b"data: " + json.dumps(value).encode() + b"\n\n")


async def _line(response: web.StreamResponse, value: Json) -> None:
    await response.write(json.dumps(value).encode() + b"\n")


def vector(text: str, size: int) -> list[float]:
    """A vector that depends on the text alone; alike texts are not near each other."""
    seed = sum((index + 1) * byte for index, byte in enumerate(text.encode())) + 1
    return [((seed * (position + 3)) % 1009) / 1009 - 0.5 for position in range(size)]
