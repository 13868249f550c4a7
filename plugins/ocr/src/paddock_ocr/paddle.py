"""In the helper: PP-OCR, as RapidOCR runs it on ONNX Runtime."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import PIL.Image
import rapidocr
from rapidocr.ch_ppocr_rec.typings import TextRecOutput

from paddock.contracts.providers import Line, PageText, Word
from paddock_ocr.boxes import Box, Turn, confidence, unturned_line
from paddock_ocr.order import joined, rows
from paddock_ocr.wire import Read

SURE = 0.5  # of a line: what is less is noise
MIN_SIDE = 64
MAX_SIDE = 2000  # pixels that the detector sees


@functools.cache
def engine(threads: int) -> Any:
    """The models, loaded once in the life of the helper; nothing is ever downloaded."""
    options: dict[str, Any] = {
        "Global.log_level": "critical",
        "Global.max_side_len": MAX_SIDE,
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
        pixels = _padded(np.asarray(image.convert("RGB"))[:, :, ::-1])
    ocr = engine(request.threads)
    turn: Turn = 0
    found = _detect(ocr, pixels)
    if found and (side := _sideways(found)):
        turn = side
        found = _detect(ocr, _turned(pixels, turn))
    if found and _upside_down(found):
        turn = _half_more(turn)
        found = _detect(ocr, _turned(pixels, turn))
    if not found:
        return PageText(text="", confidence=0.0, lines=[])
    height, width = pixels.shape[:2]
    ordered = rows(_recognised(ocr, found, request.threads))
    lines = [unturned_line(line, turn, width, height) for row in ordered for line in row]
    return PageText(text=joined(ordered), confidence=confidence(lines), lines=lines, turned=turn)


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


def _detect(ocr: Any, pixels: Any) -> _Detected | None:
    image, record = ocr.preprocess_img(pixels)
    try:
        crops, detected = ocr.detect_and_crop(image, record)
    except rapidocr.main.RapidOCRError:  # no text
        return None
    upright, directions = ocr.cls_and_rotate(crops)
    return _Detected(pixels, record, crops, detected, upright, directions)


def _sideways(found: _Detected) -> Turn | None:
    """90 when most text stands on its side; whether that was the right way is seen after turning."""
    tall = wide = 0.0
    for (left, top), (right, _), (_, bottom), _ in found.detected.boxes:
        width, height = abs(right - left) + 1, abs(bottom - top) + 1
        tall += height if height > 2 * width else 0
        wide += width if width > 2 * height else 0
    return 90 if tall > 2 * wide else None


def _upside_down(found: _Detected) -> bool:
    """The lines vote, by their length and how sure the classifier is."""
    votes = 0.0
    for crop, (label, sure) in zip(found.crops, found.directions.cls_res, strict=True):
        votes += crop.shape[1] * (float(sure) if label == "180" else -float(sure))
    return votes > 0


def _half_more(turn: Turn) -> Turn:
    return 270 if turn == 90 else 180


def _turned(pixels: Any, turn: Turn) -> Any:
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90))


def _recognised(ocr: Any, found: _Detected, threads: int) -> list[Line]:
    read = _read_lines(ocr, found.upright, threads)
    result = ocr.build_final_output(
        found.pixels, found.detected, found.directions, read, list(found.crops), found.record
    )
    lines = []
    words = result.word_results if len(result.word_results) == len(result) else [()] * len(result)
    for box, text, score, parts in zip(result.boxes, result.txts or (), result.scores or (), words, strict=False):
        if text.strip():
            lines.append(
                Line(
                    text=text.strip(), confidence=_share(score), box=_around(box), words=[_word(*one) for one in parts]
                )
            )
    return lines


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
