"""YAKE: keywords from the features of single words, after Campos et al. (2020). Phrases are in lower case."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from paddock.builtin.extractors.common import sentences, tokens
from paddock.builtin.extractors.phrases import MAX_WORD, Ranked


def yake(text: str, silent: frozenset[str], longest: int) -> list[Ranked]:
    """Phrases of up to `longest` words that neither begin nor end with a stop word; best first, scores above 0.

    YAKE's own score is lower for better phrases; this one is its reciprocal.
    """
    lines = [tokens(sentence) for sentence in sentences(text)]
    weights = _weights(lines, silent)
    if not weights:
        return []
    bonds = _Bonds(Counter(), Counter())
    for line in lines:
        lower = [word.lower() for word in line]
        bonds.seen.update(lower)
        bonds.follows.update(pairwise(lower))
    counts = Counter(phrase for line in lines for phrase in _candidates(line, silent, longest))
    ranked = ((1 / (_cost(phrase, count, weights, bonds) + 1e-6), " ".join(phrase)) for phrase, count in counts.items())
    return sorted(ranked, key=lambda item: (-item[0], item[1]))


def _candidates(line: Sequence[str], silent: frozenset[str], longest: int) -> Iterator[tuple[str, ...]]:
    lower = [word.lower() for word in line]
    fits = [_tells(word, silent) for word in lower]
    passes = [fit or word in silent for word, fit in zip(lower, fits, strict=True)]
    for start, word in enumerate(lower):
        if not fits[start]:
            continue
        yield (word,)
        for end in range(start + 1, min(start + longest, len(lower))):
            if not passes[end]:
                break
            if fits[end]:
                yield tuple(lower[start : end + 1])


def _tells(word: str, silent: frozenset[str]) -> bool:
    return word not in silent and 2 < len(word) <= MAX_WORD and not word[0].isdigit()


def _weights(lines: Sequence[Sequence[str]], silent: frozenset[str]) -> dict[str, float]:
    """YAKE's S(w): the lower, the more telling the word."""
    import statistics  # noqa: PLC0415  brings fractions and decimal

    frequency: Counter[str] = Counter()
    capital: Counter[str] = Counter()
    acronym: Counter[str] = Counter()
    places: dict[str, list[int]] = defaultdict(list)
    left: dict[str, Counter[str]] = defaultdict(Counter)
    right: dict[str, Counter[str]] = defaultdict(Counter)
    for number, line in enumerate(lines):
        for index, token in enumerate(line):
            word = token.lower()
            frequency[word] += 1
            places[word].append(number)
            if token.isupper() and len(token) > 1:
                acronym[word] += 1
            elif token[0].isupper() and index:
                capital[word] += 1
            if index:
                before = line[index - 1].lower()
                left[word][before] += 1
                right[before][word] += 1
    telling = [word for word in frequency if _tells(word, silent)]
    if not telling:
        return {}
    usual = [frequency[word] for word in telling]
    middle, spread, most = statistics.fmean(usual), statistics.pstdev(usual), max(frequency.values())
    weights = {}
    for word in telling:
        count = frequency[word]
        case = max(capital[word], acronym[word]) / (1 + math.log(count))
        position = math.log(math.log(3 + statistics.median(places[word])))
        company = 1 + (_variety(left[word]) + _variety(right[word])) * count / most
        scattered = len(set(places[word])) / len(lines)
        weights[word] = position * company / (case + count / (middle + spread) / company + scattered / company)
    return weights


def _variety(others: Counter[str]) -> float:
    return len(others) / others.total() if others else 0.0


class _Bonds(NamedTuple):
    """How often one word stands right before another, and how often each stands at all."""

    follows: Counter[tuple[str, str]]
    seen: Counter[str]

    def loose(self, before: str, word: str, after: str) -> float:
        """0 when `word` always stands between the two, near 1 when it stands with others too."""
        left = 1 - self.follows[before, word] / self.seen[before]
        return max(left, 1 - self.follows[word, after] / self.seen[word])


def _cost(phrase: tuple[str, ...], count: int, weights: dict[str, float], bonds: _Bonds) -> float:
    product, total = 1.0, 0.0
    for index, word in enumerate(phrase):
        if word in weights:
            product *= weights[word]
            total += weights[word]
        else:  # a stop word inside counts by how firmly it binds its neighbours
            loose = bonds.loose(phrase[index - 1], word, phrase[index + 1])
            product *= 1 + loose
            total -= loose
    return product / (count * max(0.1, 1 + total))
