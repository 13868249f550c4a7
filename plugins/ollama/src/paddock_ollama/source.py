"""Ollama's models: catalogue, pull with progress, show, delete, health."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, cast

from paddock.builtin.openai_wire import Target, error_of
from paddock.contracts.base import Json
from paddock.contracts.providers import (
    Freed,
    Health,
    HttpClient,
    ModelInfo,
    ModelSource,
    Progress,
    TypeName,
    timed_health,
)
from paddock.errors import (
    BadName,
    ModelNotFound,
    PaddockError,
    ProviderUnavailable,
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)
from paddock_ollama.settings import OllamaSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import ollama

LOOK = 1.0  # seconds for health
QUICK = 30.0  # seconds for calls that only read or delete


class OllamaSource(ModelSource):
    """Type ``ollama``. Everything goes to the server in the settings."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("ollama"),)

    def __init__(self, http: HttpClient, settings: OllamaSettings) -> None:
        self._http = http
        self._settings = settings

    async def catalogue(self) -> list[ModelInfo]:
        """What is pulled, with sizes. Raises ProviderUnavailable; down is not empty."""
        return await self._catalogue(QUICK)

    async def _catalogue(self, timeout: float) -> list[ModelInfo]:
        target = self._settings.target()
        async with self._client(target, timeout) as client:
            try:
                with translated(target):
                    found = (await client.list()).models
            except (UpstreamError, UpstreamTimeout, ValidationFailed) as error:
                raise ProviderUnavailable(f"Ollama's models can't be listed: {error.message}") from error
        return [
            ModelInfo(
                id=model.model or "",
                owned_by="ollama",
                created=int(model.modified_at.timestamp()) if model.modified_at else 0,
                size=int(model.size) if model.size is not None else None,
                details={
                    "digest": model.digest,
                    **(model.details.model_dump(mode="json", exclude_none=True) if model.details else {}),
                },
            )
            for model in found
        ]

    async def pull(self, model: str, target: Target | None = None) -> AsyncIterator[Progress]:
        """Fetch a model; closing the iterator cancels. `completed` and `total` count the layer that arrives."""
        checked(model)
        target = target or self._settings.target()
        async with self._client(target, self._settings.pull_timeout) as client:
            with translated(target, model):
                parts = cast("AsyncGenerator[ollama.ProgressResponse, None]", await client.pull(model, stream=True))
                async with aclosing(parts):
                    async for part in parts:
                        yield Progress(status=part.status or "", completed=part.completed or 0, total=part.total)

    async def show(self, model: str) -> dict[str, Json]:
        """Ollama's own description: details, model_info, parameters, template, capabilities."""
        checked(model)
        target = self._settings.target()
        async with self._client(target, QUICK) as client:
            with translated(target, model):
                return (await client.show(model)).model_dump(mode="json", by_alias=True, exclude_none=True)

    async def delete(self, model: str) -> Freed:
        """Delete; the bytes are those of the catalogue (layers that other models share stay on disk)."""
        checked(model)
        names = {model, f"{model}:latest"}
        size = next((found.size for found in await self.catalogue() if found.id in names), None)
        target = self._settings.target()
        async with self._client(target, QUICK) as client:
            with translated(target, model):
                await client.delete(model)
        return Freed(size=size or 0)

    async def health(self) -> Health:
        """Whether Ollama answers, and how many models it has."""
        return await timed_health(self._look)

    async def _look(self) -> str:
        found = await self._catalogue(LOOK)
        return f"Ollama at {self._settings.target().where} has {len(found)} models"

    @contextlib.asynccontextmanager
    async def _client(self, target: Target, timeout: float) -> AsyncIterator[ollama.AsyncClient]:
        management = await asyncio.to_thread(_import_management)
        client = management.client(self._http, target, timeout)
        try:
            yield client
        finally:
            await client.close()


def _import_management() -> ModuleType:
    """The official package is heavy (pydantic, httpx): imported on first use, in a thread."""
    from paddock_ollama import management  # noqa: PLC0415  heavy: on first use

    return management


def checked(model: str) -> None:
    """Raise BadName for what can't be a model's name."""
    if not 0 < len(model) <= 256 or not model.isprintable():
        raise BadName("a model name has 1 to 256 printable characters")


@contextlib.contextmanager
def translated(target: Target, model: str = "") -> Iterator[None]:
    """The table: errors of the official client as ours. Those of the core's client pass through it unchanged."""
    import ollama  # noqa: PLC0415  heavy: on first use

    try:
        yield
    except ollama.ResponseError as error:
        raise _of_response(str(error.error), error.status_code, target, model) from error
    except ValueError as error:  # neither JSON nor the fields that the package expects
        raise UpstreamError(f"{target.where} does not answer like Ollama: check ollama.base_url", 502) from error


def _of_response(text: str, status: int, target: Target, model: str) -> PaddockError:
    shown = model.encode("ascii", "backslashreplace").decode()
    missing = status == 404 or "file does not exist" in text or "not found" in text
    if model and missing:
        return ModelNotFound(f"there is no model {shown!r}: check the name, or fetch it with `ollama pull {shown}`")
    # An error in the middle of a stream has no status of its own.
    return error_of(status if status > 0 else 502, {}, text.encode(), target)
