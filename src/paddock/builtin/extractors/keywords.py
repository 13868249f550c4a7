"""KeywordExtractor and its three relatives: the words and phrases that say what a chunk is about.

Scores are in [0, 1], the best phrase of a chunk having 1; they compare phrases of one chunk and nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from paddock.builtin.extractors.common import Memory, TextExtractor
from paddock.builtin.extractors.phrases import Limits, Ranked, rake, textrank
from paddock.builtin.extractors.stopwords import StopWords, check_language, stop_words
from paddock.builtin.extractors.tfidf import Rarity, rarity, tfidf
from paddock.builtin.extractors.yake import yake
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

Algorithm = Literal["rake", "yake", "tfidf", "textrank"]
Most = Annotated[int, msgspec.Meta(ge=1, le=50)]
Length = Annotated[int, msgspec.Meta(ge=1, le=10, description="words of a phrase")]
Frequency = Annotated[int, msgspec.Meta(ge=1, le=1000, description="times that a phrase occurs in the chunk")]
Ngram = Annotated[int, msgspec.Meta(ge=1, le=5)]
Threshold = Annotated[float, msgspec.Meta(ge=0, le=1, description="phrases more alike than this count as one")]
Language = Annotated[str, msgspec.Meta(min_length=2, max_length=20)]

_USED = {  # options of KeywordExtractor that each algorithm looks at
    "rake": {"min_length", "max_length", "min_frequency"},
    "textrank": {"min_length", "max_length", "min_frequency"},
    "tfidf": {"min_length", "max_length", "min_frequency"},
    "yake": {"max_ngram_size", "deduplication_threshold"},
}
_COMMON = {"algorithm", "max_keywords", "stop_words", "language"}


class KeywordConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of KeywordExtractor. Lengths are words of a phrase; yake counts `max_ngram_size` instead."""

    algorithm: Algorithm = "rake"
    max_keywords: Most = 10
    min_length: Length = 1
    max_length: Length = 4
    min_frequency: Frequency = 1
    stop_words: StopWords | None = None
    language: Language = "en"
    max_ngram_size: Ngram = 3
    deduplication_threshold: Threshold = 0.9


class RakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of RAKEExtractor and of TFIDFExtractor."""

    max_keywords: Most = 10
    min_length: Length = 1
    max_length: Length = 4
    min_frequency: Frequency = 1
    stop_words: StopWords | None = None
    language: Language = "en"


class YakeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of YAKEExtractor."""

    max_keywords: Most = 10
    language: Language = "en"
    max_ngram_size: Ngram = 3
    deduplication_threshold: Threshold = 0.9


_TYPE_INERT = {"extractor_type": "the type says it already"}


class KeywordExtractor(TextExtractor):
    """``keywords``, best first, ``keyword_scores`` beside them, and ``keyword_algorithm``.

    ``tfidf`` holds a chunk against the other parts of its document: a word that stands everywhere counts little.
    """

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("KeywordExtractor", KeywordConfig, _TYPE_INERT),)
    limit = 100_000
    algorithm: ClassVar[Algorithm | None] = None  # None: as the config says

    def __init__(self) -> None:
        self._memory: Memory[Rarity] = Memory()

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        algorithm: Algorithm = self.algorithm or config.algorithm
        ranked = self._rank(algorithm, text, document, config)[: config.max_keywords]
        if not ranked:
            return {}
        prefix = "" if self.algorithm is None else f"{algorithm}_"
        names = ("keywords", "keyword_scores") if self.algorithm is None else (f"{prefix}keywords", f"{prefix}scores")
        best = ranked[0][0] or 1.0
        found: dict[str, Json] = {
            names[0]: [phrase for _, phrase in ranked],
            names[1]: [round(min(1.0, score / best), 3) for score, _ in ranked],
        }
        return found if self.algorithm else found | {"keyword_algorithm": algorithm}

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        own = getattr(config, "stop_words", None)
        check_language(config.language)
        if getattr(config, "min_length", 1) > getattr(config, "max_length", 10):
            raise ValidationFailed.of([FieldError("min_length", f"is more than max_length ({config.max_length})")])
        if own is not None and config.language != "en":
            yield "language: changes nothing beside stop_words, which take the place of the language's list"
        if self.algorithm is None:
            used = _USED[config.algorithm] | _COMMON
            for field in msgspec.structs.fields(type(config)):
                if field.name not in used and getattr(config, field.name) != field.default:
                    yield f"{field.name}: has no effect with the algorithm {config.algorithm}"

    def _rank(self, algorithm: Algorithm, text: str, document: Document, config: Any) -> list[Ranked]:
        silent = stop_words(config.language, getattr(config, "stop_words", None))
        if algorithm == "yake":
            return _unlike(yake(text, silent, config.max_ngram_size), config)
        limits = Limits(config.min_length, config.max_length, config.min_frequency)
        if algorithm == "tfidf":
            known = self._memory.get(document, None, lambda: rarity(document))
            return tfidf(text, silent, limits, known)
        return rake(text, silent, limits) if algorithm == "rake" else textrank(text, silent, limits)


class RAKEExtractor(KeywordExtractor):
    """``rake_keywords`` and ``rake_scores``: phrases between stop words, by how many words their words stand with."""

    types = (TypeName("RAKEExtractor", RakeConfig, _TYPE_INERT),)
    algorithm = "rake"


class YAKEExtractor(KeywordExtractor):
    """``yake_keywords`` and ``yake_scores``: phrases by place, case, spread and company of their words."""

    types = (TypeName("YAKEExtractor", YakeConfig, _TYPE_INERT),)
    algorithm = "yake"


class TFIDFExtractor(KeywordExtractor):
    """``tfidf_keywords`` and ``tfidf_scores``: phrases that stand often here and seldom elsewhere in the document."""

    types = (TypeName("TFIDFExtractor", RakeConfig, _TYPE_INERT),)
    algorithm = "tfidf"


def _unlike(ranked: Sequence[Ranked], config: Any) -> list[Ranked]:
    """The best phrases, without those that are nearly the same as a better one; looks at ten for each one kept."""
    kept: list[Ranked] = []
    for score, phrase in ranked[: config.max_keywords * 10]:
        if len(kept) == config.max_keywords:
            break
        if not any(_alike(phrase, other, config.deduplication_threshold) for _, other in kept):
            kept.append((score, phrase))
    return kept


def _alike(one: str, other: str, threshold: float) -> bool:
    longest = max(len(one), len(other))
    if 2 * min(len(one), len(other)) / (len(one) + len(other)) <= threshold:
        return False  # too different in length to be more alike than that
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False) if longest <= 100 else None
    return matcher is not None and matcher.quick_ratio() > threshold and matcher.ratio() > threshold
