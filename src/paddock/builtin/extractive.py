"""The chat model ``extractive``: answers with the sentences of the retrieved passages that fit the question best.

It generates nothing, so it invents nothing, and it needs no download. Each sentence is followed by the number of its
passage in `sources`.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import ClassVar

import msgspec

from paddock.builtin.sentences import Sentence, sentences_of
from paddock.builtin.text_model import TextModel, last_question
from paddock.contracts.providers import ChatCall, Passage, TypeName

LIMIT = 5  # sentences of an answer
LONGEST = 400  # characters of a sentence that are quoted
KEPT = 0.66  # of the best sentence's score
ALIKE = 0.6  # share of common words above which a sentence says the same as one that was chosen
NOTHING = "I have no passages to answer from: no document was found for this question."
NOT_ANSWERED = "No passage answers this question directly; the closest one says:"

_WORD = re.compile(r"[^\W_]+(?:['\u2019.,-][^\W_]+)*")
_COMMON = (
    "a about above after again all also am an and any are as at be because been before being below between both but by can "
    "could did do does doing down during each else ever few for from further get give had has have having he her here hers him "
    "his how i if in into is it its itself just let like list long many may me might more most much must my name need needs no "
    "nor not of off on once only or other our out over own please same say says she should show so some such tell than that the "
    "their them then there these they this those through to too under until up us use used very was we were what when where "
    "which while who whom why will with would you your don't "
    "summarise summarize summary overview explain describe"
)
_STOP_WORDS = frozenset(_COMMON.split())
_SUFFIXES = (("ies", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("es", "e"), ("s", ""))
# What a kind of question wants to see in a sentence.
_EXPECTED = tuple(
    (re.compile(kind, re.IGNORECASE), re.compile(wanted))
    for kind, wanted in (
        (
            r"\bhow (?:many|much|long|often|old|far|tall|big|high|deep|heavy|large)\b|\bwhat (?:number|percentage|amount)\b",
            r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|dozen|hundred|half)\b",
        ),
        (
            r"\bwhen\b|\bwhat (?:year|date|time|month|day)\b",
            r"\d|\b(?:January|February|March|April|May|June|July|August|September|October|November|December|spring|summer)\b",
        ),
        (r"\bwhy\b", r"\b(?:because|since|due to|so that|in order to|causes?|reason)\b"),
        (r"\bwho\b", r"(?<!^)\b[A-Z][a-z]+"),
    )
)


class Candidate(msgspec.Struct):
    """A sentence that may go into the answer."""

    sentence: Sentence
    passage: Passage
    position: int
    terms: frozenset[str]
    context: frozenset[str]
    score: float = 0.0


class ExtractiveModel(TextModel):
    """Type ``extractive``. The question is the last message of the user; prompts and history change nothing."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("extractive"),)

    async def reply(self, call: ChatCall) -> AsyncIterator[str]:
        """The answer, word by word."""
        for word in re.findall(r"\S+\s*", answer(last_question(call.body), call.sources)):
            yield word


def answer(question: str, sources: Sequence[Passage]) -> str:
    """At most five sentences of the sources, best first, each followed by ``[n]``; or a sentence that there are none."""
    candidates = candidates_of(sources)
    if not candidates:
        return NOTHING
    rank(question, candidates)
    best = max(candidate.score for candidate in candidates)
    if best <= 0:
        return f"{NOT_ANSWERED} {quoted(candidates[0])}"
    return " ".join(quoted(candidate) for candidate in chosen(candidates, best))


def candidates_of(sources: Sequence[Passage]) -> list[Candidate]:
    """Every sentence of every passage once, in the order of the passages."""
    found: dict[str, Candidate] = {}
    for passage in sources:
        for position, sentence in enumerate(sentences_of(passage.content)):
            words = terms(sentence.words or sentence.text)
            if words:
                context = frozenset(terms(f"{sentence.context} {passage.filename.rpartition('.')[0]}"))
                candidate = Candidate(sentence, passage, position, frozenset(words), context)
                found.setdefault(" ".join(sorted(candidate.terms)), candidate)
    return list(found.values())


def terms(text: str) -> list[str]:
    """The words that carry meaning, in lower case and without their commonest endings."""
    words = (word.lower() for word in _WORD.findall(text))
    return [stem(word) for word in words if word not in _STOP_WORDS and (len(word) > 1 or word.isdigit())]


def stem(word: str) -> str:
    """Take off the commonest English endings, so that singular and plural meet."""
    for suffix, instead in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word.removesuffix(suffix) + instead
            break
    return word[:-1] if word.endswith("e") and len(word) > 4 else word


def rank(question: str, candidates: Iterable[Candidate]) -> None:
    """Score the candidates: the share of the question's words that a sentence has, rare words counting more.

    Words that only the headings above it count a little less. A sentence without any word of the question scores 0.
    """
    candidates = list(candidates)
    asked = terms(question)
    seen = Counter(term for candidate in candidates for term in candidate.terms)
    weights = {term: math.log(1 + len(candidates) / max(1, seen[term])) ** 1.5 for term in asked}
    total = sum(weights.values())
    wanted = [pattern for kind, pattern in _EXPECTED if kind.search(question)]
    for candidate in candidates:
        own = sum(weight for term, weight in weights.items() if term in candidate.terms)
        above = sum(weight for term, weight in weights.items() if term in candidate.context - candidate.terms)
        if own + above > 0:
            candidate.score = (own + 0.7 * above) / total + _extras(candidate, wanted, asked)
        elif not asked:
            # "Summarise this": the first sentences of the best passages.
            candidate.score = max(0.0, candidate.passage.score) + 1 / (1 + candidate.position)


def _extras(candidate: Candidate, wanted: Sequence[re.Pattern[str]], asked: Sequence[str]) -> float:
    """Small things that tell good sentences from those with the same words."""
    text = candidate.sentence.text
    words = terms(text)
    pairs = set(itertools.pairwise(words)) & set(itertools.pairwise(asked))
    extra = 0.05 * min(2, len(pairs)) + 0.05 * candidate.passage.score
    extra += 0.2 * (sum(1 for pattern in wanted if pattern.search(text)) / max(1, len(wanted)))
    if text[:1].islower() or text.endswith((":", "?")):
        extra -= 0.15  # the rest of a cut sentence, a lead-in, or a question
    return extra - 0.002 * max(0, len(words) - 25)


def chosen(candidates: Iterable[Candidate], best: float) -> list[Candidate]:
    """The best ones, leaving out what is far behind and what says the same again."""
    picked: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        if len(picked) == LIMIT or candidate.score < KEPT * best:
            break
        if not any(_alike(candidate.terms, other.terms) for other in picked):
            picked.append(candidate)
    return picked


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) / len(one | other) > ALIKE


def quoted(candidate: Candidate) -> str:
    """The sentence, cut if it is very long, with the number of its passage."""
    text = candidate.sentence.text
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(" ", 1)[0] + "…"
    return f"{text} [{candidate.passage.number}]"
