"""Both engines: text, order, rotation, languages, and helpers that end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageFilter
import pytest
from paddock_ocr.engines import PaddleEngine, TesseractEngine
from paddock_ocr.languages import PADDLE, by_code
from paddock_ocr.samples import COLUMNS, LETTER, columns, drawn, encoded, many, write
from paddock_ocr.settings import OcrSettings

from paddock.contracts.providers import OcrEngine, PageImage
from paddock.errors import BadRequest, ProviderUnavailable
from paddock.testing.ocr import OcrEngineSuite, sample_page

Pages = Callable[..., Awaitable[list[PageImage]]]


class TestPaddle(OcrEngineSuite):
    """PP-OCR."""

    @pytest.fixture
    def engine(self, paddle: PaddleEngine) -> OcrEngine:
        return paddle

    async def test_health_is_told_and_close_may_be_called_twice(self, engine: OcrEngine) -> None:
        await super().test_health_is_told_and_close_may_be_called_twice(PaddleEngine(OcrSettings()))


class TestTesseract(OcrEngineSuite):
    """Tesseract."""

    @pytest.fixture
    def engine(self, tesseract: TesseractEngine) -> OcrEngine:
        return tesseract

    async def test_health_is_told_and_close_may_be_called_twice(self, engine: OcrEngine) -> None:
        await super().test_health_is_told_and_close_may_be_called_twice(TesseractEngine(OcrSettings()))


@pytest.fixture(params=["paddle", "tesseract"])
def engine(request: pytest.FixtureRequest) -> Any:
    """Each engine."""
    return request.getfixturevalue(request.param)


async def text_of(engine: OcrEngine, pages: list[PageImage]) -> str:
    (found,) = await engine.read(pages, [(await engine.languages())["en"]])
    return " ".join(found.text.split())


@pytest.mark.parametrize("turn", [90, 180, 270])
async def test_a_turned_page_is_read_in_order_and_its_boxes_stay_where_they_are(
    engine: OcrEngine, pages_of: Pages, turn: int
) -> None:
    upright = drawn([*LETTER, *LETTER], width=700)
    turned = upright.rotate(-turn, expand=True)  # clockwise, so that it has to be turned on by the rest
    (found,) = await engine.read(await pages_of(encoded(turned)), [(await engine.languages())["en"]])
    assert " ".join(found.text.split()) == " ".join([*LETTER, *LETTER])
    assert found.turned == 360 - turn
    left, top, right, bottom = found.lines[0].box
    assert 0 <= left < right <= turned.width
    assert 0 <= top < bottom <= turned.height
    first = {90: left > turned.width / 2, 180: top > turned.height / 2, 270: right < turned.width / 2}
    assert first[turn]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
async def test_pictures_of_every_mode_are_read(paddle: PaddleEngine, pages_of: Pages, mode: str) -> None:
    if mode == "I;16":
        grey = drawn()
        image = PIL.Image.new("I;16", grey.size)
        image.putdata([value * 257 for value in grey.tobytes()])
    else:
        image = drawn(mode=mode)
    assert await text_of(paddle, await pages_of(encoded(image))) == " ".join(LETTER)


async def test_transparent_paper_is_white(paddle: PaddleEngine, pages_of: Pages) -> None:
    page = drawn()
    image = PIL.Image.new("RGBA", page.size, (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), mask=page.point(lambda value: 255 - value))
    assert await text_of(paddle, await pages_of(encoded(image))) == " ".join(LETTER)


async def test_the_cameras_note_of_the_right_way_up_is_followed(paddle: PaddleEngine, pages_of: Pages) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    page = drawn()
    data = encoded(page.rotate(90, expand=True).convert("RGB"), "JPEG", exif=exif, quality=95)
    pages = await pages_of(data)
    assert (pages[0].width, pages[0].height) == page.size
    (found,) = await paddle.read(pages, ["en"])
    assert (" ".join(found.text.split()), found.turned) == (" ".join(LETTER), 0)


async def test_every_page_of_a_tiff_and_of_a_scanned_pdf_is_read(paddle: PaddleEngine, pages_of: Pages) -> None:
    leaves = [drawn([line]) for line in LETTER[:2]]
    for data in (many(leaves), many([leaf.convert("1") for leaf in leaves]), many(leaves, "PDF", resolution=100)):
        found = await paddle.read(await pages_of(data), ["en"])
        assert [page.text for page in found] == list(LETTER[:2])


async def test_columns_are_read_one_after_the_other_and_a_heading_first(paddle: PaddleEngine, pages_of: Pages) -> None:
    page = PIL.Image.new("L", (1300, 420), 255)
    write(page, ["Notes of the harbour museum and of its many friends in town"], (60, 30), 34)
    write(page, LETTER, (60, 150))
    herons = [
        "Herons stand in the shallow",
        "water of the pond and wait",
        "for frogs. They fly away",
        "when a dog comes near.",
    ]
    write(page, herons, (720, 150))
    text = await text_of(paddle, await pages_of(encoded(page)))
    assert text.index("Notes") < text.index("museum opens") < text.index("go free") < text.index("Herons stand")


@pytest.mark.parametrize("slant", [-15, -8, 8, 15])
async def test_lines_of_a_page_that_lies_aslant_stay_in_order(
    paddle: PaddleEngine, pages_of: Pages, slant: int
) -> None:
    page = drawn().rotate(slant, expand=True, fillcolor=255, resample=PIL.Image.Resampling.BICUBIC)
    (found,) = await paddle.read(await pages_of(encoded(page)), ["en"])
    assert (" ".join(found.text.split()), found.turned) == (" ".join(LETTER), 0)


async def test_stains_that_look_like_lines_are_no_text(paddle: PaddleEngine, pages_of: Pages) -> None:
    stains = drawn().filter(PIL.ImageFilter.GaussianBlur(8))
    (found,) = await paddle.read(await pages_of(encoded(stains)), ["en"])
    assert (found.text, found.lines) == ("", [])


async def test_faint_ink_is_seen(paddle: PaddleEngine, pages_of: Pages) -> None:
    assert await text_of(
        paddle, await pages_of(encoded(drawn().point(lambda value: 210 + value * 20 // 255)))
    ) == " ".join(LETTER)


async def test_columns_of_chinese_are_no_turned_page_and_go_from_the_right(
    paddle: PaddleEngine, pages_of: Pages
) -> None:
    (found,) = await paddle.read(await pages_of(encoded(columns())), ["ch"])
    assert (found.text.split("\n"), found.turned) == (list(COLUMNS), 0)
    lefts = [line.box[0] for line in found.lines]
    assert lefts == sorted(lefts, reverse=True)
    assert all(line.box[3] - line.box[1] > 2 * (line.box[2] - line.box[0]) for line in found.lines)


async def test_a_turned_page_of_chinese_columns_is_turned(paddle: PaddleEngine, pages_of: Pages) -> None:
    (found,) = await paddle.read(await pages_of(encoded(columns().rotate(180))), ["ch"])
    assert (found.text.split("\n"), found.turned != 0) == (list(COLUMNS), True)


async def test_a_few_words_on_a_large_page_are_found_where_they_stand(paddle: PaddleEngine, pages_of: Pages) -> None:
    page = PIL.Image.new("L", (4400, 4400), 255)
    write(page, ["some text"], (3000, 2500), 30)
    (found,) = await paddle.read(await pages_of(encoded(page)), ["en"])
    assert found.text == "some text"
    left, top, right, bottom = found.lines[0].box
    assert 2980 < left < 3020 < right < 3200
    assert 2480 < top < 2520 < bottom < 2560
    assert found.lines[0].words[0].box[0] >= left - 2


async def test_a_page_without_text_gives_no_text(engine: OcrEngine, pages_of: Pages) -> None:
    (found,) = await engine.read(
        await pages_of(encoded(PIL.Image.new("L", (300, 200), 255))), [(await engine.languages())["en"]]
    )
    assert (found.text, found.confidence, found.lines) == ("", 0.0, [])


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (2, 3000), (40, 40)])
async def test_odd_sizes_are_no_fault(engine: OcrEngine, pages_of: Pages, size: tuple[int, int]) -> None:
    pages = await pages_of(encoded(PIL.Image.new("L", size, 200)))
    try:
        (found,) = await engine.read(pages, [(await engine.languages())["en"]])
    except BadRequest:
        return  # Tesseract refuses what is too small for it
    assert found.text == ""


def test_the_languages_of_pp_ocr_are_those_of_its_model() -> None:
    code = "from rapidocr import RapidOCR; print(*RapidOCR.list_supported_langs('rec', 'PP-OCRv6', 'small'))"  # in a process: cv2
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(PADDLE.values()) == set(done.stdout.split()) - {"french", "german"}


def test_languages_of_tesseract_go_by_their_codes() -> None:
    assert by_code(["eng", "deu", "chi_sim", "osd", "frk"]) == {"en": "eng", "de": "deu", "zh": "chi_sim", "frk": "frk"}


async def test_a_missing_tesseract_is_unavailable_and_says_what_to_install() -> None:
    engine = TesseractEngine(OcrSettings(tesseract="no-such-tesseract"))
    with pytest.raises(ProviderUnavailable, match="apt-get install tesseract-ocr"):
        await engine.languages()
    assert (await engine.health()).status == "unhealthy"
    await engine.close()


def test_a_missing_pp_ocr_is_unavailable_and_says_what_to_install() -> None:
    code = """
import asyncio, sys
sys.modules["rapidocr"] = None
from paddock_ocr.engines import PaddleEngine
from paddock_ocr.settings import OcrSettings
print(asyncio.run(PaddleEngine(OcrSettings()).health()).message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "PP-OCR is not installed: pip install rapidocr"


async def test_a_cancelled_reader_ends_its_helper(tmp_path: Path) -> None:
    page, paddle = sample_page(tmp_path), PaddleEngine(OcrSettings(threads=1))
    pool = paddle._helped.pool
    reading = asyncio.ensure_future(paddle.read([page], ["en"]))
    async with asyncio.timeout(30):
        while not pool._busy:  # noqa: ASYNC110  a thread takes it: there is no event
            await asyncio.sleep(0)
    (helper,) = pool._busy
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await asyncio.to_thread(helper._process.wait, 30) < 0
    assert pool.count == 0
    assert len(await paddle.read([page], ["en"])) == 1
    await paddle.close()


async def test_no_more_helpers_than_workers_read_at_once(tmp_path: Path) -> None:
    engine = PaddleEngine(OcrSettings(workers=1, threads=1))
    page = sample_page(tmp_path)
    found = await asyncio.gather(*(engine.read([page], ["en"]) for _ in range(3)))
    assert [len(one) for one in found] == [1, 1, 1]
    assert engine._helped.pool.count == 1
    await engine.close()


async def test_a_page_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    engine = PaddleEngine(OcrSettings(timeout_seconds=0.1, threads=1))
    big = tmp_path / "big.png"
    big.write_bytes(encoded(drawn(list(LETTER) * 12, width=1600)))
    page = PageImage(number=1, path=big, width=1600, height=2000)
    with pytest.raises(BadRequest, match=r"ocr\.timeout_seconds"):
        await engine.read([page], ["en"])
    await engine.close()
