"""In the helper: the system's Tesseract, as a child process with an argument list and a timeout."""

from __future__ import annotations

import csv
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL.Image

from paddock.builtin.helper import Refused
from paddock.contracts.providers import Line, PageText, Word
from paddock_ocr.boxes import Box, Turn, confidence, unturned_line
from paddock_ocr.wire import Read

SURE = 1.0  # of the direction of a page, on Tesseract's own scale
_TURNS: dict[str, Turn] = {"90": 90, "180": 180, "270": 270}
_Cell = dict[str, str]


def read(request: Read) -> PageText:
    """Read one page, turned upright first."""
    with PIL.Image.open(request.path) as image, TemporaryDirectory(prefix="paddock-ocr-") as folder:
        width, height = image.size
        turn = _turn(request, Path(request.path))
        page = Path(request.path)
        if turn:
            page = Path(folder) / "page.png"
            image.rotate(-turn, expand=True).save(page, "PNG", compress_level=1)
        table = _run(request, page, "-l", "+".join(request.languages), "--psm", "3", "tsv")
    paragraphs = _paragraphs(table)
    lines = [unturned_line(line, turn, width, height) for paragraph in paragraphs for line in paragraph]
    text = "\n\n".join("\n".join(line.text for line in paragraph) for paragraph in paragraphs)
    return PageText(text=text, confidence=confidence(lines), lines=lines, turned=turn)


def _run(request: Read, page: Path, *arguments: str) -> str:
    """Run Tesseract on a page; what it prints. Raises Refused when it fails or takes too long."""
    before = ["--dpi", str(request.dpi)] if request.dpi else []
    command = [request.command, str(page), "stdout", *before, *arguments]
    # More threads gain next to nothing, and wait for each other so busily that a page takes ten times as long beside other work.
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603  an argument list without any text of callers
            command,
            capture_output=True,
            check=False,
            timeout=request.timeout,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused("took longer than ocr.timeout_seconds to read") from error
    except OSError as error:
        raise Refused(f"can't be read: {request.command} does not start ({error.strerror})") from error
    if done.returncode:
        raise Refused(f"can't be read by Tesseract ({done.stderr.decode('utf-8', 'replace').strip()[-200:]})")
    return done.stdout.decode("utf-8", "replace")


def _turn(request: Read, page: Path) -> Turn:
    """By how much the page must be turned clockwise; 0 when Tesseract can't tell (few letters, no data for it)."""
    try:
        text = _run(request, page, "--psm", "0", "-l", "osd")
    except Refused:
        return 0
    rotate, sure = re.search(r"Rotate: (\d+)", text), re.search(r"Orientation confidence: ([\d.]+)", text)
    if not rotate or not sure or float(sure[1]) < SURE:
        return 0
    return _TURNS.get(rotate[1], 0)


def _paragraphs(table: str) -> list[list[Line]]:
    """Tesseract's table of words as lines, by paragraphs, in its reading order."""
    words = [cell for cell in _cells(table) if cell["level"] == "5" and cell["text"].strip()]
    by_paragraph = groupby(words, key=lambda cell: (cell["block_num"], cell["par_num"]))
    return [
        [_line(list(line)) for _, line in groupby(paragraph, key=lambda cell: cell["line_num"])]
        for _, paragraph in by_paragraph
    ]


def _cells(table: str) -> Iterator[_Cell]:
    yield from csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE, restval="")


def _line(cells: Sequence[_Cell]) -> Line:
    words = [_word(cell) for cell in cells]
    text = " ".join(word.text for word in words)
    lefts, tops, rights, bottoms = zip(*(word.box for word in words), strict=True)
    sure = sum(word.confidence * len(word.text) for word in words) / sum(len(word.text) for word in words)
    return Line(
        text=text, confidence=round(sure, 4), box=(min(lefts), min(tops), max(rights), max(bottoms)), words=words
    )


def _word(cell: _Cell) -> Word:
    left, top = float(cell["left"]), float(cell["top"])
    box: Box = (left, top, left + float(cell["width"]), top + float(cell["height"]))
    return Word(text=cell["text"].strip(), confidence=round(min(1.0, max(0.0, float(cell["conf"]) / 100)), 4), box=box)
