"""SummaryExtractor: the sentences of a chunk that say most, without a language model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from paddock.builtin.extractors.common import MAX_VALUE, TextExtractor, sentences, shorten, words
from paddock.builtin.extractors.phrases import Limits, rake
from paddock.builtin.extractors.stopwords import stop_words
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

Algorithm = Literal["textrank", "lsa", "luhn", "lexrank"]

MAX_SENTENCES = 200  # that are compared with each other
MAX_SUMMARY = 4000  # characters
KEY_PHRASES = 5
DAMPING = 0.85
ROUNDS = 50
TOPICS = 3  # of LSA
LEXRANK_THRESHOLD = 0.1
LUHN_GAP = 4  # words without meaning that may stand between two with one


class SummaryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of SummaryExtractor. Sentences shorter or longer than the bounds, in characters, are not chosen."""

    summary_sentences: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    algorithm: Algorithm = "textrank"
    include_key_phrases: bool = True
    include_statistics: bool = True
    min_sentence_length: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    max_sentence_length: Annotated[int, msgspec.Meta(ge=10, le=10_000)] = 500


class SummaryExtractor(TextExtractor):
    """``summary``: the best sentences in the order of the text, word for word.

    Key phrases: ``key_phrases``, up to five. Statistics: ``summary_sentence_count``, ``summary_source_sentences`` and
    ``summary_ratio`` (characters of the summary / of the text). The first 200 sentences are looked at.
    """

    types = (TypeName("SummaryExtractor", SummaryConfig),)
    limit = 100_000

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        every = list(islice(sentences(text), MAX_SENTENCES))
        fit = [one for one in every if config.min_sentence_length <= len(one) <= config.max_sentence_length]
        if not fit:
            return {}
        chosen = _best(fit, config.algorithm, config.summary_sentences)
        summary = shorten(" ".join(chosen), MAX_SUMMARY)
        found: dict[str, Json] = {"summary": summary}
        if config.include_key_phrases:
            ranked = rake(text, stop_words("en"), Limits(1, 3, 1))
            found["key_phrases"] = [phrase for _, phrase in ranked[:KEY_PHRASES] if len(phrase) <= MAX_VALUE]
        if config.include_statistics:
            found["summary_sentence_count"] = len(chosen)
            found["summary_source_sentences"] = len(every)
            found["summary_ratio"] = round(len(summary) / max(1, len(text)), 3)
        return found

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        if config.min_sentence_length > config.max_sentence_length:
            reason = f"is more than max_sentence_length ({config.max_sentence_length})"
            raise ValidationFailed.of([FieldError("min_sentence_length", reason)])
        return ()


def _best(candidates: Sequence[str], algorithm: Algorithm, wanted: int) -> list[str]:
    if len(candidates) <= wanted:
        return list(candidates)
    silent = stop_words("en")
    bags = [Counter(word for word in words(one.lower()) if word not in silent) for one in candidates]
    scores = _luhn(candidates, bags) if algorithm == "luhn" else _by_matrix(bags, algorithm)
    best = sorted(range(len(candidates)), key=lambda index: (-round(scores[index], 9), index))[:wanted]
    return [candidates[index] for index in sorted(best)]


def _by_matrix(bags: Sequence[Counter[str]], algorithm: Algorithm) -> list[float]:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    terms = {word: column for column, word in enumerate(dict.fromkeys(word for bag in bags for word in bag))}
    if not terms:
        return [0.0] * len(bags)
    matrix = np.zeros((len(bags), len(terms)))
    for row, bag in enumerate(bags):
        for word, count in bag.items():
            matrix[row, terms[word]] = count
    if algorithm == "textrank":
        return _rank(_overlap(matrix))
    if algorithm == "lsa":  # over plain counts: rare words would make a topic of every stray sentence
        left, strength, _ = np.linalg.svd(matrix, full_matrices=False)
        kept = min(TOPICS, len(strength))
        scores: list[float] = np.sqrt(((left[:, :kept] * strength[:kept]) ** 2).sum(axis=1)).tolist()
        return scores
    weighted = matrix * (np.log((1 + len(bags)) / (1 + np.count_nonzero(matrix, axis=0))) + 1)
    length = np.linalg.norm(weighted, axis=1, keepdims=True)
    cosine = (weighted / np.where(length > 0, length, 1)) @ (weighted / np.where(length > 0, length, 1)).T
    return _rank(np.where(cosine >= LEXRANK_THRESHOLD, cosine, 0))


def _overlap(matrix: Matrix) -> Matrix:
    """Words in common, by the logarithms of both lengths."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    present = (matrix > 0).astype(np.float64)
    length = np.log(present.sum(axis=1) + 1)
    similar: Matrix = present @ present.T / np.maximum(length[:, None] + length[None, :], 1e-9)
    return similar


def _rank(similar: Matrix) -> list[float]:
    """PageRank over sentences."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    np.fill_diagonal(similar, 0)
    total = similar.sum(axis=1)
    moves = similar / np.where(total > 0, total, 1)[:, None]
    rank = np.full(len(similar), 1 / len(similar))
    for _ in range(ROUNDS):
        rank = (1 - DAMPING) / len(similar) + DAMPING * (rank @ moves)
    result: list[float] = rank.tolist()
    return result


def _luhn(candidates: Sequence[str], bags: Sequence[Counter[str]]) -> list[float]:
    """The densest cluster of significant words: those that occur twice, or the more frequent half in a short text."""
    counts: Counter[str] = Counter()
    for bag in bags:
        counts.update(bag)
    significant = {word for word, count in counts.items() if count > 1}
    significant = significant or {word for word, _ in counts.most_common(math.ceil(len(counts) / 2))}
    return [_densest(words(one.lower()), significant) for one in candidates]


def _densest(sequence: Sequence[str], significant: set[str]) -> float:
    best, start, last, inside = 0.0, 0, -1, 0
    for index, word in enumerate(sequence):
        if word not in significant:
            continue
        if last < 0 or index - last > LUHN_GAP:
            start, inside = index, 0
        inside += 1
        last = index
        best = max(best, inside**2 / (last - start + 1))
    return best
