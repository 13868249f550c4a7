"""In the helper: Donut. A page is encoded once, then text is written token by token, the likeliest each time.

Held against transformers 4.57 with a small Donut that knows two pages, exported by Optimum (tests/tiny_donut): every pixel and
every token equal, logits to 4e-5, in each of the ways in which Optimum stores a decoder; of its int8 and half precision only the
ends of the texts were compared, which are the same.
Once with one of the published size (1280 x 960, 201 million random weights): the same tokens; encoding takes 4 s on two cores,
a token 15 ms, the helper 2.4 GB.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from paddock.builtin.helper import Refused
from paddock.contracts.providers import DocumentTask, FoundAnswer, FoundClass, FoundDocument, FoundField
from paddock_extraction import facts
from paddock_extraction.facts import ANSWER, ASKED, QUESTION, ModelConfig, Preprocessor, read_json
from paddock_extraction.images import donut_pixels
from paddock_extraction.session import Session, damaged, read_tokenizer, shares
from paddock_extraction.tags import Piece, fields_of
from paddock_extraction.wire import Request

STARTS: Mapping[str, DocumentTask] = {
    "<s_cord-v2>": "extraction",
    "<s_docvqa>": "vqa",
    "<s_rvlcdip>": "classification",
    "<s_receipt>": "extraction",
    "<s_synthdog>": "extraction",
    "<s_zhtrainticket>": "extraction",
}
USUAL_LENGTH = 768


class Decoder:
    """The decoder's graphs: merged, or one for the first token and one for the others, or one that sees all tokens each time."""

    def __init__(self, graphs: Mapping[str, Path], threads: int, model: str) -> None:
        if "first" not in graphs:
            raise damaged(model, "it has no decoder")
        first, more = graphs["first"], graphs.get("next")
        self._first = Session(first, threads, model)
        self._next = self._first if more == first else Session(more, threads, model) if more else None
        self._model = model

    def steps(self, encoded: Any, prompt: Sequence[int]) -> Generator[Any, int, None]:
        """Logits of the token behind what was written so far; `send` the token that was chosen."""
        written = list(prompt)
        given = self._given(encoded, written, 0)
        if self._next is self._first:
            given |= {"use_cache_branch": [False], **_empty_past(self._first)}
        found = self._first.run(given)
        past = _past_of(found)
        while True:
            token = yield self._logits(found)
            written.append(token)
            if self._next is None or not past:
                found = self._first.run(self._given(encoded, written, 0))
                continue
            given = self._given(encoded, written[-1:], len(written) - 1)
            found = self._next.run({**given, "use_cache_branch": [True], **past})
            # What belongs to the page does not change; the cached branch leaves it out or empty.
            past |= {name: value for name, value in _past_of(found).items() if ".encoder." not in name}

    def _given(self, encoded: Any, ids: Sequence[int], before: int) -> dict[str, Any]:
        length = len(ids)
        places = np.arange(before, before + length, dtype=np.int64)
        return {
            "input_ids": [list(ids)],
            "encoder_hidden_states": encoded,
            "encoder_attention_mask": np.ones(encoded.shape[:2], dtype=np.int64),
            "attention_mask": np.ones((1, before + length), dtype=np.int64),
            "position_ids": places[None],
            "cache_position": places,
        }

    def _logits(self, found: dict[str, Any]) -> Any:
        logits = found.get("logits")
        if logits is None or logits.ndim != 3:
            raise damaged(self._model, "its decoder gives no logits")
        return logits[0, -1]


def _past_of(found: dict[str, Any]) -> dict[str, Any]:
    return {
        name.replace("present", "past_key_values", 1): value
        for name, value in found.items()
        if name.startswith("present")
    }


def _empty_past(session: Session) -> dict[str, Any]:
    """What a merged decoder wants before there is anything: one row of zeros, which it does not look at."""
    found: dict[str, Any] = {}
    for name, (kind, shape) in session.inputs.items():
        if name.startswith("past_key_values"):
            sizes = [size if isinstance(size, int) else 1 for size in shape]
            found[name] = np.zeros(sizes, dtype=kind)
    return found


class Donut:
    """A loaded model."""

    def __init__(self, folder: Path, threads: int, model: str) -> None:
        graphs = facts.graphs(folder)
        if "encoder" not in graphs:
            raise damaged(model, "it has no encoder")
        self._model = model
        self._config = read_json(folder / "config.json", ModelConfig)
        self._preprocessor = read_json(folder / "preprocessor_config.json", Preprocessor)
        self._tokenizer = read_tokenizer(folder, model)
        self._encoder = Session(graphs["encoder"], threads, model)
        self._decoder = Decoder(graphs, threads, model)
        more = folder / "generation_config.json"
        self._generation = read_json(more, ModelConfig) if more.is_file() else ModelConfig()
        self._ends = self._end_tokens()

    def _end_tokens(self) -> frozenset[int]:
        given = (self._generation.eos_token_id, self._config.eos_token_id, self._config.decoder.eos_token_id)
        found = next((one for one in given if one is not None), self._tokenizer.token_to_id("</s>"))
        return frozenset(found if isinstance(found, list) else [] if found is None else [found])

    def find(self, request: Request) -> FoundDocument:
        """Do the task for one page. Raises Refused."""
        with PIL.Image.open(request.page) as image:
            pixels = donut_pixels(image, self._preprocessor)
        states = self._encoder.run({"pixel_values": pixels})
        encoded = states.get("last_hidden_state")
        if encoded is None:
            raise damaged(self._model, "its encoder gives no last_hidden_state")
        if request.task == "vqa":
            return self._answers(request, encoded)
        pieces = self._write(self._start(request.task), encoded, request.max_tokens)
        return self._document(request, pieces)

    def _start(self, task: DocumentTask) -> str:
        """The token that sets the task: by the model's files, unless that is known to set another one; else a known one."""
        given = (self._generation.decoder_start_token_id, self._config.decoder_start_token_id)
        named = next((one for one in (*given, self._config.decoder.decoder_start_token_id) if one is not None), None)
        token = None if named is None else self._tokenizer.id_to_token(named)
        own = token if token is not None and token.startswith("<s_") else None
        if own and STARTS.get(own, task) == task:
            return str(own)
        known = [one for one in STARTS if self._tokenizer.token_to_id(one) is not None]
        found = next((one for one in known if STARTS[one] == task), None) or own or next(iter(known), token)
        if found is None:
            raise damaged(self._model, "its files name no token to start with")
        return str(found)

    def _write(self, prompt: str, encoded: Any, limit: int) -> list[Piece]:
        """What the model writes for a prompt, the prompt's own text first. Bounded by `limit` and the model's length."""
        ids = self._tokenizer.encode(prompt, add_special_tokens=False).ids
        decoder = self._config.decoder
        longest = decoder.max_position_embeddings or decoder.max_length or self._config.max_length or USUAL_LENGTH
        room = min(limit, longest - len(ids) - 1)
        if room < 1:
            raise Refused(f"can't be read: the question is too long for {self._model}, which takes {longest} tokens")
        chosen: list[tuple[int, float]] = []
        steps = self._decoder.steps(encoded, ids)
        logits = next(steps)
        while len(chosen) < room:
            token, sure = self._likeliest(logits)
            if token in self._ends:
                break
            chosen.append((token, sure))
            logits = steps.send(token)
        return [Piece(prompt, 1.0), *self._pieces(ids, chosen)]

    def _likeliest(self, logits: Any) -> tuple[int, float]:
        logits = np.array(logits, dtype=np.float64)
        unknown = self._tokenizer.token_to_id("<unk>")
        if unknown is not None and unknown < len(logits):
            logits[unknown] = -np.inf
        if not np.isfinite(logits.max()):
            raise damaged(self._model, "it gives NaN")
        token = int(logits.argmax())
        return token, float(shares(logits)[token])

    def _pieces(self, prompt: Sequence[int], chosen: Sequence[tuple[int, float]]) -> Iterator[Piece]:
        """The text of each token: what it adds to the text before it."""
        ids = list(prompt)
        before = self._tokenizer.decode(ids, skip_special_tokens=False)
        for token, sure in chosen:
            ids.append(token)
            after = self._tokenizer.decode(ids, skip_special_tokens=False)
            yield Piece(after[len(before) :] if after.startswith(before) else "", sure)
            before = after

    def _answers(self, request: Request, encoded: Any) -> FoundDocument:
        texts: list[str] = []
        fields: list[FoundField] = []
        answers: list[FoundAnswer] = []
        for asked in request.prompts:
            question = asked.replace("<", " ").replace(">", " ").strip()  # a question is text, never a tag
            prompt = f"{self._start(request.task)}{QUESTION}{question}{ASKED}{ANSWER}"
            pieces = self._write(prompt, encoded, request.max_tokens)
            texts.append("".join(piece.text for piece in pieces))
            written = "".join(piece.text for piece in pieces[1:]).partition("</s_answer>")[0].strip()
            sure = mean([piece.confidence for piece in pieces[1:]])
            answers.append(FoundAnswer(question=asked, answer=written, confidence=sure))
            fields += [
                FoundField(key="question", value=asked, confidence=sure),
                FoundField(key="answer", value=written, confidence=sure),
            ]
        overall = mean([answer.confidence for answer in answers])
        return FoundDocument(confidence=overall, text="\n".join(texts), fields=fields, answers=answers)

    def _document(self, request: Request, pieces: Sequence[Piece]) -> FoundDocument:
        text = "".join(piece.text for piece in pieces)
        fields = fields_of(pieces[1:])
        sure = mean([piece.confidence for piece in pieces[1:]])
        if request.task == "extraction":
            return FoundDocument(confidence=sure, text=text, fields=fields)
        kind = next((one for one in fields if one.key == "class"), None)
        if kind is None:
            raise Refused(f"is of no kind that {self._model} knows: it wrote {text[:100]!r}")
        found = FoundClass(label=kind.value, score=kind.confidence, all_scores={kind.value: kind.confidence})
        return FoundDocument(confidence=kind.confidence, text=text, fields=fields, classification=found)


def mean(values: Sequence[float]) -> float:
    """The mean, 0 of nothing."""
    return round(sum(values) / len(values), 4) if values else 0.0
