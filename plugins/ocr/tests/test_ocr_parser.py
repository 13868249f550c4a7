"""The parser of pictures; what OCR reads is written by the kit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest
from paddock_ocr.parser import ImageConfig, ImageParser
from paddock_ocr.samples import drawn, encoded

from paddock.contracts.providers import Parser
from paddock.errors import ProviderUnavailable
from paddock.testing.parser import Option, ParserSuite, Sample, store


class TestImageParser(ParserSuite):
    samples: ClassVar[Mapping[str, Sample]] = {"page": Sample("a.png", encoded(drawn()), ("read from page 1",))}
    options: ClassVar[Sequence[Option]] = (
        Option("chunk_size", 200, "page"),
        Option("chunk_overlap", 10, "page", {"chunk_size": 300}),
        Option("languages", ["de"], "page"),
        Option("engine", "tesseract", "page"),
    )

    @pytest.fixture
    def parser(self) -> Parser:
        return ImageParser()


def test_outside_of_a_server_pictures_are_not_read(tmp_path: Path) -> None:
    source = msgspec.structs.replace(store(tmp_path, Sample("a.png", encoded(drawn()))), ocr=None)
    with pytest.raises(ProviderUnavailable, match="inside of a server"):
        ImageParser().parse(source, ImageConfig())
