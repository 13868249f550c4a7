"""In the helper: PP-OCR, as RapidOCR runs it on ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime
import PIL.Image
import PIL.ImageChops
import rapidocr
from rapidocr.ch_ppocr_rec.typings import TextRecOutput

from paddock.contracts.providers import Line, PageText, Word
from paddock_ocr.boxes import Box, Quad, Turn, confidence, level, shifted_line, unturned_line
from paddock_ocr.order import Row, arranged, from_right, joined
from paddock_ocr.vertical import are_columns
from paddock_ocr.wire import Read

SURE = 0.5  # of a line: what is less is noise
FAINT = 12  # levels between paper and what may be ink
MARGIN = 32  # pixels
MIN_SIDE = 64
MAX_SIDE = 2000  # pixels that the detector sees
SMALL = (736, 1280)  # shorter and longer side up to which a small picture is enlarged for it


@functools.cache
def engine(threads: int) -> Any:
    """The models, loaded once in the life of the helper; nothing is ever downloaded."""
    options: dict[str, Any] = {
        "Global.log_level": "critical",
        "Global.max_side_len": 10**6,  # lines are cut out of the page as it is: only the detector needs it smaller
        "Global.text_score": SURE,
        "Global.return_word_box": True,
        "Rec.rec_batch_num": 1,  # a batch is padded to its longest line: slower, and more memory
    }
    ocr = rapidocr.RapidOCR(params=options)
    ocr.cfg._set_flag("allow_objects", True)  # noqa: SLF001  its way to take sessions of one's own
    ocr.cfg.Det.session = _session("PP-OCRv6_det_small.onnx", threads)
    ocr.cfg.Cls.session = _session("ch_ppocr_mobile_v2.0_cls_mobile.onnx", threads)
    ocr.cfg.Rec.session = _session("PP-OCRv6_rec_small.onnx", 1)  # lines are read side by side
    return ocr


def _session(model: str, threads: int) -> onnxruntime.InferenceSession:
    """A model of the wheel. Its threads sleep while they wait: spinning costs more than it gains on a busy machine."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # every line has a size of its own
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = Path(rapidocr.__file__).parent / "models" / model
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@functools.cache
def _readers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="line")


def read(request: Read) -> PageText:
    """Read one page."""
    with PIL.Image.open(request.path) as image:
        page = image.convert("RGB")
    ink = _ink(page)
    if ink is None:
        return PageText(text="", confidence=0.0, lines=[])
    found = _read(_padded(np.asarray(page.crop(ink))[:, :, ::-1]), request.threads)
    return msgspec.structs.replace(found, lines=[shifted_line(line, *ink[:2], page.size) for line in found.lines])


def _ink(page: PIL.Image.Image) -> tuple[int, int, int, int] | None:
    """Where anything stands on a page, with a narrow margin; None on a blank one. The detector overlooks a few words on a large
    empty page, and what is far larger than it can take would be made too small to read."""
    few = page.resize((-(-page.width // 8), -(-page.height // 8)), PIL.Image.Resampling.NEAREST)
    paper = tuple(int(level) for level in np.median(np.asarray(few), axis=(0, 1)))
    apart = PIL.ImageChops.difference(page, PIL.Image.new("RGB", page.size, paper))
    box = apart.point([255 * (level > FAINT) for level in range(256)] * 3).getbbox()
    if box is None:
        return None
    left, top, right, bottom = box
    return (
        max(0, left - MARGIN),
        max(0, top - MARGIN),
        min(page.width, right + MARGIN),
        min(page.height, bottom + MARGIN),
    )


def _read(pixels: Any, threads: int) -> PageText:
    ocr = engine(threads)
    found = _detect(ocr, pixels)
    if found and _sideways(found) and _in_columns(ocr, found):
        return _page_text(from_right(_recognised(ocr, found, found.as_columns(), threads)[0]))
    turn = _turn(found) if found else 0
    if turn:
        found = _detect(ocr, _turned(pixels, turn))
    if not found:
        return PageText(text="", confidence=0.0, lines=[])
    height, width = pixels.shape[:2]
    given, quads = _recognised(ocr, found, found.upright, threads)
    page = _page_text(arranged(given, level(quads)))
    lines = [unturned_line(line, turn, width, height) for line in page.lines]
    return msgspec.structs.replace(page, lines=lines, turned=turn)


def _page_text(ordered: Sequence[Row]) -> PageText:
    lines = [line for row in ordered for line in row]
    return PageText(text=joined(ordered), confidence=confidence(lines), lines=lines)


def _padded(pixels: Any) -> Any:
    """A strip that is thinner than the detector can take gets white beside it."""
    height, width = pixels.shape[:2]
    least = max(MIN_SIDE, max(height, width) // 40)
    missing = (max(0, least - height), max(0, least - width))
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), constant_values=255)


class _Detected(NamedTuple):
    """Where text stands on a page, and the directions of its lines."""

    pixels: Any
    record: Any
    crops: Any
    detected: Any
    upright: Any
    directions: Any

    def lying(self) -> list[bool]:
        """Which of the boxes are tall: they are cut out turned by 270 degrees."""
        return [
            abs(bottom - top) >= 1.5 * abs(right - left)
            for (left, top), (right, _), (_, bottom), _ in self.detected.boxes
        ]

    def as_columns(self) -> list[Any]:
        """What to read when tall boxes are columns: those as they were cut out, the others upright."""
        both = zip(self.crops, self.upright, self.lying(), strict=True)
        return [crop if lies else upright for crop, upright, lies in both]


def _detect(ocr: Any, pixels: Any) -> _Detected | None:
    image, record = ocr.preprocess_img(pixels)
    detector = ocr._load_det_model()  # noqa: SLF001  no other way to choose its scale for a page
    detector.limit_type, detector.limit_side_len = _limit(*image.shape[:2])
    try:
        crops, detected = ocr.detect_and_crop(image, record)
    except rapidocr.main.RapidOCRError:  # no text
        return None
    upright, directions = ocr.cls_and_rotate(crops)
    return _Detected(pixels, record, crops, detected, upright, directions)


def _turn(found: _Detected) -> Turn:
    """By how much the page must be turned clockwise. What stands on its side was cut out turned by 270 degrees."""
    if _sideways(found):
        return 90 if _upside_down(found) else 270
    return 180 if _upside_down(found) else 0


def _limit(height: int, width: int) -> tuple[str, int]:
    """How the detector is told to scale a page: the longer side made smaller, or the shorter one larger."""
    shorter, longer = min(height, width), max(height, width)
    if longer > MAX_SIDE:
        return "max", MAX_SIDE
    return "min", int(shorter * max(1.0, min(SMALL[0] / shorter, SMALL[1] / longer)))


def _sideways(found: _Detected) -> bool:
    """Whether most text stands in tall boxes."""
    tall = wide = 0.0
    for (left, top), (right, _), (_, bottom), _ in found.detected.boxes:
        width, height = abs(right - left) + 1, abs(bottom - top) + 1
        tall += height if height > 2 * width else 0
        wide += width if width > 2 * height else 0
    return tall > 2 * wide


def _in_columns(ocr: Any, found: _Detected) -> bool:
    tall = [crop for crop, lies in zip(found.crops, found.lying(), strict=True) if lies]
    return are_columns(tall, lambda crop: str(ocr.recognize_txt([crop]).txts[0]))


def _upside_down(found: _Detected) -> bool:
    """The lines vote, by their length and how sure the classifier is."""
    votes = 0.0
    for crop, (label, sure) in zip(found.crops, found.directions.cls_res, strict=True):
        votes += crop.shape[1] * (float(sure) if label == "180" else -float(sure))
    return votes > 0


def _turned(pixels: Any, turn: Turn) -> Any:
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90))


def _recognised(ocr: Any, found: _Detected, crops: Sequence[Any], threads: int) -> tuple[list[Line], list[Quad]]:
    """The lines that were read, and their corners."""
    read = _read_lines(ocr, crops, threads)
    result = ocr.build_final_output(
        found.pixels, found.detected, found.directions, read, list(found.crops), found.record
    )
    if result.boxes is None:  # nothing of what looked like lines is legible
        return [], []
    lines: list[Line] = []
    quads: list[Quad] = []
    words = result.word_results if len(result.word_results) == len(result) else [()] * len(result)
    for corners, text, score, parts in zip(result.boxes, result.txts or (), result.scores or (), words, strict=False):
        if text.strip():
            own = [_word(*one) for one in parts]
            lines.append(Line(text=text.strip(), confidence=_share(score), box=_around(corners), words=own))
            quads.append(tuple((float(x), float(y)) for x, y in corners))  # type: ignore[arg-type]  # four of them
    return lines, quads


def _read_lines(ocr: Any, crops: Sequence[Any], threads: int) -> Any:
    """What stands in each crop. The widest are begun first, so that no thread is left with a long line at the end."""
    order = sorted(range(len(crops)), key=lambda at: -crops[at].shape[1] / crops[at].shape[0])
    done = _readers(threads).map(lambda at: ocr.recognize_txt([crops[at]]), order)
    by_place = [read for _, read in sorted(zip(order, done, strict=True), key=lambda pair: pair[0])]
    return TextRecOutput(
        list(crops),
        tuple(read.txts[0] for read in by_place),
        [read.scores[0] for read in by_place],
        tuple(read.word_results[0] for read in by_place),
    )


def _word(text: str, score: float, corners: Any) -> Word:
    return Word(text=text, confidence=_share(score), box=_around(corners))


def _share(score: float) -> float:
    return round(min(1.0, max(0.0, float(score))), 4)


def _around(corners: Any) -> Box:
    points = np.asarray(corners, dtype=float)
    left, top = points.min(axis=0)
    right, bottom = points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)
