"""``universal`` chat: a project's GGUF model, run by a llama-server instance that paddock manages for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import msgspec

from paddock.builtin import openai_wire as wire
from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ChatModel, Health, TypeName
from paddock.contracts.providers.serving import GatewayCall
from paddock.errors import BadRequest
from paddock_llama_server.options import read_options
from paddock_llama_server.server import LOADING, LlamaServer

SHOWN = (
    "http://127.0.0.1:1"  # where an error's text says the message came from; the child's port means nothing to callers
)
_AS_IT_IS: dict[str, Json] = {
    "use_mmap": True,
    "use_mlock": False,
}  # what older projects say of what goes without saying


class UniversalChat(ChatModel):
    """Type ``universal``. A model is an instance's name, ``repo:QUANT``, a GGUF file's name, or a path. The model server
    ``llama-server`` lists them."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("universal"),)

    def __init__(self, server: LlamaServer) -> None:
        self._server = server

    async def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        """See `ChatModel.chat`. The first request of a model starts its instance."""
        if call.base_url or call.api_key:
            raise BadRequest("base_url, api_key: a universal model runs on this machine; leave them out")
        asked = {name: call.body[name] for name in LOADING if name in call.body} | dict(call.options)
        name, inner = await self._server.target(str(call.body["model"]), instance_options(asked))
        gateway = GatewayCall(
            operation="chat/completions",
            model=f"{name}/{inner}" if inner else name,
            body=msgspec.json.encode({**body_of(call), "model": inner or name, "stream": call.stream}),
            stream=call.stream,
        )
        target = wire.Target(base_url=SHOWN)
        async with self._server.serve(gateway) as reply:
            await wire.check(reply, target)
            if not call.stream:
                yield await reply.read()
                return
            async for piece in reply.chunks():
                yield piece

    async def health(self) -> Health:
        """As the model server's."""
        return await self._server.health()


def instance_options(options: Mapping[str, Json]) -> dict[str, Json]:
    """The options of a call as options of the instance. Raises BadRequest naming what can't be honoured."""
    given = {
        name: value
        for name, value in options.items()
        if value is not None and (name not in _AS_IT_IS or value != _AS_IT_IS[name])
    }
    for name in given:
        if name not in LOADING:
            raise BadRequest(
                f"{name}: llama-server does not cut conversations to fit: leave it out, or send fewer messages"
            )
    found: dict[str, Json] = {}
    for name, value in given.items():
        found |= read_options({LOADING[name]: value}, "" if LOADING[name] == name else f"{name}: ")
    return found


def body_of(call: ChatCall) -> dict[str, Any]:
    """The body with the token total of a model that thinks, and the switch that llama-server hands to the chat template."""
    body = wire.with_token_total({name: value for name, value in call.body.items() if name not in LOADING}, call)
    if call.think is None:
        return body
    given = body.get("chat_template_kwargs") or {}
    if not isinstance(given, dict):
        raise BadRequest("chat_template_kwargs is an object")
    return {**body, "chat_template_kwargs": {"enable_thinking": call.think, **given}}
