"""Model servers: what the gateway under ``/v1`` hands requests to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Literal

import msgspec

from paddock.contracts.base import Caller
from paddock.contracts.providers.base import Provider
from paddock.contracts.providers.chat import ModelInfo
from paddock.contracts.providers.outgoing import HttpReply

Operation = Literal[
    "chat/completions", "completions", "embeddings", "rerank", "responses", "messages", "messages/count_tokens"
]


class GatewayCall(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a caller. `model` is the server's own name of the model; `body` are the caller's bytes, unchanged
    unless they had to name the model differently. `headers` are the few that may travel on (``openai-beta``,
    ``anthropic-version`` …), never a credential. `first_token_timeout` (of a stream, from when the model is ready) and `timeout`
    are in seconds, None for the server's own.
    """

    operation: Operation
    model: str
    body: bytes
    stream: bool
    headers: Mapping[str, str] = {}
    caller: Caller = Caller()
    request_id: str = ""
    first_token_timeout: float | None = None
    timeout: float | None = None


class InstanceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many instances there are; those that are neither running nor stopped count in the total only."""

    total: int
    running: int
    stopped: int


class ModelServer(Provider):
    """Serves models by name in OpenAI's format. `types[0].name` is what stands before the slash in ``provider/model``."""

    operations: frozenset[Operation] = frozenset({"chat/completions"})
    """What it can be asked."""

    local: bool = False
    """Whether its catalogue is at hand (no network): then it is asked whenever the list is asked for or a name is not found,
    else only every ``gateway.catalogue_ttl`` seconds."""

    first_token_timeout: float | None = None
    timeout: float | None = None
    """What this server's settings say, in seconds; it wins over the gateway's, and comes with each call."""

    @abstractmethod
    def serve(self, call: GatewayCall) -> AbstractAsyncContextManager[HttpReply]:
        """Answer in OpenAI's format (Anthropic's for ``messages``): status, headers and bytes as they come.

        The request may wait inside ``__aenter__`` (a model is loaded); leaving the context, or cancelling, ends the work.
        It may be left in another task than it was entered in: hold no `asyncio.timeout` or task group across it.
        An error status of an upstream is returned, not raised. Raises ModelNotFound, ProviderUnavailable, UpstreamTimeout,
        RateLimited, Conflict, BadRequest for a field that can't be honoured.
        """

    @abstractmethod
    async def models(self) -> list[ModelInfo]:
        """The catalogue. Raises ProviderUnavailable when it can't be read: down is not empty."""

    def claims(self, model: str) -> str | None:  # noqa: ARG002  the hook's signature
        """The server's own name for `model` when this name is its own before all catalogues (a managed instance, an alias),
        else None. Asked for every request: it must be quick and do no I/O."""
        return None

    def fetches(self, model: str, operation: Operation) -> bool:  # noqa: ARG002  the hook's signature
        """Whether it would fetch a model of this name from a hub to answer such a request, when the name is nobody's here and
        the setting ``models.auto_download`` is on. Quick, without I/O."""
        return False

    def loaded(self) -> list[str]:
        """Its own names of the models that it holds in this process's memory. Quick, without I/O."""
        return []

    async def unload(self, model: str | None) -> list[str]:  # noqa: ARG002  the hook's signature
        """Free the memory of a model (None: of all); one in use, or unknown, stays as it is. Returns which went."""
        return []

    def running_from(self, path: Path) -> list[str]:  # noqa: ARG002  the hook's signature
        """The names of what runs from a file of the model cache, or from any in a folder of it: it is not deleted meanwhile.
        Quick, without I/O."""
        return []

    def cache_changed(self) -> None:
        """A model came into the model cache, or went: what was remembered of it counts no more. Quick, without I/O."""
        return

    def instance_counts(self) -> InstanceCounts | None:
        """How many instances it manages; None for a server that manages none. Quick, without I/O."""
        return None
