"""An embedder of this process as a model server: ``/v1/embeddings`` in OpenAI's shape."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from paddock.builtin.hashing import HashingConfig, HashingEmbedder
from paddock.builtin.serving import MadeReply, read_request
from paddock.builtin.text_model import estimate_tokens
from paddock.contracts.base import Json
from paddock.contracts.providers import Embedder, GatewayCall, HttpReply, ModelInfo, ModelServer, TypeName, Vectors
from paddock.errors import FieldError, ModelNotFound, ValidationFailed, field_error

MOST_TEXTS = 2048  # OpenAI's limit

Text = Annotated[str, msgspec.Meta(max_length=1_000_000)]


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A body of ``/v1/embeddings``. Tokens instead of texts are refused: they belong to a tokenizer of somebody else."""

    model: str
    input: Text | Annotated[list[Text], msgspec.Meta(min_length=1, max_length=MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=16384)] | None = None
    user: str | None = None
    stream: Literal[False] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, in order."""
        return [self.input] if isinstance(self.input, str) else self.input


def encoded(request: EmbeddingRequest, vectors: Vectors) -> bytes:
    """The reply. Floats are those of float32; base64 is of little-endian float32. Tokens are estimated."""
    if request.encoding_format == "base64":
        rows: list[Json] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    else:
        rows = vectors.tolist()
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    tokens = sum(map(estimate_tokens, request.texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data, "model": request.model, "usage": usage})


class CoreServer(ModelServer):
    """Type ``core``: what paddock itself can serve without a download, the hashing embedder as ``core/hashing``."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("core"),)
    operations = frozenset({"embeddings"})
    local = True

    def __init__(self) -> None:
        self._models: Mapping[str, tuple[Embedder, Callable[[int | None], Any]]] = {
            "hashing": (HashingEmbedder(), hashing_config)
        }

    async def models(self) -> list[ModelInfo]:
        """See `ModelServer.models`."""
        return [ModelInfo(id=name, owned_by="paddock", details={"type": "embedding"}) for name in self._models]

    @asynccontextmanager
    async def serve(self, call: GatewayCall) -> AsyncIterator[HttpReply]:
        """See `ModelServer.serve`."""
        if call.model not in self._models:
            raise ModelNotFound(f"core has no model {call.model[:100]!r}; it has {', '.join(self._models)}")
        embedder, config = self._models[call.model]
        request = read_request(call.body, EmbeddingRequest)
        vectors = await embedder.embed(request.texts, config(request.dimensions), "document")
        yield MadeReply(encoded(request, vectors))


def hashing_config(dimensions: int | None) -> HashingConfig:
    """The config for vectors of that length. Raises ValidationFailed for one that the embedder does not make."""
    if dimensions is None:
        return HashingConfig()
    try:
        return msgspec.convert({"dimension": dimensions}, HashingConfig)
    except msgspec.ValidationError as error:
        raise ValidationFailed.of([FieldError("dimensions", field_error(error).reason)]) from error
