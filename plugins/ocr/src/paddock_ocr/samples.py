"""Pictures of text for tests: drawn with the font that Pillow carries."""

from __future__ import annotations

import base64
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

# Three columns of Chinese, the first at the right, as a PNG of one bit a pixel: no font that a computer is sure to have knows
# these characters.
COLUMNS = ("床前明月光疑", "举头望明月低", "春眠不觉晓处")
_COLUMNS = (
    "iVBORw0KGgoAAAANSUhEUgAAAM4AAAEMAQAAAACkM7RiAAAFPklEQVR42u2XX2hbdRTHPze5TVvXLe3oNOxf4jZwG7o/D06RdskGwpgTOpgyZNZOccwH"
    "cUOUPUxy1zkdoqz4pFJonX/ATbGg6FCHKdNaBrq+TERHl+IgdZuY/tlM2pt7fEhvmvMjfbeQ+3TJ955zvr/zO+d7TixhjqcQYM6nClWhKlSFqtC8g9y5"
    "oRzA+TxA18xPUnxyICLL8yJyeefnIiKuD42t2iki3YdFxCGsIMmIiPwyISI9xR9cP9b0t58CTQBkzViWiAtxkZ6ftFXtJa/Eeq0m7279GoKZTAr4TTtM"
    "Q1Jk4BkR6ZphaM98sTLetQkGFwHQqBx68WaQrloHwhfSBsOgiNsRiov0HBd15OxjCRH3+saoSE+9Jh9Y/ykEm9vSwDJNvuHXJ/xjyQ5N3iMs4kFSpHsg"
    "rhySPOe/da9LGwWwFiwv6UA+d0hDxyL+2/hoAgC7ZFXnB98XiWirpJ9Uy//Imm+bQ7qs+kvQ9FmAFHC7gMrG2I5BgSGAOjdoWLnAJEAorx3WHgDYAGCF"
    "65RDd9VsihcvVFZ2+17gNQD5Wxdbtg8RifaIyB/JHl0Az70FHAL4yE0oh8HT24EHAVZ8lTJiAWwCCOw0mug9gLpe4HZKO5QTmx3yVn8CbmzRDr30CQcb"
    "0hC9qKt34ot/RMRLisj3L15V5O0DOf8Y/QPaoXsaYOogwHbjvtoB8i4QPacZFpaKA+NLgNgu7TBYs8uBD20H0inD4ZEQyDuBFORbHd2Vj6SADisBMWLz"
    "s+YrQd7wMBA7lgD6tehNrF4NOAAP12urmrY9kN8fBb4LpVRh3/FZAOzgCNBSadwEji6Zc9ywvhI0DsA2gDF9ywwngKn1ALYBXWwDBpcAPyzQV0koAfzc"
    "WlL5ssI+0wzWYRJwL1oB2NIItAdiZRT9EZDP+UOqJRVWhZ2fAgK/P58CAprheCjkYK1ZDLDCUQ5lwhPxXrVFhFOXdJuHLOBogwOLG41ETQGW94ID95k5"
    "DJU4OwZ5mSiO9KiIbNUDkRBQs+7u+wFn/3yr+bl3G/GuAVgJGLGMsnFs8NauAcCAGAW5sgyoFS0pheGWstVFlc2tT+akETzvzkm+qHT9QN4yoMfbKG1L"
    "Glpw9gLQuAGoFQ1ZyZR/oDozGy5A32wTlll5sbKza6tc2mfYZDIMRADqZ6asciijAC8DYdGJkvEYEG6tcC7r6TCwI8HMBC6PNYADX6ok+svSyiMinpeM"
    "i0Qlrhezo4iIm4uLxLNJ1V/W8XuAAAn/+uerzqcNqOAAxyx/wSnX+c7dxV1uFitNh282A9FpYAitorWj7Vq7Z6Gbi5b60HLRTdTcdMaHGj1j3+AmMGID"
    "WDqWXVjoWzUEtNVfkweBqAvUP9uoKqppYh8UZ7XJMLR8mZ8iN5PVNK6vA3orpXfy3ysObLMrFNtEyyURARHJZ/SqbxcA4m4Fh3l7qFy7y6Gxlo1QTF4W"
    "zfDOIyURv4Ze9d1xoJjXQVPnX0+JuNIvItGsofN7x/3rn4+7jS8yfl3PKkC8R0RODSVFWi8/pY+cAKjf7MGfN/oqxfoYyMQbK0DvJ4AHJmO6UzpnP3jF"
    "GBxvA8V8bj9pkO8oGdWHzHYYBY+HErCl86ReRZxFgFxdCek9GxU0Zd8FBSsTgZEnp3WsrO0QoAHoNP7e3koFnaILeWlUnyviCz9Wtq7PoFEi/27NB9nK"
    "9yV0ZCtteqFerIw5U7pLZldyRqIe7QAYisGPhtXUyRjA8TQ0v2n0V2jEAYn0Iqd3aXEIWekoBN7YjbUtOJ91vgpVoSpUhf4v0H/bLdL3j+cQTwAAAABJ"
    "RU5ErkJggg=="
)


def columns() -> PIL.Image.Image:
    """The picture of `COLUMNS`."""
    return PIL.Image.open(io.BytesIO(base64.b64decode(_COLUMNS)))


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
