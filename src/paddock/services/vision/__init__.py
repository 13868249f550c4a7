"""Text in pictures, and what documents say."""

from paddock.services.vision.ocr import Ocr
from paddock.services.vision.service import Vision

__all__ = ["Ocr", "Vision"]
