"""Phrases between stop words and punctuation, ranked by RAKE or TextRank. Phrases are in lower case."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

Ranked = tuple[float, str]  # score, phrase
MAX_WORD = 40  # characters; longer ones are keys and hashes

WINDOW = 3  # words that stand together in TextRank
DAMPING = 0.85
ROUNDS = 20

_PARTS = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[^\s\w]|\n\s*\n")


class Limits(NamedTuple):
    """Words of a phrase at least and at most, and how often it must occur."""

    min_length: int
    max_length: int
    min_frequency: int


def phrases(text: str, silent: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """Runs of words without a stop word, a number or punctuation between them."""
    run: list[str] = []
    for part in _PARTS.findall(text.lower()):
        if part[0].isalnum() and part not in silent and 1 < len(part) <= MAX_WORD and not part[0].isdigit():
            run.append(part)
        elif run:
            yield tuple(run)
            run = []
    if run:
        yield tuple(run)


def rake(text: str, silent: frozenset[str], limits: Limits) -> list[Ranked]:
    """Rapid automatic keyword extraction: a word's degree by its frequency, summed over the phrase; best first."""
    counts = _counted(text, silent, limits)
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for phrase, count in counts.items():
        for word in phrase:
            frequency[word] += count
            degree[word] += count * len(phrase)
    return _sorted(
        (sum(degree[word] / frequency[word] for word in phrase), " ".join(phrase))
        for phrase, count in counts.items()
        if count >= limits.min_frequency and limits.min_length <= len(phrase)
    )


def textrank(text: str, silent: frozenset[str], limits: Limits) -> list[Ranked]:
    """PageRank over words that stand near each other; a phrase has the sum of its words, a little less for each."""
    counts = _counted(text, silent, limits)
    rank = page_rank(_neighbours(text, silent))
    return _sorted(
        (sum(rank.get(word, 0.0) for word in phrase) / len(phrase) ** 0.5, " ".join(phrase))
        for phrase, count in counts.items()
        if count >= limits.min_frequency and limits.min_length <= len(phrase)
    )


def page_rank(near: dict[str, dict[str, float]]) -> dict[str, float]:
    """How central each word is in an undirected weighted graph."""
    total = {word: sum(others.values()) for word, others in near.items()}
    rank = dict.fromkeys(near, 1.0)
    for _ in range(ROUNDS):
        rank = {
            word: 1 - DAMPING + DAMPING * sum(rank[other] * weight / total[other] for other, weight in others.items())
            for word, others in near.items()
        }
    return rank


def _counted(text: str, silent: frozenset[str], limits: Limits) -> Counter[tuple[str, ...]]:
    """How often each phrase occurs; one that is too long is cut into pieces of the greatest length."""
    counts: Counter[tuple[str, ...]] = Counter()
    most = limits.max_length
    for phrase in phrases(text, silent):
        for start in range(0, len(phrase), most):
            counts[phrase[start : start + most]] += 1
    return counts


def _neighbours(text: str, silent: frozenset[str]) -> dict[str, dict[str, float]]:
    near: dict[str, dict[str, float]] = defaultdict(dict)
    sequence = [word for phrase in phrases(text, silent) for word in phrase]
    for index, word in enumerate(sequence):
        near[word]  # a word without neighbours is in the graph too
        for other in sequence[index + 1 : index + WINDOW]:
            if other != word:
                near[word][other] = near[other][word] = near[word].get(other, 0.0) + 1.0
    return near


def _sorted(ranked: Iterator[Ranked]) -> list[Ranked]:
    return sorted(ranked, key=lambda item: (-item[0], item[1]))
