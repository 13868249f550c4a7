"""The model cache: download with progress, check the space first, list quantizations, delete.

What is cached is part of ``GET /v1/models`` (contracts/gateway.py).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated

import msgspec

from paddock.contracts.base import Context, Reply, endpoint
from paddock.contracts.system import Disk
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    ModelNotFound,
    ProviderUnavailable,
    RateLimited,
    TooLarge,
    UpstreamError,
    UpstreamTimeout,
)

ModelId = Annotated[
    str, msgspec.Meta(max_length=10_000, description="ORG/NAME, or ORG/NAME:QUANTIZATION for a GGUF file")
]
Source = Annotated[str, msgspec.Meta(max_length=64, description="universal (the hub) or ollama")]

_PULLS = (BadName, BadRequest, ModelNotFound, RateLimited, UpstreamError, ProviderUnavailable, UpstreamTimeout)


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to fetch. Of a GGUF repository one quantization is fetched: the named, else the preferred one."""

    model_name: ModelId
    provider: Source = "universal"


class DownloadCheck(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model fits, in bytes. `warning`: little space would be left, or the size is not known (`required_bytes` 0)."""

    can_download: bool
    warning: bool
    message: str
    available_bytes: int
    required_bytes: int
    cache_info: Disk
    system_info: Disk


class CachedModelPath(msgspec.Struct, frozen=True, kw_only=True):
    """A model's id; it may hold slashes, plain or percent-encoded."""

    model_id: ModelId
    provider: Source = "universal"


class QuantizationOption(msgspec.Struct, frozen=True, kw_only=True):
    """One GGUF file of a repository (of shards the first, the size of all)."""

    filename: str
    quantization: str
    size_bytes: int
    size_human: str


class QuantizationList(msgspec.Struct, frozen=True, kw_only=True):
    """What there is, smallest first; empty for a model without GGUF files."""

    options: list[QuantizationOption]


class ModelDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone: revisions, bytes, and the folder they were in ("" for what Ollama keeps)."""

    model_name: str
    revisions_deleted: int
    size_freed: int
    path: str


@endpoint("POST", "/v1/models/download", access="manage", kind="reply", raises=(*_PULLS, TooLarge, Conflict))
def model_download(ctx: Context, data: ModelRequest) -> Awaitable[Reply]:
    """Fetch a model into the cache; the reply is a stream of server-sent events.

    ``{"event": "progress", "downloaded", "total", "percent"}`` (bytes; null while unknown) as it goes on, perhaps
    ``{"event": "warning", "message"}``, at the end ``{"event": "complete", "model_name"}`` or ``{"event": "error", "message"}``.
    What is wrong before the first byte is an ordinary error. A client that leaves cancels, unless another waits for the
    same model; the next download resumes.
    """


@endpoint("POST", "/v1/models/validate-download", access="manage", raises=(BadName, BadRequest, ModelNotFound))
def model_download_validate(ctx: Context, data: ModelRequest) -> Awaitable[DownloadCheck]:
    """Tell whether there is space for a model. A hub that does not answer is a warning, not an error."""


@endpoint("GET", "/v1/models/{model_id:path}/quantizations", access="manage", raises=_PULLS)
def model_quantizations(ctx: Context, params: CachedModelPath) -> Awaitable[QuantizationList]:
    """List the GGUF quantizations of a model with their sizes, from the hub, or from the cache when it is offline."""


@endpoint(
    "DELETE", "/v1/models/{model_id:path}", access="manage", raises=(BadName, BadRequest, ModelNotFound, Conflict)
)
def model_delete(ctx: Context, params: CachedModelPath) -> Awaitable[ModelDeleted]:
    """Delete a cached model with all its revisions, an imported one too; of ``ORG/NAME:QUANTIZATION`` that file alone. What is
    being fetched, or what an instance runs, is a 409."""
