"""What the extractors share: limits, words and sentences, and the base class that keeps them.

The text comes from strangers' files. Every pattern here is linear in it, every list and value is bounded, and what an
extractor leaves out because a chunk is too long it says: ``extraction_truncated: true``.
"""

from __future__ import annotations

import re
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, ClassVar, Generic, TypeVar

from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, Extractor

MAX_ITEMS = 50  # values of one metadata list
MAX_VALUE = 300  # characters of one metadata value
MAX_KEPT_DOCUMENTS = 8  # as many as are read at the same time

_SURROGATES = re.compile("[\ud800-\udfff]")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_TOKEN = re.compile(r"\w+(?:['\u2019-]\w+)*")  # words, and numbers too
_STOP = re.compile(r"(?<![.!?…])[.!?…]+[\"'\u201d\u2019)\]]{0,3}(?=\s)|\n[ \t]*\n")
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|[A-Za-z]\.[A-Za-z]|[Dd]r|[Mm]rs?|[Mm]s|[Pp]rof|[Ss]t|[Nn]o|vs|etc|bzw|ca|approx|[Ff]ig|[Vv]ol)$"
    r"|(?:^|\n)[ \t]{0,3}\d{1,3}$"  # the number of a list item or heading
)

Value = TypeVar("Value")


class TextExtractor(Extractor):
    """An extractor that looks at the text of a chunk, at most at its first `limit` characters."""

    limit: ClassVar[int] = 1_000_000

    def extract(self, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        if not getattr(config, "enabled", True):
            return {}
        return self.told(self.find(self.seen(chunk), chunk, document, config), chunk)

    def seen(self, chunk: Chunk) -> str:
        """The part of a chunk that is looked at."""
        return readable(chunk.text[: self.limit])

    def told(self, found: dict[str, Json], chunk: Chunk) -> dict[str, Json]:
        """What was found, and whether there was more to look at."""
        return {**found, "extraction_truncated": True} if len(chunk.text) > self.limit else found

    @abstractmethod
    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:
        """The metadata of `text`, the part of the chunk that is looked at."""


class Memory(Generic[Value]):
    """Keeps what was worked out for the last few documents, so that a thousand chunks of one do not ask anew.

    Holds the results alone, never a document. Safe to use from several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, document: Document, extra: Hashable, work_out: Callable[[], Value]) -> Value:
        """What `work_out` gave for this document and `extra`, now or before."""
        # A text remembers its hash, so that this costs nothing after the first chunk.
        key = (hash(document.text), len(document.text), len(document.sections), len(document.records), extra)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = work_out()
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > MAX_KEPT_DOCUMENTS:
                self._kept.popitem(last=False)
        return value


def readable(text: str) -> str:
    """The text without lone surrogates, which neither JSON nor a database takes; offsets stay."""
    return _SURROGATES.sub("\ufffd", text) if _SURROGATES.search(text) else text


def words(text: str) -> list[str]:
    """The words, without numbers and underscores; a hyphen or apostrophe inside a word belongs to it."""
    return _WORD.findall(text)


def tokens(text: str) -> list[str]:
    """The words and the numbers."""
    return _TOKEN.findall(text)


def sentences(text: str) -> Iterator[str]:
    """The sentences in order, stripped and with single spaces. A blank line ends one; an abbreviation's dot does not."""
    start = 0
    for stop in _STOP.finditer(text):
        if stop[0] == "." and _ABBREVIATED.search(text, max(start, stop.start() - 8), stop.start()):
            continue
        sentence = " ".join(text[start : stop.end()].split())
        start = stop.end()
        if sentence:
            yield sentence
    rest = " ".join(text[start:].split())
    if rest:
        yield rest


def distinct(values: Iterable[str], limit: int = MAX_ITEMS) -> list[str]:
    """The first `limit` different values in their order; one that is too long to keep is left out."""
    found: dict[str, None] = {}
    for value in values:
        if value and len(value) <= MAX_VALUE:
            found[value] = None
            if len(found) == limit:
                break
    return list(found)


def shorten(text: str, limit: int = MAX_VALUE) -> str:
    """The text, cut at a word with an ellipsis when it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    return (text[: limit - 1].rsplit(" ", 1)[0] or text[: limit - 1]) + "…"
