"""Pictures of text for tests: drawn with the font that Pillow carries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

LETTER = (
    "The harbour museum opens at nine",
    "on weekdays and at ten on Sundays.",
    "Tickets cost four euros; children",
    "and members of the guild go free.",
)


def drawn(lines: Sequence[str] = LETTER, *, size: int = 28, mode: str = "L", width: int = 640) -> PIL.Image.Image:
    """Black lines on a white page."""
    page = PIL.Image.new("L", (width, 80 + int(size * 1.5) * len(lines)), 255)
    write(page, lines, (40, 40), size)
    return page.convert(mode)


def write(page: PIL.Image.Image, lines: Sequence[str], at: tuple[int, int], size: int = 28) -> None:
    """Draw lines into a page."""
    pen, font = PIL.ImageDraw.Draw(page), PIL.ImageFont.load_default(size)
    for number, line in enumerate(lines):
        pen.text((at[0], at[1] + int(size * 1.5) * number), line, fill=0, font=font)


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def many(pages: Sequence[PIL.Image.Image], kind: str = "TIFF", **options: Any) -> bytes:
    """A TIFF or PDF of several pages; a PDF made like this is a scan, without any text in it."""
    return encoded(pages[0], kind, save_all=True, append_images=list(pages[1:]), **options)


def png_header(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG whose header promises a size, whatever its body is."""
    import struct  # noqa: PLC0415  only bombs need it
    import zlib  # noqa: PLC0415  as above

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
