"""OCR on scanned pages with known text: recall and precision of words, through HTTP, upright and upside down.

python tests/benchmarks/ocr.py FOLDER

FOLDER holds pictures (TIFF, PNG, PDF …) and beside each its text: NAME.gold.txt or NAME.txt. A page turned by 180 degrees
beside them, NAME-rotated-180.png, is held against the same text; for pictures without one it is made here. Words are
lower-cased ``\\w+`` as multisets. Engines that are not installed are left out. The goal is for the better engine.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

import common
import PIL.Image

KINDS = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".pdf")
ROTATED = "-rotated-180"
ENGINES = ("paddleocr", "tesseract")


class Page(NamedTuple):
    """A picture and what stands on it."""

    name: str
    data: bytes
    text: str


class Score(NamedTuple):
    """Shares of the words that were found, and of the found words that are right."""

    recall: float
    precision: float


def words(text: str) -> Counter[str]:
    """The words of a text."""
    return Counter(re.findall(r"\w+", text.lower()))


def score(read: str, gold: str) -> Score:
    """How well a page was read."""
    found, wanted = words(read), words(gold)
    common_count = (found & wanted).total()
    return Score(common_count / max(1, wanted.total()), common_count / max(1, found.total()))


def pages(folder: Path) -> Iterator[Page]:
    """Every page with its text, each upright and upside down."""
    for path in sorted(folder.iterdir()):
        texts = [folder / f"{path.stem}{ending}" for ending in (".gold.txt", ".txt")]
        text = next((item.read_text(encoding="utf-8") for item in texts if item.is_file()), None)
        if path.suffix.lower() not in KINDS or text is None:
            continue
        yield Page(path.name, path.read_bytes(), text)
        turned = folder / f"{path.stem}{ROTATED}.png"
        if turned.is_file():
            yield Page(turned.name, turned.read_bytes(), text)
        elif path.suffix.lower() != ".pdf":
            yield Page(f"{path.stem}{ROTATED} (made here)", upside_down(path), text)


def upside_down(path: Path) -> bytes:
    """The picture turned by 180 degrees."""
    out = io.BytesIO()
    with PIL.Image.open(path) as image:
        image.convert("L").rotate(180).save(out, "PNG")
    return out.getvalue()


def main() -> None:
    """Read every page with every engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    found = list(pages(parser.parse_args().folder))
    if not found:
        sys.exit("the folder holds no pictures with their texts: see --help")
    with common.folder() as data, common.server(data) as child:
        for page in found:
            scores = [one for engine in ENGINES if (one := read(child.url, engine, page)) is not None]
            best = max(scores, key=min)
            common.goal(f"{page.name}: recall with the better engine", best.recall, 0.98, least=True)
            common.goal(f"{page.name}: precision with the better engine", best.precision, 0.98, least=True)


def read(url: str, engine: str, page: Page) -> Score | None:
    """Read a page through HTTP and print how it went; None when the engine is not installed."""
    body = {"model": engine, "images": [base64.b64encode(page.data).decode()]}
    start = time.perf_counter()
    try:
        reply = common.ask(url, "POST", "/v1/ocr", body)
    except HTTPError as error:
        if error.code == 503:
            return None
        raise
    seconds = time.perf_counter() - start
    found = score("\n".join(item["text"] for item in reply["data"]), page.text)
    print(f"{page.name} by {engine}: recall {found.recall:.3f}, precision {found.precision:.3f}, {seconds:.2f} s")
    return found


if __name__ == "__main__":
    main()
