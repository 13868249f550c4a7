"""Other words for a question: a chat model's rewrites, or, without one, the telling words of the first hits."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from paddock.builtin.hashing import STOP_WORDS, words
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, RetrievalTools
from paddock.errors import ModelNotFound

FEEDBACK_HITS = 5
FEEDBACK_TERMS = 5
LONGEST_QUERY = 500  # characters of a rewrite that are used
_BULLET = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):]|[Qq]uery \d{1,2}:)\s*")

REWRITE = """Rewrite the question below as {count} different search queries for a document search. Use other words \
and name related terms. Write one query on each line, without numbers and without any other text.

Question: {question}"""


async def expansions(
    question: str, hits: Sequence[Hit], tools: RetrievalTools, count: int, trace: dict[str, Json]
) -> list[str]:
    """At most `count` other queries for a question; `hits` are what the question itself found.

    The trace's ``expansion`` says where they are from: ``model`` or ``feedback``. Raises what the chat model raises: one
    that is down is not taken for none.
    """
    rewrites = await ask_lines(tools, None, REWRITE.format(count=count, question=question), count)
    trace["expansion"] = "feedback" if rewrites is None else "model"
    found = feedback_queries(question, hits, count) if rewrites is None else rewrites
    return [query for query in found if query.casefold() != question.casefold()]


async def ask_lines(tools: RetrievalTools, model: str | None, prompt: str, count: int) -> list[str] | None:
    """The first `count` lines of a chat model's answer, without bullets. None when there is no model that can write."""
    try:
        answer = await tools.ask(model, prompt)
    except ModelNotFound:
        if model is not None:
            raise
        return None
    return None if answer is None else parse_lines(answer, count)


def parse_lines(answer: str, count: int) -> list[str]:
    """Each line of an answer that holds a word, without bullet and quotes, once."""
    lines = (_BULLET.sub("", line).strip().strip("\"'").strip()[:LONGEST_QUERY] for line in answer.splitlines())
    return list(dict.fromkeys(line for line in lines if any(letter.isalnum() for letter in line)))[:count]


def feedback_queries(question: str, hits: Sequence[Hit], count: int) -> list[str]:
    """The question with telling words of the first hits: the first query with the best of them, the next with the next."""
    terms = feedback_terms(question, hits[:FEEDBACK_HITS], count * FEEDBACK_TERMS)
    groups = [terms[at : at + FEEDBACK_TERMS] for at in range(0, len(terms), FEEDBACK_TERMS)]
    return [f"{question} {' '.join(group)}" for group in groups[:count]]


def feedback_terms(question: str, hits: Sequence[Hit], count: int) -> list[str]:
    """Words that the hits share and the question lacks, the most telling first: the sum over the hits of the hit's score
    times 1 + log of how often the word occurs; a word of one hit alone counts half."""
    asked = set(words(question))
    weights: defaultdict[str, float] = defaultdict(float)
    spread: Counter[str] = Counter()
    for hit in hits:
        counts = Counter(words(hit.content))
        spread.update(counts.keys())
        for word, often in counts.items():
            weights[word] += hit.score * (1 + math.log(often))
    telling = {
        word: weight * (1.0 if spread[word] > 1 else 0.5)
        for word, weight in weights.items()
        if weight > 0 and len(word) > 2 and not word.isdigit() and word not in asked and word not in STOP_WORDS
    }
    return sorted(telling, key=lambda word: (-telling[word], word))[:count]
