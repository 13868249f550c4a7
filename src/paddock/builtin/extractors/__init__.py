"""Metadata extractors that need no model and no network.

EntityExtractor is not among them: it needs a model, which the plugin paddock-onnx brings.
"""

from __future__ import annotations

from paddock.builtin.extractors.datetimes import DateTimeExtractor
from paddock.builtin.extractors.headings import HeadingExtractor
from paddock.builtin.extractors.keywords import KeywordExtractor, RAKEExtractor, TFIDFExtractor, YAKEExtractor
from paddock.builtin.extractors.links import LinkExtractor
from paddock.builtin.extractors.paths import PathExtractor
from paddock.builtin.extractors.patterns import PatternExtractor
from paddock.builtin.extractors.statistics import ContentStatisticsExtractor
from paddock.builtin.extractors.summary import SummaryExtractor
from paddock.builtin.extractors.tables import TableExtractor
from paddock.contracts.providers import Extractor

__all__ = ["builtin_extractors"]


def builtin_extractors() -> list[Extractor]:
    """New instances of all extractors of the core."""
    return [
        ContentStatisticsExtractor(),
        HeadingExtractor(),
        LinkExtractor(),
        PatternExtractor(),
        DateTimeExtractor(),
        KeywordExtractor(),
        RAKEExtractor(),
        YAKEExtractor(),
        TFIDFExtractor(),
        TableExtractor(),
        PathExtractor(),
        SummaryExtractor(),
    ]
