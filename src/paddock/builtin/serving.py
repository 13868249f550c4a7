"""Model servers that plugins build on: one that passes requests on to a server with OpenAI's API, replies made in memory."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

import msgspec

from paddock.builtin import openai_wire as wire
from paddock.contracts.providers import (
    GatewayCall,
    Health,
    HttpClient,
    HttpReply,
    ModelInfo,
    ModelServer,
    Operation,
    timed_health,
)
from paddock.errors import BadRequest, ValidationFailed, field_error

T = TypeVar("T")
EVERYTHING: frozenset[Operation] = frozenset(typing.get_args(Operation))
MASK = b"***"


def read_request(body: bytes, kind: type[T]) -> T:
    """The body of a call as a struct (or ``dict[str, Json]``). Raises ValidationFailed naming the field, BadRequest for no
    JSON, and for numbers that no float can hold."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ValidationFailed.of([field_error(error, "body", kind)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error


class MadeReply:
    """An HttpReply whose body is at hand."""

    def __init__(self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.headers: Mapping[str, str] = headers or {"Content-Type": "application/json"}
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`."""
        yield self._body

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:  # noqa: ARG002  the contract's signature
        """See `HttpReply.read`."""
        return self._body


class WireServer(ModelServer):
    """Passes the caller's bytes on to one OpenAI-compatible server, with the server's own credential.

    `listed` models replace the catalogue that the server would be asked for; `aliases` (name to model) are claimed. A
    credential of `target` that the server repeats in an error is masked.
    """

    operations = EVERYTHING

    def __init__(
        self,
        http: HttpClient,
        target: wire.Target,
        *,
        listed: Sequence[str] = (),
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.http = http
        self.target = target
        self._listed = listed
        self._aliases = aliases or {}
        self._urls = {operation: f"{target.base_url}/{operation}" for operation in EVERYTHING}
        self._headers: dict[str, str] | None = None
        self._secrets = target.secrets

    def serve(self, call: GatewayCall) -> AbstractAsyncContextManager[HttpReply]:
        """See `ModelServer.serve`."""
        target, own = self.target, self._headers
        if own is None:
            own = self._headers = target.headers()
        total = target.timeout if call.timeout is None else call.timeout
        # The status line of a whole reply comes when all of it is ready.
        first = call.first_token_timeout if call.stream else call.timeout
        sent = self.http.send(
            "POST",
            self._urls[call.operation],
            headers={**call.headers, **own} if call.headers else own,
            body=call.body,
            timeout=total,
            first_byte_timeout=target.first_byte_timeout if first is None else first,
        )
        return Masking(sent, self._secrets) if self._secrets else sent

    async def models(self) -> list[ModelInfo]:
        """Those of the settings, or what the server lists."""
        if self._listed:
            return [ModelInfo(id=name, owned_by=self.name) for name in self._listed]
        return await wire.models(self.http, self.target, self.name)

    def claims(self, model: str) -> str | None:
        """An alias."""
        return self._aliases.get(model)

    async def health(self) -> Health:
        """Whether the server lists its models."""
        return await timed_health(self._look)

    async def _look(self) -> str:
        found = await wire.models(self.http, self.target, self.name, timeout=1)
        return f"{self.target.where} offers {len(found)} models"


class Masking:
    """An exchange whose reply never repeats the credential it was sent with."""

    __slots__ = ("_secrets", "_sent")

    def __init__(self, sent: AbstractAsyncContextManager[HttpReply], secrets: Sequence[bytes]) -> None:
        self._sent = sent
        self._secrets = secrets

    async def __aenter__(self) -> HttpReply:
        return MaskedReply(await self._sent.__aenter__(), self._secrets)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._sent.__aexit__(kind, error, trace)


class MaskedReply:
    """The reply of an upstream. Only errors are looked into: a short key ("ollama") is also a word, which answers may hold."""

    __slots__ = ("_reply", "_secrets", "headers", "status")

    def __init__(self, reply: HttpReply, secrets: Sequence[bytes]) -> None:
        self._reply = reply
        self._secrets = secrets
        self.status = reply.status
        self.headers = reply.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`."""
        if self.status >= 400:
            yield await self.read()
            return
        async for piece in self._reply.chunks():
            yield self._masked(piece) if b'"error"' in piece else piece

    async def read(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """See `HttpReply.read`."""
        body = await self._reply.read(limit)
        return self._masked(body) if self.status >= 400 or b'"error"' in body else body

    def _masked(self, piece: bytes) -> bytes:
        for secret in self._secrets:
            piece = piece.replace(secret, MASK)
        return piece
