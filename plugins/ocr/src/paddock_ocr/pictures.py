"""In the helper: files from outside to clean pages. Everything here may meet a hostile file."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import PIL.Image
import PIL.ImageOps
import pypdfium2

from paddock.builtin.helper import Refused
from paddock.contracts.providers import Looked, PageImage
from paddock_ocr.wire import Look, Render

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
PDF = "application/pdf"
PDF_PIXELS = 20_000_000  # of a page: A4 at 460 dpi; what is larger is made smaller
MAX_SIDE = 30_000  # pixels
FAINT = 32  # levels of grey between ink and paper
_WHITES = (1, 255, 4095, 65_535)  # of pictures with more than eight bits, whose header does not say how many are in use
_PDF_HEAD = 1024  # bytes in which %PDF must stand, as readers of PDF have it


def look(request: Look) -> Looked:
    """What the file is, by its first bytes and its header. Raises Refused."""
    if _is_pdf(request.path):
        with _pdf(request.path) as pdf:
            return Looked(mime=PDF, pages=len(pdf))
    with _picture(request.path, request.max_pixels) as image:
        return Looked(mime=PIL.Image.MIME[str(image.format)], pages=_frames(image))


def render(request: Render) -> PageImage:
    """A page as a PNG file in the folder. Raises Refused."""
    began = time.perf_counter()
    page = _page(request)
    return msgspec.structs.replace(page, seconds=time.perf_counter() - began)


def _page(request: Render) -> PageImage:
    if _is_pdf(request.path):
        with _pdf(request.path) as pdf:
            _check_number(request.number, len(pdf))
            return _pdf_page(pdf, request)
    with _picture(request.path, request.max_pixels) as image:
        _check_number(request.number, _frames(image))
        return _frame(image, request)


def _check_number(number: int, count: int) -> None:
    if not 1 <= number <= count:
        raise Refused(f"has no page {number}, only {count}")


# -- pictures


@contextmanager
def _decoding() -> Iterator[None]:
    """Whatever the decoder stumbles over is the file's fault: such libraries raise anything for a damaged one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            yield
    except (Refused, MemoryError):
        raise
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise Refused("holds more pixels than ocr.max_pixels allows: make it smaller") from error
    except PIL.UnidentifiedImageError as error:
        raise Refused(f"is neither a PDF nor a picture of a known kind ({', '.join(FORMATS)})") from error
    except Exception as error:
        raise Refused(f"is damaged: its picture can't be decoded ({type(error).__name__})") from error


@contextmanager
def _picture(path: str, max_pixels: int) -> Iterator[PIL.Image.Image]:
    PIL.Image.MAX_IMAGE_PIXELS = max_pixels
    with _decoding(), PIL.Image.open(path, formats=FORMATS) as image:
        _check_size(image, max_pixels)
        yield image


def _check_size(image: PIL.Image.Image, max_pixels: int) -> None:
    """The header's word is enough to refuse: nothing has been decoded yet."""
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise Refused(
            f"is a picture of {width} x {height} pixels; at most {max_pixels} are taken (ocr.max_pixels), {MAX_SIDE} on a side"
        )


def _frames(image: PIL.Image.Image) -> int:
    """Pages of a TIFF; of an animation only the first picture counts."""
    return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


def _frame(image: PIL.Image.Image, request: Render) -> PageImage:
    with _decoding():
        if request.number > 1:
            image.seek(request.number - 1)
            _check_size(image, request.max_pixels)
        resolution = _resolution(image)
        page = _clean(PIL.ImageOps.exif_transpose(image))
    return _saved(page, request, resolution)


def _resolution(image: PIL.Image.Image) -> int | None:
    given = image.info.get("dpi")
    try:
        dpi = round(float(given[0])) if given else 0
    except (TypeError, ValueError, ArithmeticError, IndexError):
        return None
    return dpi if 50 <= dpi <= 2400 else None


def _clean(image: PIL.Image.Image) -> PIL.Image.Image:
    """Grey or RGB, without transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        brightest = float(image.getextrema()[1] or 1)  # type: ignore[arg-type]  # floats of one band
        white = next((top for top in _WHITES if brightest <= top), brightest)
        return image.convert("F").point(lambda value: value * (255 / white)).convert("L")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        return _on_paper(image.convert("RGBA"))
    return image.convert("RGB")


def _on_paper(layer: PIL.Image.Image) -> PIL.Image.Image:
    """White shines through what is transparent; black where nothing could be seen on white."""
    paper = PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    darkest, lightest = cast("tuple[int, int]", paper.convert("L").getextrema())
    if lightest - darkest > FAINT:
        return paper
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", layer.size, "black"), layer).convert("RGB")


def _saved(image: PIL.Image.Image, request: Render, dpi: int | None) -> PageImage:
    path = Path(request.folder) / f"{request.number}.png"
    try:
        image.save(path, "PNG", compress_level=1)
    except OSError as error:
        raise Refused(f"can't be rendered ({error.strerror}): free some space on the server's disk") from error
    return PageImage(number=request.number, path=path, width=image.width, height=image.height, dpi=dpi)


# -- PDF


def _is_pdf(path: str) -> bool:
    with Path(path).open("rb") as file:
        return b"%PDF-" in file.read(_PDF_HEAD)


@contextmanager
def _pdf(path: str) -> Iterator[Any]:
    try:
        pdf = pypdfium2.PdfDocument(path)
        pdf.init_forms()  # or what was filled in is not drawn
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Refused("is encrypted: remove its password and send it again") from error
        raise Refused("is damaged: it is no readable PDF") from error
    try:
        if not len(pdf):
            raise Refused("is a PDF without pages")
        yield pdf
    finally:
        pdf.close()


def _pdf_page(pdf: Any, request: Render) -> PageImage:
    limit = min(PDF_PIXELS, request.max_pixels)
    try:
        page = pdf[request.number - 1]
        width, height = page.get_size()
        scale = _scale(width, height, request.dpi / 72, limit)
        bitmap = page.render(scale=scale, draw_annots=True)
        image = bitmap.to_pil().convert("RGB")
        page.close()
    except pypdfium2.PdfiumError as error:
        raise Refused(f"is damaged: page {request.number} can't be rendered") from error
    return _saved(image, request, round(scale * 72))


def _scale(width: float, height: float, scale: float, limit: int) -> float:
    """Pixels per point, so that the page stays within the bounds."""
    width, height = max(1.0, width), max(1.0, height)
    return min(scale, math.sqrt(limit / (width * height)), MAX_SIDE / 3 / max(width, height))
