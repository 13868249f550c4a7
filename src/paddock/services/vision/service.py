"""The endpoints of OCR and document extraction."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence
from typing import get_args

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Context, Upload, hookimpl
from paddock.contracts.providers import (
    DocumentCall,
    DocumentExtractor,
    DocumentTask,
    FoundDocument,
    PageImage,
    PageText,
)
from paddock.contracts.vision import (
    ExtractedAnswer,
    ExtractedClass,
    ExtractedField,
    ExtractItem,
    ExtractReply,
    ExtractRequest,
    ExtractUsage,
    OcrBox,
    OcrItem,
    OcrReply,
    OcrRequest,
    OcrUsage,
)
from paddock.errors import BadRequest, ModelNotFound, ProviderUnavailable
from paddock.services.core import Core
from paddock.services.forms import flag, listed, only
from paddock.services.pages import Pages
from paddock.services.uploaded import UploadedFiles
from paddock.services.vision.ocr import STAND_INS, Ocr, ReadPage
from paddock.services.vision.sources import Sources

MAX_PROMPTS = 32
MAX_PROMPT = 1000  # characters
_TASKS: tuple[DocumentTask, ...] = get_args(DocumentTask)


class Vision:
    """Implements contracts/vision.py."""

    def __init__(self, core: Core, pages: Pages, files: UploadedFiles) -> None:
        self._core = core
        self._pages = pages
        self._files = files
        self._ocr = Ocr(core)

    def _sources(self) -> Sources:
        return Sources(self._core, self._pages, self._files)

    # -- OCR

    @hookimpl
    async def vision_ocr(self, ctx: Context, data: Upload) -> OcrReply:
        async with self._sources() as sources:
            fields = await sources.take_form(data)
            only(fields, "model", "languages", "return_boxes")
            request = OcrRequest(
                model=fields.get("model", "").strip() or STAND_INS[0],
                languages=listed(fields, "languages"),
                return_boxes=flag(fields, "return_boxes", False),
            )
            return await self._read(sources, request)

    @hookimpl
    async def ocr_create(self, ctx: Context, data: OcrRequest) -> OcrReply:
        async with self._sources() as sources:
            await sources.take(ctx.caller, data.images, data.file_id)
            return await self._read(sources, data)

    async def _read(self, sources: Sources, request: OcrRequest) -> OcrReply:
        chosen = await self._ocr.choose(request.model, request.languages or ())
        async with sources.pages() as pages:
            read = await self._ocr.read(chosen, pages)
        both = enumerate(zip(pages, read, strict=True))
        readers = list(dict.fromkeys(one.by.engine.name for one in read))
        return OcrReply(
            data=[_ocr_item(at, page, one, boxes=request.return_boxes) for at, (page, one) in both],
            model=request.model,
            engine=", ".join(readers),
            languages=list(dict.fromkeys(own for one in read for own in one.by.languages)),
            usage=OcrUsage(images_processed=len(pages)),
        )

    # -- extraction

    @hookimpl
    async def vision_documents_extract(self, ctx: Context, data: Upload) -> ExtractReply:
        async with self._sources() as sources:
            fields = await sources.take_form(data)
            only(fields, "model", "prompts", "task")
            request = ExtractRequest(
                model=fields.get("model", "").strip(),
                prompts=listed(fields, "prompts"),
                task=fields.get("task", "").strip() or "extraction",
            )
            return await self._extract(ctx, sources, request)

    @hookimpl
    async def documents_extract(self, ctx: Context, data: ExtractRequest) -> ExtractReply:
        async with self._sources() as sources:
            await sources.take(ctx.caller, data.images, data.file_id)
            return await self._extract(ctx, sources, data)

    async def _extract(self, ctx: Context, sources: Sources, request: ExtractRequest) -> ExtractReply:
        task, prompts = _task(request), _prompts(request)
        extractor = await self._extractor(ctx, request.model)
        async with sources.pages() as pages:

            async def words() -> list[PageText]:
                return [one.text for one in await self._ocr.read(await self._ocr.choose(None, ()), pages)]

            call = DocumentCall(model=request.model, task=task, pages=pages, prompts=prompts, words=words)
            found = await extractor.extract(call)
        return ExtractReply(
            data=[_extract_item(at, document) for at, document in enumerate(found)],
            model=request.model,
            task=task,
            usage=ExtractUsage(documents_processed=len(pages)),
        )

    async def _extractor(self, ctx: Context, model: str) -> DocumentExtractor:
        """Who has the model.

        Raises BadName, BadRequest for a model that does something else, ModelNotFound with the command that brings it,
        ProviderUnavailable.
        """
        if not model:
            raise BadRequest(
                "model is required: the id of a document model, naver-clova-ix/donut-base-finetuned-cord-v2 …"
            )
        extractors = self._core.plugins.document_extractors.all()
        if not extractors:
            raise ProviderUnavailable("no loaded plugin extracts from documents: install paddock-extraction")
        known: list[str] = []
        for extractor in extractors:
            models = [one for one in await extractor.models() if ctx.caller.may_use(one)]
            if model in models:
                return extractor
            known += models
        other = await asyncio.to_thread(self._cached, model)
        if other is not None and ctx.caller.may_use(other):
            kind = await self._kind(other)
            raise BadRequest(
                f"the model {other} is {kind}: document models are Donut and LayoutLMv3 as Optimum exports them"
            )
        raise _no_model(model, known)

    def _cached(self, model: str) -> str | None:
        """The id of a model of the cache, of which at least a part is there. Raises BadName."""
        cache = HubCache(self._core.settings.hub_cache)
        repo = cache.resolve(model).repo
        return repo if cache.model(repo) else None

    async def _kind(self, model: str) -> str:
        """What a cached model that is not for documents is, in words."""
        servers = [server for server in self._core.plugins.model_servers.all() if server.local]
        listed = [info for server in servers for info in await server.models() if info.id == model]
        kind = next((info.details["type"] for info in listed if "type" in info.details), None)
        return "no document model that is whole" if kind is None else f"of the type {kind}"


def _no_model(model: str, known: Sequence[str]) -> ModelNotFound:
    near = difflib.get_close_matches(model, known, 3)
    hint = f"; did you mean {', '.join(near)}?" if near else f". Cached: {', '.join(sorted(known)[:10]) or 'none'}."
    shown = model[:128].encode("ascii", "backslashreplace").decode()
    return ModelNotFound(
        f"the document model {shown!r} is not cached{hint} Export it with Optimum to ONNX, and take the folder in with: "
        f"paddock models import FOLDER --name {shown}"
    )


def _task(request: ExtractRequest) -> DocumentTask:
    found = next((task for task in _TASKS if task == request.task), None)
    if found is None:
        raise BadRequest(f"task is one of {', '.join(_TASKS)}")
    return found


def _prompts(request: ExtractRequest) -> list[str]:
    """The questions. Raises BadRequest when a task needs some, or can't use them."""
    prompts = [text.strip() for text in request.prompts or () if text.strip()]
    if request.task == "vqa" and not prompts:
        raise BadRequest("prompts is required for the task vqa: the questions")
    if request.task != "vqa" and prompts:
        raise BadRequest(f"prompts are questions of the task vqa; {request.task} takes none")
    if len(prompts) > MAX_PROMPTS or any(len(text) > MAX_PROMPT for text in prompts):
        raise BadRequest(f"at most {MAX_PROMPTS} prompts of {MAX_PROMPT} characters are answered at once")
    return prompts


def _ocr_item(index: int, page: PageImage, read: ReadPage, *, boxes: bool) -> OcrItem:
    found = read.text
    return OcrItem(
        index=index,
        text=found.text,
        confidence=round(found.confidence, 4),
        boxes=[_box(line.box, line.text, line.confidence) for line in found.lines] if boxes else None,
        width=page.width,
        height=page.height,
        rotation=found.turned,
        engine=read.by.engine.name,
    )


def _box(box: tuple[float, float, float, float], text: str, confidence: float) -> OcrBox:
    x1, y1, x2, y2 = (round(value, 1) for value in box)
    return OcrBox(x1=x1, y1=y1, x2=x2, y2=y2, text=text, confidence=confidence)


def _extract_item(index: int, found: FoundDocument) -> ExtractItem:
    kind = found.classification
    return ExtractItem(
        index=index,
        confidence=round(found.confidence, 4),
        text=found.text,
        fields=None
        if found.fields is None
        else [
            ExtractedField(key=one.key, value=one.value, confidence=round(one.confidence, 4), bbox=one.bbox)
            for one in found.fields
        ],
        answers=None
        if found.answers is None
        else [
            ExtractedAnswer(question=one.question, answer=one.answer, confidence=round(one.confidence, 4))
            for one in found.answers
        ],
        classification=None
        if kind is None
        else ExtractedClass(label=kind.label, score=kind.score, all_scores=kind.all_scores),
    )
