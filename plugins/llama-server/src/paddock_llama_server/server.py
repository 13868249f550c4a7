"""llama-server instances as a model server of the gateway: by name, started with the first request."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.builtin.model_names import parse_model
from paddock.contracts.base import Json
from paddock.contracts.providers import Environment, Health, HttpClient, HttpReply, ModelInfo, Sample, TypeName
from paddock.contracts.providers.serving import GatewayCall, InstanceCounts, ModelServer, Operation
from paddock.errors import BadName, BadRequest, ModelNotFound, PaddockError
from paddock_llama_server.binary import Binary
from paddock_llama_server.drain import finished, opened
from paddock_llama_server.figures import samples
from paddock_llama_server.files import ModelFile, preferred
from paddock_llama_server.manager import Manager
from paddock_llama_server.options import file_values
from paddock_llama_server.spec import Address, Instance, Spec

OWNER = "llamactl"  # what llamactl's clients look for in owned_by
LOADING = {
    "n_ctx": "ctx_size", "n_batch": "batch_size", "n_gpu_layers": "gpu_layers", "n_threads": "threads",
    "flash_attn": "flash_attn", "use_mmap": "mmap", "use_mlock": "mlock", "cache_type_k": "cache_type_k",
    "cache_type_v": "cache_type_v",
}  # fmt: skip
"""How LlamaFarm calls the options of loading a model, in a request and in a project's extra_body."""
RESTING = frozenset({"stopped", "failed"})
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_LENGTH = 64


class LlamaServer(ModelServer):
    """Type ``llama-server``. Models are instances (``NAME``, ``NAME/MODEL`` in router mode) and GGUF files, which become
    instances of their own when they are first asked for."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("llama-server"),)
    operations: frozenset[Operation] = frozenset(
        {
            "chat/completions", "completions", "embeddings", "rerank", "responses", "messages", "messages/count_tokens",
        }
    )  # fmt: skip
    local = True

    def __init__(self, env: Environment, manager: Manager) -> None:
        self._http: HttpClient = env.http
        self._host = env.host
        self._cache = HubCache(env.hub_cache)
        self.manager = manager
        self._binary = Binary(manager.settings)
        self._draining: set[asyncio.Future[None]] = set()

    def claims(self, model: str) -> str | None:
        """An instance's name, also with a model inside it behind a slash."""
        return model if self.manager.has(model.partition("/")[0]) else None

    def fetches(self, model: str, operation: Operation) -> bool:
        """What names a GGUF file, or a repository of them by their custom."""
        return operation in self.operations and is_repository(model) and (":" in model or "gguf" in model.lower())

    async def models(self) -> list[ModelInfo]:
        """The instances, then the GGUF files that are no instance yet."""
        instances = self.manager.all()
        found = [instance_info(one) for one in instances]
        files = await asyncio.to_thread(self.manager.files.all)
        names = {one.name for one in instances}
        meant = preferred(files)
        return found + [
            file_info(one, alone=one.repo is not None and meant[one.repo] == one.id)
            for one in files
            if one.id not in names
        ]

    @asynccontextmanager
    async def serve(self, call: GatewayCall) -> AsyncIterator[HttpReply]:
        """See `ModelServer.serve`. A stopped instance is started, and room is made for it."""
        name, inner = await self.target(call.model)
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(self.manager.lease(name, on_demand=True))
            sending = self._send(call, address, inner)
            if self.manager.owner(name).spec.on_client_disconnect == "cancel":
                yield await stack.enter_async_context(sending)
                return
            reply = await opened(stack, sending, self._spawn)
            try:
                yield reply
            finally:
                if not reply.ended:
                    self._spawn(finished(reply, stack.pop_all()))

    def _send(self, call: GatewayCall, address: Address, inner: str | None) -> AbstractAsyncContextManager[HttpReply]:
        return self._http.send(
            "POST",
            f"{address.base_url}/v1/{call.operation}",
            headers={**call.headers, "Authorization": f"Bearer {address.api_key}", "Content-Type": "application/json"},
            body=with_model(call.body, inner) if inner else call.body,
            timeout=call.timeout,
            first_byte_timeout=call.first_token_timeout,
            trusted=True,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def close(self) -> None:
        """Wait for what is still read to its end; its instance was stopped, so that is soon."""
        await asyncio.gather(*self._draining, self._binary.close(), return_exceptions=True)

    async def target(self, model: str, options: Mapping[str, Json] | None = None) -> tuple[str, str | None]:
        """The instance of a model and the model's name inside it; one is made for a GGUF file that has none. `options` are set
        on an instance that paddock manages itself.

        Raises ModelNotFound, BadRequest (a file outside the folders; options of an instance that is not paddock's to change,
        or that this llama-server does not have), InstanceLimit when there are as many instances as may be.
        """
        if options:
            await self._binary.check(options)
        name, slash, inner = model.partition("/")
        if self.manager.has(name):
            await self._give_options(name, options or {})
            return name, inner if slash else None
        path = await self._file(model)
        name = instance_name(model)
        wanted = {"model": str(path), **(options or {})}
        async with self.manager.managing:
            if not self.manager.has(name):
                await self.manager.create(name, Spec(options=wanted, managed=True), start=False)
        await self._adapt(name, wanted)
        return name, None

    async def _file(self, model: str) -> Path:
        """A model's file; one of the hub that is not cached is fetched if the setting ``models.auto_download`` says so."""
        try:
            return await asyncio.to_thread(self.manager.files.find, model, closed=self._host.closed)
        except ModelNotFound:
            if not is_repository(model):
                raise
        await self._host.fetch_model(model, gguf=True)
        found = await asyncio.to_thread(self._cache.gguf, model)
        if found is None:  # deleted in the same moment
            raise self._cache.missing(model)
        return found

    async def _give_options(self, name: str, options: Mapping[str, Json]) -> None:
        """Options for an instance that is there: only those that paddock made itself are changed."""
        spec = self.manager.get(name).spec
        if spec.managed:
            await self._adapt(name, options)
            return
        for option, value in options.items():
            if spec.options.get(option) != value:
                raise BadRequest(f"{option}: the instance {name} has its own; change it there, or leave it out")

    async def _adapt(self, name: str, wanted: Mapping[str, Json]) -> None:
        """Give a managed instance the options that are asked for; one that runs with others ends its requests first. What it
        failed with, because an earlier request asked for it, is not held against this one."""
        found = self.manager.get(name)
        spec, kept = found.spec, dict(found.spec.options)
        if found.status == "failed":
            kept = {option: value for option, value in kept.items() if option not in LOADING.values()}
        options = {**kept, **wanted}
        if options != spec.options:
            await self.manager.adapt(name, msgspec.structs.replace(spec, options=options))

    def metrics(self) -> Iterable[Sample]:
        """State, requests, queue, restarts and memory of the instances."""
        return samples(self.manager.all())

    def running_from(self, path: Path) -> list[str]:
        """The instances that are not at rest and name the file, or one in the folder, in any option."""
        return [
            one.name
            for one in self.manager.all()
            if one.status not in RESTING
            and any(Path(value).is_relative_to(path) for _, value in file_values(one.spec.options, one.spec.extra_args))
        ]

    def cache_changed(self) -> None:
        """Look into the folders anew."""
        self.manager.files.forget()

    def instance_counts(self) -> InstanceCounts:
        """Those that are neither running nor stopped count in the total only."""
        statuses = [one.status for one in self.manager.all()]
        return InstanceCounts(total=len(statuses), running=statuses.count("running"), stopped=statuses.count("stopped"))

    async def health(self) -> Health:
        """Degraded when llama-server is not installed or an instance failed."""
        instances = self.manager.all()
        running = sum(one.status == "running" for one in instances)
        failed = [one.name for one in instances if one.status == "failed"]
        details: dict[str, Json] = {"instances": len(instances), "running": running, "failed": failed}
        try:
            await self.manager.check(Spec())
        except PaddockError as error:
            return Health(status="degraded", message=error.message, details=details)
        status = f"{running} of {len(instances)} instances run"
        if failed:
            return Health(status="degraded", message=f"{status}; failed: {', '.join(failed)}", details=details)
        return Health(message=status, details=details)


def is_repository(model: str) -> bool:
    """Whether this may be a model of a hub, ``org/name`` or ``org/name:QUANT``."""
    with suppress(BadName):
        return "/" in parse_model(model).repo
    return False


def instance_name(model: str) -> str:
    """The name of the instance that is made for a model: readable, allowed, and never that of another model."""
    fit = _UNFIT.sub("-", model).strip("-.")
    if fit == model and len(fit) <= _NAME_LENGTH:
        return fit
    mark = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{fit[-(_NAME_LENGTH - 9) :].lstrip('-.') or 'model'}-{mark}"


def instance_info(one: Instance) -> ModelInfo:
    """An instance in the list of models."""
    path = one.spec.options.get("model")
    details = {"name": one.name, "type": "llama-server", "status": one.status, "loaded": one.status == "running"}
    return ModelInfo(
        id=one.name,
        owned_by=OWNER,
        created=int(one.created),
        details=details if path is None else {**details, "path": path},
    )


def file_info(one: ModelFile, *, alone: bool) -> ModelInfo:
    """A GGUF file in the list of models; `alone`: it is also meant where only its repository is named."""
    return ModelInfo(
        id=one.id,
        also=(one.repo,) if alone and one.repo else (),
        owned_by="llama-server",
        created=int(one.modified),
        size=one.size,
        details={"name": one.path.name, "path": str(one.path), "type": "gguf", "loaded": False, "status": "available"},
    )


def with_model(body: bytes, model: str) -> bytes:
    """The body with another ``model``; every other value keeps its bytes."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is no JSON object: {error}") from error
    return msgspec.json.encode({**fields, "model": msgspec.Raw(msgspec.json.encode(model))})
