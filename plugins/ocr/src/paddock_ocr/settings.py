"""The section ``ocr`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec


class OcrSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of work on pictures. It is done in helper processes, so that a hostile file ends only its helper.

    `workers`: pages read at once, each by a helper of its own. `threads` of PP-OCR in one helper, 0 for all processors; Tesseract
    works with one. `timeout_seconds`: after it a helper that reads a page is killed, after `render_seconds` one that makes a
    picture of it. `memory_mb`: address space of a helper. `max_pixels`: larger pictures are refused, larger pages of PDF made
    smaller. `idle_seconds`: a helper without work is ended after it. `tesseract`: the command, looked up in PATH.
    """

    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 120
    render_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 30
    memory_mb: Annotated[int, msgspec.Meta(ge=512, le=65_536)] = 4096
    max_pixels: Annotated[int, msgspec.Meta(ge=10_000, le=1_000_000_000)] = 50_000_000
    idle_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] = 60
    tesseract: str = "tesseract"
