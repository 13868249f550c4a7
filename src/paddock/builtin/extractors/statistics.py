"""ContentStatisticsExtractor: how long a chunk is, how hard to read, how it is laid out."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import msgspec

from paddock.builtin.extractors.common import MAX_VALUE, TextExtractor, sentences, words
from paddock.builtin.extractors.stopwords import stop_words
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName

WORDS_A_MINUTE = 230  # silent reading of adults
COMMON_WORDS = 5

_VOWELS = re.compile(r"[aeiouyàâäéèêëîïôöùûüáíóú]+")
_SILENT_E = re.compile(r"[^\W\d_aeiouyl]e\b")
_BLANK_LINES = re.compile(r"\n[ \t]*\n")
_LIST_ITEM = re.compile(r"^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+\S", re.MULTILINE)
_NUMBER = re.compile(r"\b\d+(?:[.,]\d+)*\b")
_POSITIVE = frozenset(
    """agree amazing beautiful benefit best better brilliant calm clean comfortable delight delighted easy effective
    efficient enjoy enjoyed excellent fair fantastic fast favourite fine free fresh friendly fun gain generous glad good
    grateful great happy healthy helpful honest improve improved improvement interesting kind love loved lovely nice perfect
    pleasant pleased proud recommend reliable safe satisfied simple smooth strong success successful superb support thank
    thanks useful valuable welcome win wonderful""".split()  # noqa: SIM905  a list of quoted words is harder to read
)
_NEGATIVE = frozenset(
    """accident afraid angry annoying awful bad blame boring break broken careless complain complaint confusing corrupt
    crash damage damaged danger dangerous dead death defect delay delayed destroyed difficult dirty disappoint disappointed
    disappointing disaster error fail failed failure false fault fear hard harm hate hated horrible hurt ill injury kill late
    lose loss lost mistake nasty negative never pain painful poor problem problems refuse risk sad severe sick slow sorry
    stolen suffer terrible threat trouble ugly unable unfair unhappy unsafe useless weak worse worst wrong""".split()  # noqa: SIM905  a list of 80 strings is harder to read
)


class StatisticsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of ContentStatisticsExtractor; counts of characters, words and sentences are always there."""

    include_readability: bool = True
    include_vocabulary: bool = True
    include_structure: bool = True
    include_sentiment_indicators: bool = False


class ContentStatisticsExtractor(TextExtractor):
    """Counts and measures of one chunk.

    Always ``character_count, word_count, sentence_count, avg_word_length, avg_sentence_length``. Readability:
    ``flesch_reading_ease``, ``flesch_kincaid_grade`` (made for English prose), ``reading_time_seconds``. Vocabulary:
    ``unique_words``, ``vocabulary_richness`` (different words / words), ``common_words``, ``longest_word``. Structure:
    ``line_count, paragraph_count, list_items, question_count, number_count``. Sentiment: ``positive_words``,
    ``negative_words`` and ``sentiment``, by a short English list; a hint and no more.
    """

    types = (
        TypeName(
            "ContentStatisticsExtractor",
            StatisticsConfig,
            {
                "include_language": "the language is not detected here; parsers report it where they know it",
                "include_sentiment": "use include_sentiment_indicators",
            },
        ),
    )

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        found = words(text)
        counted = sum(1 for _ in sentences(text))
        letters = sum(map(len, found))
        result: dict[str, Json] = {
            "character_count": len(text),
            "word_count": len(found),
            "sentence_count": counted,
            "avg_word_length": round(letters / len(found), 2) if found else 0.0,
            "avg_sentence_length": round(len(found) / counted, 2) if counted else 0.0,
        }
        lower = text.lower()
        if config.include_structure:
            result |= _structure(text)
        if not found:
            return result
        if config.include_readability:
            result |= _readability(lower, len(found), max(counted, 1))
        if config.include_vocabulary or config.include_sentiment_indicators:
            counts = Counter(words(lower))
            result |= _vocabulary(counts) if config.include_vocabulary else {}
            result |= _sentiment(counts) if config.include_sentiment_indicators else {}
        return result


def _readability(lower: str, word_count: int, sentence_count: int) -> dict[str, Json]:
    syllables = max(word_count, len(_VOWELS.findall(lower)) - len(_SILENT_E.findall(lower)))
    sentence_length, word_length = word_count / sentence_count, syllables / word_count
    return {
        "flesch_reading_ease": round(206.835 - 1.015 * sentence_length - 84.6 * word_length, 1),
        "flesch_kincaid_grade": round(0.39 * sentence_length + 11.8 * word_length - 15.59, 1),
        "reading_time_seconds": max(1, round(word_count * 60 / WORDS_A_MINUTE)),
    }


def _vocabulary(counts: Counter[str]) -> dict[str, Json]:
    silent = stop_words("en")
    telling = sorted(((-count, word) for word, count in counts.items() if len(word) > 2 and word not in silent))
    return {
        "unique_words": len(counts),
        "vocabulary_richness": round(len(counts) / counts.total(), 3),
        "common_words": [word for _, word in telling[:COMMON_WORDS] if len(word) <= MAX_VALUE],
        "longest_word": max(counts, key=lambda word: (len(word), word))[:MAX_VALUE],
    }


def _structure(text: str) -> dict[str, Json]:
    body = text.strip()
    return {
        "line_count": body.count("\n") + 1 if body else 0,
        "paragraph_count": len(_BLANK_LINES.findall(body)) + 1 if body else 0,
        "list_items": len(_LIST_ITEM.findall(body)),
        "question_count": body.count("?"),
        "number_count": len(_NUMBER.findall(body)),
    }


def _sentiment(counts: Counter[str]) -> dict[str, Json]:
    positive = sum(count for word, count in counts.items() if word in _POSITIVE)
    negative = sum(count for word, count in counts.items() if word in _NEGATIVE)
    leaning = "positive" if positive > negative else "negative" if negative > positive else "neutral"
    return {"positive_words": positive, "negative_words": negative, "sentiment": leaning}
