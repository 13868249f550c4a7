"""The gateway: every model on the host under OpenAI's paths, and the catalogue of all of them.

A body is not decoded but for the fields of `GatewayRequest`; the caller's bytes travel on unchanged.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, ClassVar

import msgspec

from paddock.contracts.base import Context, Reply, endpoint
from paddock.errors import (
    BadRequest,
    Conflict,
    FieldError,
    Forbidden,
    ModelNotFound,
    NotFound,
    ProviderUnavailable,
    RateLimited,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)

REFUSED = ("base_url", "api_base", "api_key")
_NO_MODEL = (FieldError("model", "is required: GET /v1/models lists what there is"),)
_NO_STREAM = (FieldError("stream", "is true or false"),)
_GENERATES = (
    BadRequest,
    Forbidden,
    ModelNotFound,
    Conflict,
    RateLimited,
    UpstreamError,
    ProviderUnavailable,
    UpstreamTimeout,
)


class CatalogueQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the catalogue: all of it, or one provider's."""

    provider: str | None = None


class ModelPath(msgspec.Struct, frozen=True, kw_only=True):
    """A model's id; it may hold slashes, plain or percent-encoded."""

    model_id: str


class _Fields(msgspec.Struct):
    model: Any = None
    stream: Any = None
    base_url: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    api_base: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    api_key: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class GatewayBody(msgspec.Struct, frozen=True, kw_only=True):
    """A body as the API document shows it; all further fields are the model's server's."""

    model: str
    stream: bool = False


class GatewayRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is passed on: the two fields that decide its way, and its bytes."""

    described: ClassVar[Any] = GatewayBody

    model: str
    stream: bool
    raw: bytes

    @classmethod
    def decode(cls, body: bytes) -> GatewayRequest:
        """Read the two fields. Raises ValidationFailed for a body without a model, or with an address or credential of a
        server, which are not the caller's to choose; msgspec.DecodeError for no JSON."""
        if not body.isascii():
            body.decode()  # whoever reads the rest of it may rely on this
        found = _decode(body)
        refused = [name for name in REFUSED if getattr(found, name) is not msgspec.UNSET]
        if refused:
            reason = "where a model runs is the settings' to say: name it in model"
            raise ValidationFailed.of([FieldError(name, reason) for name in refused])
        if not isinstance(found.model, str) or not found.model.strip():
            raise ValidationFailed('the body names no model: set "model"; GET /v1/models lists them', _NO_MODEL)
        if found.stream is not None and not isinstance(found.stream, bool):
            raise ValidationFailed("stream is true or false", _NO_STREAM)
        return cls(model=found.model, stream=bool(found.stream), raw=body)


_decode = msgspec.json.Decoder(_Fields).decode


@endpoint("GET", "/v1/models", access="infer", api="openai", kind="reply", raises=(NotFound, ProviderUnavailable))
def model_catalogue_list(ctx: Context, params: CatalogueQuery) -> Awaitable[Reply]:
    """List every model that the caller may use: instances, providers' catalogues, cached files, aliases.

    Each item has ``id, object, created, owned_by, provider`` and, where it is known, ``name, path, size, type, loaded,
    status`` and, for cached files, ``model_id, size_bytes, size_human, last_modified, revisions``. The id is what requests
    name: the model's own name, or ``provider/model`` where several have one of that name. A provider that can't be
    reached is named in ``unavailable``; asked for alone, it is an error.
    """


@endpoint("GET", "/v1/models/{model_id:path}", access="infer", api="openai", kind="reply", raises=(ModelNotFound,))
def model_catalogue_get(ctx: Context, params: ModelPath) -> Awaitable[Reply]:
    """Return one model of the catalogue."""


@endpoint("POST", "/v1/chat/completions", access="infer", api="openai", kind="reply", raises=_GENERATES)
def gateway_chat_completions(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """Chat with any model on the host, whole or as a stream of server-sent events."""


@endpoint("POST", "/v1/completions", access="infer", api="openai", kind="reply", raises=_GENERATES)
def gateway_completions(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """Complete a text."""


@endpoint("POST", "/v1/embeddings", access="infer", api="openai", kind="reply", raises=_GENERATES)
def gateway_embeddings(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """Turn texts into vectors."""


@endpoint("POST", "/v1/rerank", access="infer", api="openai", kind="reply", raises=_GENERATES)
def gateway_rerank(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """Order documents by their relevance to a query."""


@endpoint("POST", "/v1/reranking", access="infer", api="openai", kind="reply", raises=_GENERATES)
def gateway_reranking(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """The same as /v1/rerank, under llama-server's other name."""


@endpoint("POST", "/v1/responses", access="infer", api="openai", kind="reply", raises=_GENERATES)
def gateway_responses(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """OpenAI's newer format, where the upstream speaks it."""


@endpoint("POST", "/v1/messages", access="infer", api="anthropic", kind="reply", raises=_GENERATES)
def gateway_messages(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """Anthropic's format, where the upstream speaks it."""


@endpoint("POST", "/v1/messages/count_tokens", access="infer", api="anthropic", kind="reply", raises=_GENERATES)
def gateway_messages_count_tokens(ctx: Context, data: GatewayRequest) -> Awaitable[Reply]:
    """Count the tokens of a request in Anthropic's format, where the upstream can."""
