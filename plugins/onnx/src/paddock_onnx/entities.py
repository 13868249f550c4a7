"""Names in texts: tokens with labels, joined to spans of characters.

A text longer than the model's window is read in windows that overlap; of a token that stands in two of them counts the
reading with more text around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from paddock.contracts.providers import Aggregation, Entity, EntityRecogniser, Health, TypeName
from paddock_onnx.batching import Tokens
from paddock_onnx.classification import softmax
from paddock_onnx.model import Cut, Model, printable
from paddock_onnx.residency import Residency

if TYPE_CHECKING:
    from tokenizers import Encoding

    from paddock_onnx.model import Array

OVERLAP = 8  # the part of a window that it has in common with the next one
OUTSIDE = "O"


class Token(msgspec.Struct, frozen=True):
    """One token of a text: its characters, the number of its word, its score for each label."""

    start: int
    end: int
    word: int | None
    scores: Any


class Labelled(msgspec.Struct, frozen=True):
    """A token or word with its best label (as the model names it, ``B-PER``) and that label's score."""

    start: int
    end: int
    label: str
    score: float


class OnnxRecogniser(EntityRecogniser):
    """Type ``onnx``: models for token classification."""

    types: ClassVar[tuple[TypeName, ...]] = (TypeName("onnx"),)

    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    async def entities(
        self, model: str, texts: Sequence[str], max_length: int | None = None, strategy: Aggregation = "simple"
    ) -> list[list[Entity]]:
        """See `EntityRecogniser.entities`."""
        async with self._residency.using(model) as loaded:
            loaded.must("ner")
            loaded.check(texts)
            cut = loaded.cut(max_length)
            with loaded.reading():
                windows = await loaded.in_parts(
                    texts, lambda _, part: _windows(loaded, part, cut, whole=max_length is None)
                )
            flat = iter(await loaded.run([Tokens(window.ids) for found in windows for window in found]))
            scores = [[next(flat) for _ in found] for found in windows]
            room, labels = _room(loaded, cut), loaded.facts.labels

            def read(at: int, part: Sequence[str]) -> list[list[Entity]]:
                own = zip(part, windows[at:], scores[at:], strict=False)
                return [spans(text, labelled(joined(found, rows, room), labels, strategy)) for text, found, rows in own]

            return await loaded.in_parts(texts, read)

    async def health(self) -> Health:
        """The recognisers in memory."""
        loaded = [one.id for one in self._residency.loaded() if one.facts.task == "ner"]
        return Health(message=f"{len(loaded)} recognisers loaded", details={"loaded": loaded})


def _room(model: Model, cut: Cut) -> int:
    """The tokens of a text that one window holds."""
    return max(1, cut.length - model.tokenizer.num_special_tokens_to_add(False))


def _windows(model: Model, texts: Sequence[str], cut: Cut, *, whole: bool) -> list[list[Encoding]]:
    room = _room(model, cut)
    tokenizer = model.tokenizer
    found = []
    for one in tokenizer.encode_batch([printable(text) for text in texts], add_special_tokens=False):
        one.truncate(room, stride=room // OVERLAP)
        parts = [one, *one.overflowing] if whole else [one]
        found.append([tokenizer.post_process(part) for part in parts])
    return found


def joined(windows: Sequence[Encoding], rows: Sequence[Array], room: int) -> list[Token]:
    """The tokens of a text, without the special ones, from all of its windows."""
    step = max(1, room - room // OVERLAP)
    best: dict[int, tuple[int, Token]] = {}
    for number, (window, row) in enumerate(zip(windows, rows, strict=True)):
        own = [place for place, special in enumerate(window.special_tokens_mask) if not special]
        scores = softmax(row)
        for at, place in enumerate(own):
            around = min(at, len(own) - 1 - at)
            start, end = window.offsets[place]
            key = number * step + at
            if key not in best or around > best[key][0]:
                best[key] = around, Token(start, end, window.word_ids[place], scores[place])
    return [best[key][1] for key in sorted(best)]


def labelled(tokens: Sequence[Token], labels: Sequence[str], strategy: Aggregation) -> list[Labelled]:
    """Each token's label, or with another strategy than ``simple`` each word's."""
    groups = [[token] for token in tokens] if strategy == "simple" else _words(tokens)
    found = []
    for group in groups:
        scores = _scores(group, strategy)
        best = int(scores.argmax())
        found.append(Labelled(group[0].start, group[-1].end, labels[best], float(scores[best])))
    return found


def _words(tokens: Sequence[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.word is not None and words[-1][-1].word == token.word:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def _scores(group: Sequence[Token], strategy: Aggregation) -> Any:
    """A word's scores: those of its first token, of its surest one, or the mean of all."""
    if strategy == "max":
        return max(group, key=lambda token: float(token.scores.max())).scores
    if strategy == "average":
        return sum(token.scores for token in group) / len(group)
    return group[0].scores


def spans(text: str, parts: Sequence[Labelled]) -> list[Entity]:
    """Neighbours of one label as one entity, whose score is their mean; ``B-`` begins a new one."""
    runs: list[list[Labelled]] = []
    for part in parts:
        begins, kind = _tag(part.label)
        if runs and not begins and _tag(runs[-1][-1].label)[1] == kind:
            runs[-1].append(part)
        else:
            runs.append([part])
    return [found for run in runs if (found := _entity(text, run)) is not None]


def _tag(label: str) -> tuple[bool, str]:
    """Whether a label begins an entity, and the kind of it: ``I-PER`` and a bare ``PER`` go on."""
    for prefix in ("B-", "I-"):
        if label.startswith(prefix):
            return prefix == "B-", label.removeprefix(prefix)
    return False, label


def _entity(text: str, run: Sequence[Labelled]) -> Entity | None:
    kind = _tag(run[0].label)[1]
    start, end = run[0].start, run[-1].end
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if kind == OUTSIDE or start == end:
        return None
    score = sum(part.score for part in run) / len(run)
    return Entity(text=text[start:end], label=kind, start=start, end=end, score=score)
