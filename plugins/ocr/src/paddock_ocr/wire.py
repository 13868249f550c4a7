"""What the server asks a helper process for, and what comes back: plain data, as JSON over pipes."""

from __future__ import annotations

from typing import Literal

import msgspec


class Look(msgspec.Struct, frozen=True, kw_only=True, tag="look"):
    """Find out what the file is."""

    path: str
    max_pixels: int


class Render(msgspec.Struct, frozen=True, kw_only=True, tag="render"):
    """Write the page with that number as PNG into the folder."""

    path: str
    folder: str
    number: int
    dpi: int
    max_pixels: int


class Read(msgspec.Struct, frozen=True, kw_only=True, tag="read"):
    """Read a page that `Render` made. `languages` are the engine's own names. `command` is Tesseract's full path."""

    path: str
    engine: Literal["paddleocr", "tesseract"]
    languages: list[str]
    threads: int
    timeout: float
    dpi: int | None = None
    command: str = ""


Request = Look | Render | Read
