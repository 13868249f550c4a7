"""OpenAI's wire format over the core's HTTP client: chat, models, embeddings and what their errors mean.

For providers that talk to a server with an OpenAI-compatible API. The bytes of a stream pass through unchanged.
"""

from __future__ import annotations

import asyncio
import html
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import TypeVar

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import ChatCall, HttpClient, HttpReply, ModelInfo, Vectors
from paddock.errors import (
    BadRequest,
    FieldError,
    PaddockError,
    ProviderUnavailable,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)
from paddock.outgoing import host_port

T = TypeVar("T")

THINKING_BUDGET = 1024
ANSWER_TOKENS = 512
ERROR_BODY = 256 * 1024  # of an error's body no more is read
PAGE = 8 * 1024  # of a web page no more is looked at
SHORTEST = 6  # characters of a credential
SHOWN = 2000  # characters of an upstream's message that reach the caller
TRANSIENT = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_UNSHOWN = re.compile(r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)
_RETRY_AFTER = re.compile(r"[A-Za-z0-9 ,:.+-]{1,40}")
_TOKEN = re.compile(r"[\x21-\x7e]+(?: [\x21-\x7e]+)*")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server, the credential that belongs to it, and how long to wait for it in seconds (None: the client's limits).
    `extra` headers count as credentials."""

    base_url: str
    api_key: str | None = None
    organization: str | None = None
    timeout: float | None = None
    first_byte_timeout: float | None = None
    extra: Mapping[str, str] = {}

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """What must never reach a caller, in the order in which to mask it. What is shorter than `SHORTEST` is no secret, and
        masking it would only garble what the server says."""
        found = [secret for secret in (self.api_key, self.organization, *self.extra.values()) if secret]
        return tuple(sorted({one.encode() for one in found if len(one) >= SHORTEST}, key=len, reverse=True))

    @property
    def where(self) -> str:
        """``host:port``, for messages."""
        return host_port(self.base_url)

    def at(self, base_url: str | None, api_key: str | None, organization: str | None = None) -> Target:
        """The same, or another server with its own credential: ours goes only to the address that it belongs to."""
        url = (base_url or self.base_url).rstrip("/")
        own = url == self.base_url.rstrip("/")
        return Target(
            base_url=url,
            api_key=api_key or (self.api_key if own else None),
            organization=organization or (self.organization if own else None),
            timeout=self.timeout,
            first_byte_timeout=self.first_byte_timeout,
            extra=self.extra if own else {},
        )

    def headers(self) -> dict[str, str]:
        """What every request carries. Raises ValidationFailed for a key that no header can hold."""
        found = {"Content-Type": "application/json"}
        for field, name, value in (
            ("api_key", "Authorization", self.api_key and f"Bearer {self.api_key}"),
            ("organization", "OpenAI-Organization", self.organization),
        ):
            if value:
                if not _TOKEN.fullmatch(value):
                    raise ValidationFailed.of([FieldError(field, "has characters that do not belong into a header")])
                found[name] = value
        return {**found, **self.extra}


# --- chat --------------------------------------------------------------------------------------------------------------


def with_token_total(body: dict[str, Json], call: ChatCall, *, key: str | None = None) -> dict[str, Json]:
    """Set the token limit for a model that thinks: ``thinking_budget + max_tokens`` (1024 and 512 when not given).

    The limit goes under `key`, or under the name that the caller used (``max_tokens`` if none). Without ``think`` a
    given limit stays as it is.
    """
    names = [name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    given = body[names[0]] if names else None
    if call.think:
        answer = ANSWER_TOKENS if given is None else given
        if not isinstance(answer, int):
            raise BadRequest(f"{names[0]} is a whole number")
        given = (THINKING_BUDGET if call.thinking_budget is None else call.thinking_budget) + answer
    if given is None:
        return body
    rest = {name: value for name, value in body.items() if name not in ("max_completion_tokens", "max_tokens")}
    return {**rest, key or (names[0] if names else "max_tokens"): given}


def refuse_options(options: Mapping[str, Json], provider: str) -> None:
    """Raise BadRequest for options that only other providers understand, naming them."""
    given = sorted(name for name, value in options.items() if value is not None)
    if given:
        raise BadRequest(f"{', '.join(given)}: the provider {provider} does not know this option; leave it out")


async def chat(
    http: HttpClient, target: Target, body: Mapping[str, Json], *, stream: bool
) -> AsyncGenerator[bytes, None]:
    """``POST {base_url}/chat/completions``: the stream's bytes as they come, or the whole JSON body in one piece.

    Closing the iterator closes the connection, which cancels the work upstream. Raises before the first piece:
    UpstreamError, ProviderUnavailable, UpstreamTimeout, ValidationFailed (an address that may not be reached).
    """
    async with _send(
        http, target, ("POST", "/chat/completions"), msgspec.json.encode({**body, "stream": stream})
    ) as reply:
        await check(reply, target)
        if not stream:
            yield _passed(await reply.read(), target)
            return
        await _check_stream(reply, target)
        async for piece in reply.chunks():
            yield _passed(piece, target)


def _passed(piece: bytes, target: Target) -> bytes:
    """Bytes for the caller: an error that is reported in them may repeat the key that it was about. What the model says is
    left alone, because short keys ("ollama") are words; inside its text the quotes around "error" would be escaped."""
    if b'"error"' in piece:
        for secret in target.secrets:
            piece = piece.replace(secret, b"***")
    return piece


def _send(
    http: HttpClient, target: Target, call: tuple[str, str], body: bytes | None = None, timeout: float | None = None
) -> AbstractAsyncContextManager[HttpReply]:
    method, path = call
    return http.send(
        method,
        f"{target.base_url}{path}",
        headers=target.headers(),
        body=body,
        timeout=target.timeout if timeout is None else timeout,
        first_byte_timeout=target.first_byte_timeout,
    )


async def _check_stream(reply: HttpReply, target: Target) -> None:
    if "json" not in reply.headers.get("Content-Type", ""):
        return
    body = await _read_some(reply)
    if _error_fields(body).get("message"):
        raise error_of(502, reply.headers, body, target)
    raise UpstreamError(f"{target.where} sent plain JSON where a stream was asked for: ask it without stream", 502)


# --- models ------------------------------------------------------------------------------------------------------------


class _Model(msgspec.Struct):
    id: str
    created: int | float | None = None
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model] | None


async def models(http: HttpClient, target: Target, owner: str, *, timeout: float = 10) -> list[ModelInfo]:
    """``GET {base_url}/models``. `owner` stands where the server names none. Raises ProviderUnavailable."""
    try:
        async with _send(http, target, ("GET", "/models"), timeout=timeout) as reply:
            await check(reply, target)
            found = decoded(await reply.read(), _Models, target)
    except (UpstreamError, UpstreamTimeout, ValidationFailed) as error:
        raise ProviderUnavailable(f"the models of {target.where} can't be listed: {error.message}") from error
    return [
        ModelInfo(id=model.id, owned_by=model.owned_by or owner, created=int(model.created or 0))
        for model in found.data or ()
    ]


# --- embeddings --------------------------------------------------------------------------------------------------------


class _Embedding(msgspec.Struct):
    embedding: list[float]
    index: int


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


async def embeddings(
    http: HttpClient, target: Target, model: str, texts: Sequence[str], *, send_dimensions: int | None = None
) -> Vectors:
    """``POST {base_url}/embeddings`` for one batch; shape (texts, dimension), in order.

    `send_dimensions` asks for shortened vectors. Raises UpstreamError, ProviderUnavailable, UpstreamTimeout.
    """
    import numpy as np  # noqa: PLC0415  heavy: on first use

    body: dict[str, Json] = {"model": model, "input": list(texts), "encoding_format": "float"}
    if send_dimensions is not None:
        body["dimensions"] = send_dimensions
    async with _send(http, target, ("POST", "/embeddings"), msgspec.json.encode(body)) as reply:
        await check(reply, target)
        found = decoded(await reply.read(), _Embeddings, target).data
    found.sort(key=lambda item: item.index)
    if [item.index for item in found] != list(range(len(texts))):
        raise ProviderUnavailable(
            f"{target.where} returned {len(found)} vectors for {len(texts)} texts: check the model"
        )
    if len({len(item.embedding) for item in found}) > 1:
        raise ProviderUnavailable(f"{target.where} returned vectors of different lengths: check the model")
    return np.array([item.embedding for item in found], dtype=np.float32)


def check_dimension(vectors: Vectors, expected: int | None, model: str) -> Vectors:
    """The vectors, if they are as long as the config says. Raises ValidationFailed naming the right number."""
    if expected is not None and len(vectors) and vectors.shape[1] != expected:
        reason = f"the model {model} makes vectors of {vectors.shape[1]} numbers: set dimension to that"
        raise ValidationFailed.of([FieldError("dimension", reason)])
    return vectors


async def retried(work: Callable[[], Awaitable[T]], retries: int, backoff: float) -> T:
    """Run `work` again after a passing failure, at most `retries` times, with doubling waits from `backoff` seconds.

    An upstream's Retry-After in seconds is followed up to a minute.
    """
    for attempt in range(retries):
        try:
            return await work()
        except PaddockError as error:
            if not is_transient(error):
                raise
            wait = min(backoff * 2**attempt, 30) * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret
            asked = error.headers.get("Retry-After", "") if isinstance(error, UpstreamError) else ""
            await asyncio.sleep(min(float(asked), 60) if asked.isdigit() else wait)
    return await work()


def is_transient(error: PaddockError) -> bool:
    """Whether the same request may well succeed a little later."""
    if isinstance(error, UpstreamError):
        return error.upstream_status in TRANSIENT
    return isinstance(error, ProviderUnavailable | UpstreamTimeout)


# --- errors ------------------------------------------------------------------------------------------------------------


async def check(reply: HttpReply, target: Target) -> None:
    """Raise UpstreamError unless the reply is a success in a form that we understand."""
    if not 200 <= reply.status < 300:
        raise error_of(reply.status, reply.headers, await _read_some(reply), target)
    if reply.headers.get("Content-Type", "").startswith("text/html"):
        raise UpstreamError(f"{target.where} sent a web page instead of JSON: check base_url", 502)
    if reply.headers.get("Content-Encoding", "identity") != "identity":
        raise UpstreamError(f"{target.where} sent a compressed body though none was asked for", 502)


def decoded(body: bytes, kind: type[T], target: Target) -> T:
    """The body as `kind`, or UpstreamError 502 saying what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UpstreamError(f"{target.where} sent something unexpected: {error}", 502) from error


async def _read_some(reply: HttpReply) -> bytes:
    body = b""
    async for piece in reply.chunks():
        body += piece
        if len(body) > ERROR_BODY:
            return body[:ERROR_BODY]
    return body


def error_of(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> UpstreamError:
    """What an error reply says, with its status, type, code and param; a credential in its text is masked."""
    fields = {name: _clean(value, target) for name, value in _error_fields(body).items()}
    if 300 <= status < 400:
        text = (
            f"{target.where} answered {status}, a redirect, which is never followed: set base_url to the final address"
        )
    else:
        text = fields.get("message") or _unstructured(status, headers, body, target)
    retry_after = headers.get("Retry-After", "")
    return UpstreamError(
        _clean(text, target),
        status,
        type_=fields.get("type"),
        code=fields.get("code"),
        param=fields.get("param"),
        headers={"Retry-After": retry_after} if _RETRY_AFTER.fullmatch(retry_after) else None,
    )


def _error_fields(body: bytes) -> dict[str, str]:
    """``{"error": {…}}``, ``{"error": "…"}``, ``{"message": …}`` or ``{"detail": …}`` as a flat dict of texts."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    error = value.get("error", value)
    if isinstance(error, str):
        return {"message": error}
    if not isinstance(error, dict):
        return {}
    message = error.get("message") or error.get("detail")
    fields = {"message": message, **{name: error.get(name) for name in ("type", "code", "param")}}
    return {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name, value in fields.items()
        if value is not None
    }


def _unstructured(status: int, headers: Mapping[str, str], body: bytes, target: Target) -> str:
    text = body[:PAGE].decode("utf-8", "replace")
    is_page = "html" in headers.get("Content-Type", "") or text.lstrip()[:1] == "<"
    if is_page:
        title = _TITLE.search(text)
        text = html.unescape(title[1] if title else _UNSHOWN.sub(" ", text))
    words = " ".join(text.split())[:200]
    phrase = next((known.phrase for known in HTTPStatus if known == status), "an unknown status")
    said = f"{target.where} answered {status} ({phrase})"
    if not words:
        return f"{said} without an explanation"
    return f"{said} with a web page: {words}; check base_url" if is_page else f"{said}: {words}"


def _clean(text: str, target: Target) -> str:
    for secret in target.secrets:
        text = text.replace(secret.decode(), "***")
    return _CONTROL.sub(" ", text)[:SHOWN].strip()
