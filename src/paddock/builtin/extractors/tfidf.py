"""TF-IDF: what stands often in a chunk and seldom in the rest of its document."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from paddock.builtin.extractors.common import readable, words
from paddock.builtin.extractors.phrases import Limits, Ranked, phrases
from paddock.contracts.providers import Document

MAX_TEXT = 2_000_000  # characters of a document that are counted
PASSAGE = 1000  # characters
MAX_WORDS = 50_000  # different words that are remembered for a document


class Rarity(NamedTuple):
    """In how many passages of a document each word stands."""

    passages: int
    counts: Mapping[str, int]

    def weight(self, word: str) -> float:
        """Smoothed inverse document frequency: 1 for a word that stands in every passage, more for a rarer one."""
        return math.log((1 + self.passages) / (1 + self.counts.get(word, 0))) + 1


def rarity(document: Document) -> Rarity:
    """Count the passages of the document's beginning in which each word stands."""
    counts: Counter[str] = Counter()
    passages = 0
    for passage in _passages(document):
        passages += 1
        counts.update(set(words(passage.lower())))
    return Rarity(passages, dict(counts.most_common(MAX_WORDS)))


def tfidf(text: str, silent: frozenset[str], limits: Limits, known: Rarity) -> list[Ranked]:
    """Phrases of `min_length` to `max_length` words by frequency times the mean rarity of their words; best first."""
    counts: Counter[tuple[str, ...]] = Counter()
    for phrase in phrases(text, silent):
        for length in range(limits.min_length, min(limits.max_length, len(phrase)) + 1):
            counts.update(phrase[start : start + length] for start in range(len(phrase) - length + 1))
    scored = (
        (count * len(phrase) ** 0.5 * sum(map(known.weight, phrase)) / len(phrase), " ".join(phrase))
        for phrase, count in counts.items()
        if count >= limits.min_frequency
    )
    return sorted(scored, key=lambda item: (-item[0], item[1]))


def _passages(document: Document) -> Iterator[str]:
    if document.text:
        text = readable(document.text[:MAX_TEXT])
        yield from (text[start : start + PASSAGE] for start in range(0, len(text), PASSAGE))
    else:
        yield from (record.text[: PASSAGE * 10] for record in islice(document.records, MAX_TEXT // PASSAGE))
