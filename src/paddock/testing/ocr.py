"""The conformance suite of OCR engines, and an engine that needs no library. Needs the packages pytest and pytest-asyncio.

::

    class TestMine(OcrEngineSuite):
        @pytest.fixture
        def engine(self):
            return Mine()
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from paddock.contracts.providers import Health, Line, OcrEngine, PageImage, PageText, TypeName

__all__ = ["LINES", "OcrEngineSuite", "WrittenEngine", "sample_page"]

LINES = (
    "The harbour museum opens at nine",
    "on weekdays and at ten on Sundays.",
    "Tickets cost four euros; children",
    "and members of the guild go free.",
)
WIDTH, HEIGHT = 520, 224
# A page with these lines: a PNG of one bit a pixel.
_PAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAggAAADgAQAAAABOD6MIAAAIY0lEQVR42u2ZX2wc1RWHv5kdbyZhQ68iq3EiSmZRVUUVqoyakkAJvnaK8EOl5KEgVULt"
    "ElXCDy0xgraImvg6NTREBVnAQ0j/ZNsg1CfUoiC5qA03xjQhqq1VVCk0tMrYuGGNEBonRhkvM3P7sBtjsmM7BqRSae7LzuzM/XTOmXPP/O4Zy/Aph01G"
    "yAgZISNkhIyQETJCRsgIGeHzQ9CA/6kIPhAARi07RacRBq7WGdNsan3q5q9erc3NJjoA3H1mBY6X0uMwIyeZ8ybioeMM1uKL8o1bOlSHmInNI67LSDyC"
    "GPNGmKiV3xGH72V/CuGCf0TNBVNqyO1/EhJZO+uTbDstMd+8jTvVzrj1g+AEU8qrPcwf+g+kENb2HtL54bO6dObYDxWWavmxIv71mA8v/tHcrO/vG7eH"
    "j6qzf5PWPXzx2H1pGSWL4Fng+fsA6A5ACAWrEzrhuOt4NhbYgiKDaQQjgRJK9lk6snGRxhTKJBZuokoDNVwmVAkckHFaJAXP4DINWKb+gLTlyFPKhhCl"
    "iA+G9DANEWjz7dR18b4PhwCshlvYlUsB4KIU7HG5lUN1GxhWaYR+H75UP4wArY11tCNICEOAnIGtqnHdWpj7zkfZroVfBv1dY5wPQZoHaMf/PS6o37xN"
    "AnnKl4NmpdjQqRWeAQbpjAB0R42S3guhjWfyEb7EAAEml6TGobFoznl7TQggjwGqD1xe5ZgM8eqLSmARpRK6JOyGG7qeHWwF9PHXc6J4wwHC0Dolv/Xz"
    "ddDF7rof9uo0gu5S+DvAHnjQbgWkfMwuFDvX4Lr8WbXYBehUO+r+W2sWEKyr6j/EuazaLzesrJOTETLC/wWhAnL+ZDZtRmWFNkQLZJP7ibxICObL7cZP"
    "G4fozSUIc/I5OTVVnTSCyiBu+aTL4KwbSwbfUVsm4hHm5HPSMtXZMW+GkeqFkSbCdOVdX8CRvVuoPBlfx6rrzFPxdbO7eArlTMmdTFfe9cnDB8FpeWdk"
    "n2ginB9u6cXn0F9fNIfvZ7w9Gec+xi+WzH0bOPmWf6M6P9zSayywh8fUliGONukH13Ml+XNFXG4ncqm4OJbrNMSB6sL1XOlIcDxhbGbtJhsqBUGCK2vU"
    "1MAq4HFL2VSFpYAyikoksE8SuJQ7NUw02RAEAa7ghX8ftID9bXaZ5xOA54FTShGIAOsVRAhM5ulpskEIAaO85e0JIS7zu6rpsQHTA1wKFAIBW+tJtZnq"
    "ren5YCr9rxmDit6EszwEIclDQEcwr5gC8M3NsDXFC8gBOnGUsijQlihCtyHl/foNs0SAh8x9pL7mCdJB41n68WiN7ic02yHCbQuIgJJOkA46jwN+SSdU"
    "upoIoY9kX9kQWpPHDG59IxE1bFA2oY80UeTjBWgbqlcSNnaDDV071vHA64hkn2vvh7Xt9n6jZote/QZn9dpdcJMepdwVXUlY315XhPsKyAP5zVh5q0Do"
    "SqvVwfN0/QZ7jVuConUAdgwt3DmljMgsPToWnqSu7niZ7Zr8bOtkqhevLe1EYJb1wllGOWU6KiNkhP8VYfTKP4JlCWph+U0RPCGHVbwEYcDWdclzWTz9"
    "Y6VeNPpRZl48rTgOd39Hr7QN1RQH6VKdnN3uIebkyDvqBzNKHu5GVKpPz8mRKm4sykZclGLMW6wkmo1UX37vtvVx63TlxCb1y9Nlj5NxK1yYrpy4wWyM"
    "HibZkmyfmu1dzIbkDLsO/f1n26Lx88NHn+PZsV5oj8bxC+eHjw4lZ3L3EA1bfeO5bYsRIodNRfAs1/VsQEjAcvFwPbuAg2AOLNfxFiNYdiwlSVvN0YUJ"
    "BaoNJWuA0IUJFduA7di1FGVsf/QSUC/4qxS2CHoAz0cRHwRE0ANWPV7xwXCJrI54y3PKgLgVwAPYg3/5vD72LG6DAdWvcz0J8ypJkTN4wFZlGnmWM4vn"
    "g4Wt0ZRsgiAP+L6vIAl9giCPBQE2kDS3g+dtiFt8rWbJ16QjAeV6inzkgnQkuRhBEpGPWPRZOH08YAAThj4hBPocEIaa0Af6gFVAuLgX9hNs65J3eM66"
    "jd1dqxRfH9qtyK3bUGZjd1fVfgIYvZHcuiXisAavc5/TZreub+8chK+VdijsVlFmfXunsvIETFaxC81xuKq3f6U96wVlhIyQET5vBCObStrMkoT5rxrl"
    "xm9NzuuvR6ldBaG5+Kh5AXdZ4eRXGofws4ukXpYw038v+3njFjl68QtiRk7WNgkGL8lDc94McWulKo3HZHmEf/7nUW8iVUdd0Keuf3pP7ezaO6o/ydn+"
    "kdnrrzFP/kiNzgWnH/1TL1DbzJFfTf90R9R3zdT3dUqtruzkepnr1ut/+43efLl758bj725Q8eNVn5NDo7zXdtfLXOsZz/pDJIK/KD8tDqqIgu6gi3WR"
    "GxZBsA/AE8oBuABe0gkE4sqPpHVCOzK2cbld2QixSVqmEFm6nhxVgY/jGqlUCceZT5ePEz5Qdd/0VyCAZ3CkZQCXU+qyIqp3Vj783qlUG8YajVH5L42A"
    "93270tifX1q4LVCQvHQpSCNcqzCA1kYHAfT71tHG9Y4gBJ8INApYFXWkEir1loCUKCEC0LQbU29F+S5h44uiUle0XRfqalXKJcDISxAwoV/ZZjtIwCvp"
    "7sANicIWfe5tDwphSZdSbAiw6AMtExDhSYMLexvsiFBzLdY5Xq3f+kiaFzeBfQDk8UEVBKuHumRO2M8qalD01rZvKPOLNnYPjEho+XJxU5oXRTVhtQLy"
    "MQSU7W12wXoQwC9KVwp91+gu7jg7sr2K0+aNrlSBBE4BwAx4pavvBX1snHi70cbalH7dWbY2eE0HK60wqxszOz9xjXIb+6JOnWm5jJARMkJGyAgZISNk"
    "hIyQETLCUuO/j2r+AuavQgMAAAAASUVORK5CYII="
)


def sample_page(folder: Path, number: int = 1) -> PageImage:
    """A page that holds `LINES`."""
    path = folder / f"{number}.png"
    path.write_bytes(base64.b64decode(_PAGE))
    return PageImage(number=number, path=path, width=WIDTH, height=HEIGHT)


class WrittenEngine(OcrEngine):
    """Reads from every page what it was told. `waiting` holds it up until it is set; `cancelled` counts calls that were ended."""

    types = (TypeName("written"),)

    def __init__(self, text: str = "some words", languages: Sequence[str] = ("en",)) -> None:
        self.text = text
        self.known = dict(zip(languages, languages, strict=True))
        self.waiting: asyncio.Event | None = None
        self.began = asyncio.Event()
        self.cancelled = 0

    async def languages(self) -> dict[str, str]:
        return dict(self.known)

    async def read(self, pages: Sequence[PageImage], languages: Sequence[str]) -> list[PageText]:  # noqa: ARG002  the contract's
        self.began.set()
        try:
            if self.waiting is not None:
                await self.waiting.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return [self._page(page) for page in pages]

    def _page(self, page: PageImage) -> PageText:
        line = Line(text=self.text, confidence=1.0, box=(0, 0, page.width, page.height))
        return PageText(text=self.text, confidence=1.0, lines=[line])


class OcrEngineSuite:
    """What holds for every engine. Override the fixture `engine`."""

    @pytest.fixture
    def engine(self) -> OcrEngine:
        """The engine to test."""
        raise NotImplementedError("override the fixture `engine`")

    async def test_languages_are_codes_and_own_names(self, engine: OcrEngine) -> None:
        """If this fails, callers can't ask for English by its code."""
        languages = await engine.languages()
        assert "en" in languages
        assert all(code and own for code, own in languages.items())

    async def test_a_page_is_read_in_order(self, engine: OcrEngine, tmp_path: Path) -> None:
        """If this fails, words are missing or stand in another order than on the page."""
        (found,) = await engine.read([sample_page(tmp_path)], [(await engine.languages())["en"]])
        assert re.findall(r"\w+", found.text) == re.findall(r"\w+", " ".join(LINES))
        assert found.turned == 0

    async def test_lines_say_where_they_stand_and_how_sure_they_are(self, engine: OcrEngine, tmp_path: Path) -> None:
        """If this fails, boxes lie outside of the page or out of order, or confidences outside of [0, 1]."""
        (found,) = await engine.read([sample_page(tmp_path)], [(await engine.languages())["en"]])
        assert len(found.lines) == len(LINES)
        tops = [line.box[1] for line in found.lines]
        assert tops == sorted(tops)
        for line in found.lines:
            left, top, right, bottom = line.box
            assert 0 <= left < right <= WIDTH
            assert 0 <= top < bottom <= HEIGHT
            assert 0 <= line.confidence <= 1
            assert all(word.text in line.text for word in line.words)
        assert 0.5 < found.confidence <= 1

    async def test_every_page_gets_one_result_in_its_place(self, engine: OcrEngine, tmp_path: Path) -> None:
        """If this fails, a request with many pages mixes them up."""
        language = (await engine.languages())["en"]
        found = await engine.read([sample_page(tmp_path, number) for number in (1, 2)], [language])
        assert len(found) == 2
        assert found[0].text == found[1].text
        assert await engine.read([], [language]) == []

    async def test_health_is_told_and_close_may_be_called_twice(self, engine: OcrEngine) -> None:
        """If this fails, health raises instead of telling, or close is not harmless."""
        assert isinstance(await engine.health(), Health)
        await engine.close()
        await engine.close()
