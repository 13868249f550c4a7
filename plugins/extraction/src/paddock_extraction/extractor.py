"""On the server's side: which models there are, and pages to helpers."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from paddock.builtin.helpers import HelperOptions, HelperPool
from paddock.builtin.hub_cache import HubCache
from paddock.contracts.providers import (
    DocumentCall,
    DocumentExtractor,
    DocumentTask,
    FoundDocument,
    PageImage,
    TypeName,
    Word,
)
from paddock.errors import BadName, BadRequest, ModelNotFound
from paddock_extraction.facts import family_of, missing, tasks_of, weights
from paddock_extraction.settings import ExtractionSettings
from paddock_extraction.wire import Request

MIB = 1024 * 1024


class OnnxExtractor(DocumentExtractor):
    """Donut and LayoutLMv3 from the model cache, as Optimum exports them."""

    types = (TypeName("onnx-documents"),)

    def __init__(self, settings: ExtractionSettings, cache: HubCache) -> None:
        self._settings = settings
        self._cache = cache
        self._threads = settings.threads or os.cpu_count() or 1
        self._tasks: dict[Path, tuple[DocumentTask, ...]] = {}  # of the models that were asked
        self.pool = HelperPool(
            HelperOptions(
                module="paddock_extraction.worker",
                section="extraction",
                doing="runs document models",
                memory_mb=settings.memory_mb,
                idle_seconds=settings.idle_seconds,
                refusal=BadRequest,
                most=settings.workers,
                environment={"OMP_NUM_THREADS": str(self._threads)},
            )
        )

    async def models(self) -> list[str]:
        return await asyncio.to_thread(self._models)

    def _models(self) -> list[str]:
        found = ((model.repo, self._cache.snapshot(model.repo)) for model in self._cache.models())
        return [repo for repo, folder in found if folder is not None and _runs(folder)]

    async def extract(self, call: DocumentCall) -> list[FoundDocument]:
        folder = await asyncio.to_thread(self._folder, call.model)
        await asyncio.to_thread(self._check_task, folder, call)
        told: list[list[Word]] = [[] for _ in call.pages]
        if await asyncio.to_thread(family_of, folder) == "layoutlmv3":
            told = [[word for line in page.lines for word in line.words] for page in await call.words()]
        return [await self._page(call, folder, page, words) for page, words in zip(call.pages, told, strict=True)]

    def _folder(self, model: str) -> Path:
        """Where the model is. Raises ModelNotFound, BadRequest for one that is too large."""
        try:
            folder = self._cache.snapshot(model)
        except BadName as error:
            raise ModelNotFound(error.message) from error
        if folder is None or not _runs(folder):
            raise self._cache.missing(model)
        size = sum(path.stat().st_size for path in weights(folder))
        if size > self._settings.max_model_mb * MIB:
            raise BadRequest(
                f"the model {model} has {size // MIB} MiB; at most {self._settings.max_model_mb} are loaded "
                "(extraction.max_model_mb)"
            )
        return folder

    def _check_task(self, folder: Path, call: DocumentCall) -> None:
        """Raise BadRequest unless the model was trained for the task."""
        if folder not in self._tasks:
            try:
                self._tasks[folder] = tasks_of(folder)
            except ValueError as error:
                raise BadRequest(f"the model {call.model} is damaged: {error}; import it again") from error
        own = self._tasks[folder]
        if call.task not in own:
            one_or_more = f"task of {call.model} is" if len(own) == 1 else f"tasks of {call.model} are"
            raise BadRequest(f"the {one_or_more} {' and '.join(own)}, not {call.task}: ask for that, or another model")

    async def _page(self, call: DocumentCall, folder: Path, page: PageImage, words: list[Word]) -> FoundDocument:
        request = Request(
            folder=str(folder),
            model=call.model,
            task=call.task,
            page=str(page.path),
            prompts=list(call.prompts),
            words=words,
            threads=self._threads,
            max_tokens=self._settings.max_tokens,
        )
        found = await self.pool.ask_async(msgspec.json.encode(request), self._settings.timeout_seconds)
        return msgspec.json.decode(found, type=FoundDocument)

    async def close(self) -> None:
        await asyncio.to_thread(self.pool.close)


def _runs(folder: Path) -> bool:
    """Whether the folder holds a document model with everything that it needs."""
    try:
        return missing(folder) is None
    except ValueError:
        return False
