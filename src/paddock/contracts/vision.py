"""Text in pictures, and what documents say. The paths under /v1/vision take a form, the others JSON.

Pictures are PNG, JPEG, GIF, WebP, BMP, TIFF (each page counts) or PDF (each page counts). Replies have one item for each page,
numbered from 0 over all files of a request.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal

import msgspec

from paddock.contracts.base import Context, Upload, endpoint
from paddock.errors import (
    BadName,
    BadRequest,
    FileNotFound,
    ModelNotFound,
    ProviderUnavailable,
    TooLarge,
    UpstreamTimeout,
    ValidationFailed,
)

UPLOAD_LIMIT = 1 << 40  # bytes of a whole body; the file in it is bounded by the setting files.max_bytes
FORM_BYTES = 64 * 1024 * 1024  # pictures in base64 may stand in a form field
_RAISES = (
    BadName,
    BadRequest,
    ValidationFailed,
    ModelNotFound,
    FileNotFound,
    TooLarge,
    ProviderUnavailable,
    UpstreamTimeout,
)


class OcrRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pictures in base64 (or data URIs), or the id of an uploaded file.

    `model` is an engine (paddleocr, tesseract) or a name that stands for the best one that speaks the languages (surya,
    easyocr, auto); what that finds nothing on, the next best is asked to read. `languages` are codes of ISO 639-1 or the
    engine's own names.
    """

    model: str = "surya"
    images: list[str] | None = None
    file_id: str | None = None
    languages: list[str] | None = None
    return_boxes: bool = False


class OcrBox(msgspec.Struct, kw_only=True):
    """A line of text and where it stands, in pixels of the page from its upper left corner."""

    x1: float
    y1: float
    x2: float
    y2: float
    text: str
    confidence: float


class OcrItem(msgspec.Struct, kw_only=True):
    """The text of one page in reading order. `confidence` in [0, 1] is the mean over its characters, 0 without text. `boxes` is
    null unless asked for. `width` and `height` are the size of the page that the boxes refer to; `rotation` tells by how many
    degrees clockwise it had to be turned to be read. `engine` is whose text it is; the best one's where none found any."""

    index: int
    text: str
    confidence: float
    boxes: list[OcrBox] | None = None
    width: int
    height: int
    rotation: int = 0
    engine: str


class OcrUsage(msgspec.Struct, kw_only=True):
    """How many pages were read."""

    images_processed: int


class OcrReply(msgspec.Struct, kw_only=True):
    """The pages. `model` is what was asked for, `engine` what ran: where pages needed several, their names separated by commas.
    `languages` are those that were read, by the names that these engines have for them."""

    object: Literal["list"] = "list"
    data: list[OcrItem]
    model: str
    engine: str
    languages: list[str]
    usage: OcrUsage


class ExtractRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Pictures in base64 (or data URIs), or the id of an uploaded file. `task` is extraction, vqa (needs `prompts`, the
    questions) or classification."""

    model: str
    images: list[str] | None = None
    file_id: str | None = None
    prompts: list[str] | None = None
    task: str = "extraction"


class ExtractedField(msgspec.Struct, kw_only=True):
    """One thing that a document says, and where it stands (left, top, right, bottom) if the model knows."""

    key: str
    value: str
    confidence: float
    bbox: tuple[float, float, float, float] | None = None


class ExtractedAnswer(msgspec.Struct, kw_only=True):
    """The answer to one question."""

    question: str
    answer: str
    confidence: float


class ExtractedClass(msgspec.Struct, kw_only=True):
    """What kind of document it is."""

    label: str
    score: float
    all_scores: dict[str, float]


class ExtractItem(msgspec.Struct, kw_only=True):
    """What was found on one page. What the model or the task does not give is null."""

    index: int
    confidence: float
    text: str | None = None
    fields: list[ExtractedField] | None = None
    answers: list[ExtractedAnswer] | None = None
    classification: ExtractedClass | None = None


class ExtractUsage(msgspec.Struct, kw_only=True):
    """How many pages were read."""

    documents_processed: int


class ExtractReply(msgspec.Struct, kw_only=True):
    """The pages."""

    object: Literal["list"] = "list"
    data: list[ExtractItem]
    model: str
    task: str
    usage: ExtractUsage


@endpoint(
    "POST",
    "/v1/vision/ocr",
    access="infer",
    kind="upload",
    tags=("vision",),
    raises=_RAISES,
    body_limit=UPLOAD_LIMIT,
    form_bytes=FORM_BYTES,
)
def vision_ocr(ctx: Context, data: Upload) -> Awaitable[OcrReply]:
    """Read the text in pictures or a PDF.

    Form fields: ``file``, or ``images`` (a JSON array of base64 strings, or one such string); ``model`` (surya), ``languages``
    (en; a comma list or a JSON array), ``return_boxes`` (false).
    """


@endpoint(
    "POST",
    "/v1/vision/documents/extract",
    access="infer",
    kind="upload",
    tags=("vision",),
    raises=_RAISES,
    body_limit=UPLOAD_LIMIT,
    form_bytes=FORM_BYTES,
)
def vision_documents_extract(ctx: Context, data: Upload) -> Awaitable[ExtractReply]:
    """Find fields in documents, answer questions about them, or tell their kind.

    Form fields: ``file`` or ``images`` as for OCR; ``model`` (required), ``task`` (extraction), ``prompts`` (a comma list
    or a JSON array).
    """


@endpoint("POST", "/v1/ocr", access="infer", tags=("vision",), raises=_RAISES)
def ocr_create(ctx: Context, data: OcrRequest) -> Awaitable[OcrReply]:
    """Read the text in pictures, given in base64 or as an uploaded file."""


@endpoint("POST", "/v1/documents/extract", access="infer", tags=("vision",), raises=_RAISES)
def documents_extract(ctx: Context, data: ExtractRequest) -> Awaitable[ExtractReply]:
    """Find fields in documents, answer questions about them, or tell their kind; pictures in base64 or an uploaded file."""
