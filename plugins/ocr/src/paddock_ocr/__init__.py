"""Pages of PDF and pictures, and the text in them: PP-OCR on ONNX Runtime, and Tesseract."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import hookimpl
from paddock.contracts.providers import Environment, OcrEngine, PageRenderer, Parser
from paddock_ocr.engines import PaddleEngine, Renderer, TesseractEngine
from paddock_ocr.parser import ImageParser
from paddock_ocr.settings import OcrSettings

__all__ = ["OcrPlugin", "OcrSettings", "plugin"]


class OcrPlugin:
    """The entry point. No helper process starts before the first file."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``ocr``."""
        return "ocr", OcrSettings

    @hookimpl
    def paddock_page_renderers(self, env: Environment) -> Sequence[PageRenderer]:
        """Pages of PDF and pictures."""
        return [Renderer(env.settings)]

    @hookimpl
    def paddock_ocr_engines(self, env: Environment) -> Sequence[OcrEngine]:
        """PP-OCR first: it reads more, also on bad scans; Tesseract knows more languages."""
        return [PaddleEngine(env.settings), TesseractEngine(env.settings)]

    @hookimpl
    def paddock_parsers(self) -> Sequence[Parser]:
        """Pictures of text in datasets."""
        return [ImageParser()]


plugin = OcrPlugin()
