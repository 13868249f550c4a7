"""Ollama's own client on top of the core's: the official package speaks, paddock's HttpClient connects.

So its requests keep to the same addresses, follow no redirect, and carry the credential of the settings alone (by itself
the package would send OLLAMA_API_KEY to any host). Imported on first use: it brings pydantic and httpx.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx
import ollama

from paddock.builtin.openai_wire import Target
from paddock.contracts.providers import HttpClient, HttpReply

# The core's client frames the body and the connection itself.
_OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "authorization"})


class CoreTransport(httpx.AsyncBaseTransport):
    """Sends httpx's requests through the core's HttpClient. Errors of the core pass through httpx as they are."""

    def __init__(self, http: HttpClient, target: Target, timeout: float | None) -> None:
        self._http = http
        self._target = target
        self._timeout = timeout

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and hand the body over as it arrives; closing the response closes the connection."""
        headers = {name: value for name, value in request.headers.items() if name not in _OURS}
        if self._target.api_key:
            headers["Authorization"] = self._target.headers()["Authorization"]
        stack = AsyncExitStack()
        reply = await stack.enter_async_context(
            self._http.send(
                request.method,
                str(request.url),
                headers=headers,
                body=await request.aread(),
                timeout=self._timeout,
                first_byte_timeout=self._target.first_byte_timeout,
            )
        )
        return httpx.Response(reply.status, headers=dict(reply.headers), stream=ReplyStream(reply, stack))


class ReplyStream(httpx.AsyncByteStream):
    """The body of a reply of the core's client."""

    def __init__(self, reply: HttpReply, stack: AsyncExitStack) -> None:
        self._reply = reply
        self._stack = stack

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._reply.chunks():
            yield piece

    async def aclose(self) -> None:
        """Leave the exchange."""
        await self._stack.aclose()


def client(http: HttpClient, target: Target, timeout: float | None) -> ollama.AsyncClient:
    """The official client for one server; `timeout` in seconds for a whole exchange."""
    return ollama.AsyncClient(
        target.base_url, transport=CoreTransport(http, target, timeout), follow_redirects=False, trust_env=False
    )
