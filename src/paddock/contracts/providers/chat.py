"""Chat models and where models come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers.base import Provider
from paddock.errors import BadRequest


class ChatCall(msgspec.Struct, kw_only=True):
    """One call of a chat model.

    `body` is the request in OpenAI's chat format as a dict, `model` already the provider's own model name, sampling fields
    and tools merged in. `think` is None (as the model likes), or whether reasoning is wanted; `thinking_budget` in tokens.
    `sources` are the retrieved chunks of project chat, best first, for models that answer from them without reading a prompt.
    """

    body: dict[str, Json]
    stream: bool
    base_url: str | None = None
    api_key: str | None = None
    think: bool | None = None
    thinking_budget: int | None = None
    sources: Sequence[Passage] = ()
    options: Mapping[str, Json] = {}


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """One retrieved chunk as a model sees it; `number` is the [n] of citations."""

    number: int
    content: str
    filename: str
    page: int | None
    score: float
    chunk_id: str
    document_id: str


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a provider's catalogue. Size in bytes, created in seconds since 1970. `also` are further names by which
    requests may call the model."""

    id: str
    owned_by: str
    also: tuple[str, ...] = ()
    created: int = 0
    size: int | None = None
    details: dict[str, Json] = {}


class ChatModel(Provider):
    """Chat. The one abstract method yields bytes, so that an upstream's bytes can pass through unchanged."""

    default_base_url: str | None = None

    @abstractmethod
    def chat(self, call: ChatCall) -> AsyncIterator[bytes]:
        """Yield the reply. Streaming: OpenAI's server-sent events (``data: {…}\\n\\n`` … ``data: [DONE]\\n\\n``), cut
        anywhere. Otherwise: the JSON body, in one or more pieces. Closing the iterator must cancel the work upstream.

        Raises before the first piece: UpstreamError, ProviderUnavailable, UpstreamTimeout, ModelNotFound, BadRequest for a
        field that this model can't honour.
        """

    async def models(self) -> list[ModelInfo]:
        """The catalogue. Raises ProviderUnavailable when it can't be read: down is not empty."""
        return []


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a download is, in bytes; total is None while unknown."""

    status: str
    completed: int = 0
    total: int | None = None


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """One form of a model that a source offers: a GGUF file (the first of its shards), its quantization, size in bytes."""

    filename: str
    quantization: str
    size: int


class Freed(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion took away: bytes, revisions, and the folder they were in ("" where that is not paddock's to know)."""

    size: int
    revisions: int = 1
    path: str = ""


class ModelSource(Provider):
    """Where models come from and are managed (a registry or a runtime's own store). `local` as in `ModelServer`."""

    local: bool = False

    @abstractmethod
    async def catalogue(self) -> list[ModelInfo]:
        """What is there. Raises ProviderUnavailable."""

    @abstractmethod
    def pull(self, model: str) -> AsyncIterator[Progress]:
        """Fetch a model; closing the iterator cancels, unless somebody else waits for the same one. What is wrong with the
        request is raised before the first progress: BadName, BadRequest (no space), ModelNotFound, TooLarge, Conflict,
        ProviderUnavailable, UpstreamError, UpstreamTimeout, RateLimited."""

    @abstractmethod
    async def show(self, model: str) -> dict[str, Json]:
        """All that is known of one model. Raises ModelNotFound."""

    @abstractmethod
    async def delete(self, model: str) -> Freed:
        """Delete what is stored of a model. Raises BadName, ModelNotFound, Conflict (it is being fetched)."""

    async def size(self, model: str) -> int | None:  # noqa: ARG002  the hook's signature
        """The bytes that `pull` would have to store, None when nobody knows beforehand. Raises as `pull`."""
        return None

    async def quantizations(self, model: str) -> list[ModelFile]:  # noqa: ARG002  as above
        """The GGUF forms of a model, smallest first; empty when it has none. Raises as `pull`, and BadRequest from a source
        that can't tell."""
        raise BadRequest(f"{self.name} does not list quantizations")
