"""What comes from outside: bombs, lies and damage are refused with a reason, and the server lives on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import PIL.Image
import pytest
from paddock_documents.samples import circular_pdf, encrypted_pdf, pdf
from paddock_documents.samples.pdf import PdfWriter
from paddock_ocr import plugin
from paddock_ocr.engines import Renderer
from paddock_ocr.samples import drawn, encoded, many, png_header
from paddock_ocr.settings import OcrSettings

from paddock.contracts.providers import PageImage
from paddock.errors import BadRequest, ProviderUnavailable

Pages = Callable[..., Awaitable[list[PageImage]]]


def sized_pdf(width: float, height: float) -> bytes:
    """One empty page of that size in points."""
    writer = PdfWriter()
    root, tree = writer.reserve(), writer.reserve()
    page = writer.add(f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 {width} {height}] >>")
    writer.put(tree, f"<< /Type /Pages /Kids [{page} 0 R] /Count 1 >>")
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R >>")
    return writer.finish(root)


def filled_form() -> bytes:
    """A page whose only ink is what was written into a field."""
    writer = PdfWriter()
    root, tree, page = writer.reserve(), writer.reserve(), writer.reserve()
    font = writer.add("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    look = "/DA (/F1 20 Tf 0 g)"
    field = writer.add(
        f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Winter) /Rect [72 640 372 670] /F 4 /P {page} 0 R {look} >>"
    )
    writer.put(page, f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 612 792] /Annots [{field} 0 R] >>")
    writer.put(tree, f"<< /Type /Pages /Kids [{page} 0 R] /Count 1 >>")
    fonts = f"/DR << /Font << /F1 {font} 0 R >> >>"
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R /AcroForm << /Fields [{field} 0 R] {fonts} {look} >> >>")
    return writer.finish(root)


def slow_pdf() -> bytes:
    """A page with very much on it."""
    writer = PdfWriter()
    root, tree = writer.reserve(), writer.reserve()
    strokes = writer.stream(b"".join(b"%d 0 m 0 %d l 700 700 l S\n" % (n % 700, n % 500) for n in range(200_000)))
    page = writer.add(
        f"<< /Type /Page /Parent {tree} 0 R /MediaBox [0 0 800 800] /Contents {strokes} 0 R /Resources << >> >>"
    )
    writer.put(tree, f"<< /Type /Pages /Kids [{page} 0 R] /Count 1 >>")
    writer.put(root, f"<< /Type /Catalog /Pages {tree} 0 R >>")
    return writer.finish(root)


def cut(data: bytes, share: float = 0.6) -> bytes:
    return data[: int(len(data) * share)]


def endless_tiff() -> bytes:
    """A TIFF whose only directory names itself as the next one."""
    data = bytearray(encoded(drawn(), "TIFF"))
    first = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[first : first + 2], "little")
    at = first + 2 + 12 * count
    data[at : at + 4] = first.to_bytes(4, "little")
    return bytes(data)


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "text": (lambda: b"just some words", "neither a PDF nor a picture"),
    "nothing": (lambda: b"", "neither a PDF nor a picture"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither a PDF nor a picture"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "neither a PDF nor a picture"),
    "bomb by its header": (lambda: png_header(60_000, 60_000), r"ocr\.max_pixels"),
    "wide bomb": (lambda: png_header(2_000_000, 1), "2000000 x 1"),
    "bomb of zeros": (lambda: png_header(9000, 9000, zlib.compress(bytes(9001 * 9000))), r"ocr\.max_pixels"),
    "cut png": (lambda: cut(encoded(drawn())), "damaged"),
    "cut jpeg": (lambda: cut(encoded(drawn(), "JPEG")), "damaged"),
    "cut tiff": (lambda: cut(encoded(drawn(), "TIFF")), "damaged|neither"),
    "lying png": (lambda: png_header(200, 200, b"no pixels"), "damaged"),
    "encrypted": (encrypted_pdf, "encrypted"),
    "not really a pdf": (lambda: b"%PDF-1.7\nrubbish", "PDF"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_hostile_file_is_refused_with_a_reason(pages_of: Pages, name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(BadRequest, match=reason):
        await pages_of(make())
    assert len(await pages_of(encoded(drawn()))) == 1


@pytest.mark.parametrize(
    "make", [circular_pdf, endless_tiff, lambda: sized_pdf(14_400, 14_400), lambda: sized_pdf(0, 0)]
)
async def test_an_odd_file_is_rendered_or_refused(pages_of: Pages, make: Callable[[], bytes]) -> None:
    try:
        found = await pages_of(make(), dpi=600)
    except BadRequest:
        return
    assert all(page.width * page.height <= 20_100_000 for page in found)


async def test_a_page_of_35000_pixels_is_made_smaller(pages_of: Pages) -> None:
    (page,) = await pages_of(sized_pdf(4200, 5940), dpi=600)
    assert 19_000_000 < page.width * page.height <= 20_100_000
    assert page.dpi is not None
    assert page.dpi < 600


async def test_resolution_and_page_numbers_are_as_asked(pages_of: Pages) -> None:
    data = pdf([["one"], ["two"], ["three"]])
    coarse, fine = await pages_of(data, dpi=72, pages=[2]), await pages_of(data, dpi=144, pages=[2])
    assert [page.number for page in coarse] == [2]
    assert (fine[0].width, fine[0].height) == (2 * coarse[0].width, 2 * coarse[0].height)
    assert [page.number for page in await pages_of(data, pages=[3, 1])] == [3, 1]


async def test_what_was_filled_into_a_form_is_seen(pages_of: Pages) -> None:
    (page,) = await pages_of(filled_form(), dpi=72)
    with PIL.Image.open(page.path) as image:
        assert image.convert("L").crop((72, 122, 372, 152)).getextrema()[0] == 0


async def test_a_page_that_is_not_there_is_refused(pages_of: Pages) -> None:
    for data in (many([drawn(["x"])] * 4), pdf([["x"]] * 4)):
        for number in (0, 5):
            with pytest.raises(BadRequest, match=f"has no page {number}, only 4"):
                await pages_of(data, pages=[number])


async def test_a_page_that_takes_too_long_to_make_is_given_up_and_its_limit_named(tmp_path: Path) -> None:
    renderer = Renderer(OcrSettings(render_seconds=0.1))
    path = tmp_path / "file"
    path.write_bytes(slow_pdf())
    with pytest.raises(BadRequest, match=r"ocr\.render_seconds"):
        await renderer.render(path, tmp_path, number=1, dpi=600)
    await renderer.close()


async def test_the_kind_is_told_by_the_bytes(renderer: Renderer, tmp_path: Path) -> None:
    kinds = {
        "image/png": encoded(drawn()),
        "image/jpeg": encoded(drawn(), "JPEG"),
        "image/webp": encoded(drawn(), "WEBP"),
        "image/bmp": encoded(drawn(), "BMP"),
        "image/gif": many([drawn(), drawn(["x"] * 4)], "GIF"),
        "image/tiff": many([drawn(), drawn()]),
        "application/pdf": many([drawn(), drawn()], "PDF"),
    }
    for mime, data in kinds.items():
        path = tmp_path / "file"
        path.write_bytes(data)
        looked = await renderer.look(path)
        assert (looked.mime, looked.pages) == (mime, 2 if mime in ("image/tiff", "application/pdf") else 1)


async def test_pages_are_plain_png_pictures(pages_of: Pages) -> None:
    (page,) = await pages_of(encoded(drawn(mode="P"), "GIF"))
    with PIL.Image.open(io.BytesIO(page.path.read_bytes())) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (page.width, page.height))


@pytest.mark.parametrize(
    ("mode", "white"), [("I", 255), ("I", 4095), ("I", 65_535), ("I;16", 4095), ("F", 1), ("F", 255)]
)
async def test_deep_pictures_are_as_bright_as_they_look(pages_of: Pages, mode: str, white: int) -> None:
    deep = PIL.Image.new(mode, drawn().size)
    deep.putdata([value * white / 255 if mode == "F" else value * white // 255 for value in drawn().tobytes()])
    (page,) = await pages_of(encoded(deep, "TIFF"))
    with PIL.Image.open(page.path) as image:
        assert (image.mode, image.getextrema()) == ("L", (0, 255))


async def test_light_ink_on_transparent_paper_is_seen(pages_of: Pages) -> None:
    ink = PIL.Image.new("RGBA", drawn().size, (255, 255, 255, 0))
    ink.paste((255, 255, 255, 255), mask=drawn().point(lambda value: 255 - value))
    (page,) = await pages_of(encoded(ink))
    with PIL.Image.open(page.path) as image:
        assert image.convert("L").getextrema() == (0, 255)


async def test_a_renderer_that_was_killed_is_replaced(renderer: Renderer, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(encoded(drawn()))
    await renderer.look(path)
    for idle in list(renderer._helped.pool._idle):
        os.kill(idle._process.pid, signal.SIGKILL)
        idle._process.wait()
    assert (await renderer.look(path)).pages == 1


async def test_little_memory_is_told_by_its_setting(tmp_path: Path) -> None:
    renderer = Renderer(OcrSettings(memory_mb=512, max_pixels=1_000_000_000))
    path = tmp_path / "file"
    path.write_bytes(encoded(PIL.Image.new("L", (25_000, 25_000))))
    (tmp_path / "pages").mkdir()
    with pytest.raises((BadRequest, ProviderUnavailable), match=r"ocr\.memory_mb"):
        await renderer.render(path, tmp_path / "pages", dpi=100, number=1)
    await renderer.close()


def test_importing_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, paddock_ocr; found = {'PIL', 'numpy', 'rapidocr', 'pypdfium2', 'cv2', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(bool(found))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_plugin_declares_its_settings() -> None:
    assert plugin.paddock_settings() == ("ocr", OcrSettings)
