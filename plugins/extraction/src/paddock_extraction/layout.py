"""In the helper: LayoutLMv3. Words, where they stand, and the page itself go in; labels, spans or a class come out.

Held against transformers 4.57 once, with random models of the three heads as Optimum exports them: token ids and boxes the same,
pixels equal to 1.2e-7, logits to 4e-6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from paddock.builtin.helper import Refused
from paddock.contracts.providers import FoundAnswer, FoundClass, FoundDocument, FoundField, Word
from paddock_extraction import facts
from paddock_extraction.donut import mean
from paddock_extraction.facts import ModelConfig, Preprocessor, read_json
from paddock_extraction.images import layout_pixels
from paddock_extraction.session import Session, damaged, read_tokenizer, shares
from paddock_extraction.wire import Request

Box = tuple[int, int, int, int]
NOWHERE: Box = (0, 0, 0, 0)
USUAL_LENGTH = 514  # positions, two of which RoBERTa keeps for itself
STRIDE = 128  # tokens that the next window repeats
LONGEST_ANSWER = 40  # tokens


class Token(NamedTuple):
    """A token of the page: its id, the number of its word, and where that stands (0 to 1000)."""

    id: int
    word: int
    box: Box


class LayoutModel:
    """A loaded model."""

    def __init__(self, folder: Path, threads: int, model: str) -> None:
        graph = facts.graphs(folder).get("model")
        if graph is None:
            raise damaged(model, "it has no model.onnx")
        self._model = model
        self._config = read_json(folder / "config.json", ModelConfig)
        more = folder / "preprocessor_config.json"
        self._preprocessor = read_json(more, Preprocessor) if more.is_file() else Preprocessor()
        self._tokenizer = read_tokenizer(folder, model)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._session = Session(graph, threads, model)
        self._begin, self._end = (self._special(token) for token in ("<s>", "</s>"))
        first = self._tokenizer.encode("a", add_special_tokens=False).tokens
        self._before = "" if first and first[0].startswith(("Ġ", "▁")) else " "
        self._room = (self._config.max_position_embeddings or USUAL_LENGTH) - 2

    def _special(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise damaged(self._model, f"its tokenizer has no {token}")
        return int(found)

    def find(self, request: Request) -> FoundDocument:
        """Do the task for one page. Raises Refused."""
        with PIL.Image.open(request.page) as image:
            size, pixels = image.size, layout_pixels(image, self._preprocessor)
        tokens = list(self._tokens(request.words, size))
        if request.task == "vqa":
            return self._answers(request, tokens, pixels)
        if request.task == "classification":
            return self._class(tokens, pixels)
        return self._fields(request.words, tokens, pixels)

    # -- into the model

    def _tokens(self, words: Sequence[Word], size: tuple[int, int]) -> Iterator[Token]:
        for number, word in enumerate(words):
            box = _thousandths(word.box, size)
            for id_ in self._tokenizer.encode(self._before + word.text, add_special_tokens=False).ids:
                yield Token(id_, number, box)

    def _windows(self, tokens: Sequence[Token], room: int) -> Iterator[Sequence[Token]]:
        """Pieces of the page that fit, each repeating the end of the one before."""
        if room < 2:
            raise Refused(f"can't be read: the question is too long for {self._model}")
        step = max(1, room // 2, room - STRIDE)
        for at in range(0, max(1, len(tokens)), step):
            yield tokens[at : at + room]
            if at + room >= len(tokens):
                return

    def _run(self, before: Sequence[int], window: Sequence[Token], pixels: Any) -> dict[str, Any]:
        ids = [*before, *(token.id for token in window), self._end]
        boxes = [NOWHERE] * len(before) + [token.box for token in window] + [NOWHERE]
        return self._session.run(
            {"input_ids": [ids], "attention_mask": [[1] * len(ids)], "bbox": [boxes], "pixel_values": pixels}
        )

    # -- out of it

    def _logits(self, found: dict[str, Any], name: str, dimensions: int) -> Any:
        logits = found.get(name)
        if logits is None or logits.ndim != dimensions or not np.isfinite(logits).all():
            raise damaged(self._model, f"it gives no {name}")
        return logits[0]

    def _label(self, number: int) -> str:
        return self._config.id2label.get(str(number), f"LABEL_{number}")

    def _fields(self, words: Sequence[Word], tokens: Sequence[Token], pixels: Any) -> FoundDocument:
        """Words by their first token's label, neighbours of one label together."""
        labels: dict[int, tuple[str, float]] = {}
        for window in self._windows(tokens, self._room - 2) if tokens else ():
            chances = shares(self._logits(self._run([self._begin], window, pixels), "logits", 3))[1:]
            for token, chance in zip(window, chances, strict=False):
                best = int(chance.argmax())
                labels.setdefault(token.word, (self._label(best), float(chance[best])))
        fields = list(_grouped(words, labels))
        return FoundDocument(confidence=mean([one.confidence for one in fields]), fields=fields)

    def _class(self, tokens: Sequence[Token], pixels: Any) -> FoundDocument:
        window = next(self._windows(tokens, self._room - 2))
        chances = shares(self._logits(self._run([self._begin], window, pixels), "logits", 2))
        scores = {self._label(number): round(float(chance), 6) for number, chance in enumerate(chances)}
        label = max(scores, key=lambda name: scores[name])
        found = FoundClass(label=label, score=scores[label], all_scores=scores)
        return FoundDocument(confidence=scores[label], classification=found)

    def _answers(self, request: Request, tokens: Sequence[Token], pixels: Any) -> FoundDocument:
        answers, fields = [], []
        for question in request.prompts:
            answer, field = self._answer(question, request.words, tokens, pixels)
            answers.append(answer)
            fields += [field] if field else []
        return FoundDocument(confidence=mean([one.confidence for one in answers]), answers=answers, fields=fields)

    def _answer(
        self, question: str, words: Sequence[Word], tokens: Sequence[Token], pixels: Any
    ) -> tuple[FoundAnswer, FoundField | None]:
        asked = self._tokenizer.encode(self._before + question, add_special_tokens=False).ids
        before = [self._begin, *asked, self._end, self._end]
        best: tuple[float, int, int] | None = None
        for window in self._windows(tokens, self._room - len(before) - 1) if tokens else ():
            found = self._run(before, window, pixels)
            span = self._span(found, len(before), len(window))
            if best is None or span[0] > best[0]:
                best = span[0], window[span[1]].word, window[span[2]].word
        if best is None:
            return FoundAnswer(question=question, answer="", confidence=0.0), None
        sure, first, last = best
        text = " ".join(word.text for word in words[first : last + 1])
        box = _around([word.box for word in words[first : last + 1]])
        field = FoundField(key=question, value=text, confidence=round(sure, 4), bbox=box)
        return FoundAnswer(question=question, answer=text, confidence=round(sure, 4)), field

    def _span(self, found: dict[str, Any], before: int, count: int) -> tuple[float, int, int]:
        """The likeliest span in the page's words: its chance, first and last token."""
        starts = shares(self._logits(found, "start_logits", 2))[before : before + count]
        ends = shares(self._logits(found, "end_logits", 2))[before : before + count]
        chances: Any = np.triu(np.outer(starts, ends)) - np.triu(np.outer(starts, ends), LONGEST_ANSWER)
        first, last = np.unravel_index(int(chances.argmax()), chances.shape)
        return float(chances[first, last]), int(first), int(last)


def _thousandths(box: tuple[float, float, float, float], size: tuple[int, int]) -> Box:
    left, top, right, bottom = (
        min(1000, max(0, int(1000 * value / most))) for value, most in zip(box, (*size, *size), strict=True)
    )
    return left, top, right, bottom


def _grouped(words: Sequence[Word], labels: dict[int, tuple[str, float]]) -> Iterator[FoundField]:
    """``B-TOTAL I-TOTAL`` is one field TOTAL; another B begins another."""
    runs: list[tuple[str, list[int]]] = []
    for number in sorted(labels):
        label = labels[number][0]
        mark, dash, name = label.partition("-")
        name = name if dash and len(mark) == 1 else label
        begins = not runs or runs[-1][0] != name or runs[-1][1][-1] != number - 1 or (bool(dash) and mark in ("B", "S"))
        if begins:
            runs.append((name, []))
        runs[-1][1].append(number)
    for name, numbers in runs:
        if name.upper() not in ("O", "OTHER"):
            chosen = [words[number] for number in numbers]
            yield FoundField(
                key=name,
                value=" ".join(word.text for word in chosen),
                confidence=mean([labels[number][1] for number in numbers]),
                bbox=_around([word.box for word in chosen]),
            )


def _around(boxes: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float, float]:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
