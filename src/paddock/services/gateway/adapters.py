"""Chat providers that are no model servers themselves, behind the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from paddock.builtin.serving import read_request
from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, ChatModel, GatewayCall, HttpReply, ModelInfo, ModelServer
from paddock.errors import BadRequest, ProviderUnavailable, UpstreamTimeout
from paddock.services.chat.assembly import OPTIONS

_JSON = {"Content-Type": "application/json"}
_EVENTS = {"Content-Type": "text/event-stream"}


class ChatServer(ModelServer):
    """One type name of a chat provider. It decodes the request, as project chat does: the provider wants a dict."""

    operations = frozenset({"chat/completions"})

    def __init__(self, type_name: str, model: ChatModel) -> None:
        self._type = type_name
        self._model = model

    @property
    def name(self) -> str:
        """The provider's type name."""
        return self._type

    async def models(self) -> list[ModelInfo]:
        """The provider's catalogue."""
        return await self._model.models()

    @asynccontextmanager
    async def serve(self, call: GatewayCall) -> AsyncIterator[HttpReply]:
        """See `ModelServer.serve`."""
        pieces = self._model.chat(chat_call(call))
        try:
            yield PiecesReply(pieces, _EVENTS if call.stream else _JSON, call)
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()


def chat_call(call: GatewayCall) -> ChatCall:
    """The request as chat providers get it. Raises BadRequest for fields of the wrong type."""
    fields = read_request(call.body, dict[str, Json])
    body = {name: value for name, value in fields.items() if value is not None and name != "stream"}
    think, budget = body.pop("think", None), body.pop("thinking_budget", None)
    if not isinstance(think, bool | None) or not isinstance(budget, int | None):
        raise BadRequest("think is true or false, thinking_budget a number of tokens")
    options = {name: body.pop(name) for name in OPTIONS if name in body}
    body["model"] = call.model
    return ChatCall(body=body, stream=call.stream, think=think, thinking_budget=budget, options=options)


class PiecesReply:
    """The pieces of a chat provider as an HttpReply; the call's `timeout` holds for all of them together."""

    def __init__(self, pieces: AsyncIterator[bytes], headers: Mapping[str, str], call: GatewayCall) -> None:
        self.status = 200
        self.headers: Mapping[str, str] = headers
        self._pieces = pieces
        self._seconds = call.timeout
        self._end = None if call.timeout is None else asyncio.get_running_loop().time() + call.timeout

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`. What the provider raises passes through."""
        pieces = aiter(self._pieces)
        while True:
            try:
                async with asyncio.timeout_at(self._end):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise UpstreamTimeout(f"the answer was not whole in {self._seconds:g} seconds") from error
            yield piece

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """See `HttpReply.read`."""
        body = b"".join([piece async for piece in self.chunks()])
        if len(body) > limit:
            raise ProviderUnavailable(f"the answer has more than {limit} bytes")
        return body
