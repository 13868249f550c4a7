"""A model in memory: texts to tokens, tokens through the graph, outputs to results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from paddock.errors import BadRequest, ProviderUnavailable, TooLarge, ValidationFailed
from paddock_onnx.batching import Batcher, Bound, Tokens
from paddock_onnx.cache import CachedGraph
from paddock_onnx.dense import Dense, read_layers
from paddock_onnx.facts import Facts, Task, read_facts
from paddock_onnx.importing.tokenizer import calm
from paddock_onnx.probe import probe
from paddock_onnx.session import Session
from paddock_onnx.settings import OnnxSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding

    Array = NDArray[np.float32]

R = TypeVar("R")
MIB = 1024 * 1024
PART = 50_000  # characters that one request's texts have when it is another's turn
LETTERS = 16  # of a token: more than those of running text have
SPARE = 64  # tokens; what a text is cut to has its last ones from elsewhere
DOES = {
    "embedding": "makes embeddings (/v1/embeddings)",
    "rerank": "reranks (/v1/rerank)",
    "classification": "classifies (/v1/classify)",
    "ner": "finds entities (/v1/ner)",
}


class Cut(msgspec.Struct, frozen=True):
    """How texts are cut to a length in tokens; with `refuse` one that is longer is an error instead."""

    length: int
    refuse: bool = False


class Model:
    """A loaded model. Its methods may be called concurrently; they share batches."""

    def __init__(self, found: CachedGraph, facts: Facts, session: Session, size: int, settings: OnnxSettings) -> None:
        self.id = found.id
        self.facts = facts
        self.size = size
        self.tokenizer = session.tokenizer
        self._settings = settings
        self._batcher: Batcher[Array] = Batcher(
            Runs(found.id, facts, session, read_layers(found.folder, facts.dense)),
            settings.batch_tokens,
            Bound(settings.timeout_seconds, session.stop),
        )
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="onnx-texts")  # the server's own are for short work

    @classmethod
    def load(cls, found: CachedGraph, settings: OnnxSettings) -> Model:
        """Load; blocks. Raises ValidationFailed for damaged files, ProviderUnavailable."""
        facts = read_facts(found.folder)
        session = Session.open(found.folder, found.graph, providers=settings.providers, threads=settings.threads)
        return cls(found, facts, session, size_of(found, settings), settings)

    def must(self, task: Task) -> None:
        """Raise BadRequest, with what the model does, unless it does this."""
        if self.facts.task != task:
            raise BadRequest(f"the model {self.id} {DOES[self.facts.task]}; it can't be asked for this")

    def cut(self, length: int | None = None, *, refuse: bool = False) -> Cut:
        """Up to the model's window, or `length` tokens. Raises BadRequest when that is beyond the window."""
        if length is not None and length > self.facts.window:
            raise BadRequest(f"max_length {length} is more than the {self.facts.window} tokens that {self.id} can read")
        return Cut(length or self.facts.window, refuse)

    async def tokens(self, texts: Sequence[str], cut: Cut, prompt: str = "") -> list[Tokens]:
        """Texts as tokens, each behind the prompt. Raises TooLarge naming the limit, BadRequest for one too long to read when
        `cut` refuses."""
        self.check(texts)
        with self.reading():
            return await self.in_parts(texts, lambda at, part: self._tokens(part, cut, prompt, at))

    async def aside(self, work: Callable[[], R]) -> R:
        """What blocks or computes, in a thread of the model."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def in_parts(self, texts: Sequence[str], work: Callable[[int, Sequence[str]], Sequence[R]]) -> list[R]:
        """`work` on some of the texts after others (and the place of the first), aside: other requests get their turn in
        between. One result for each text."""
        found: list[R] = []
        while (at := len(found)) < len(texts):
            end, size = at + 1, len(texts[at])
            while end < len(texts) and (size := size + len(texts[end])) <= PART:
                end += 1
            found += await self.aside(partial(work, at, texts[at:end]))
        return found

    def check(self, texts: Sequence[str]) -> None:
        """Raise TooLarge when one request has too many texts, or one of them too many characters."""
        settings = self._settings
        if len(texts) > settings.max_texts:
            raise TooLarge(f"{len(texts)} texts in one request; the setting onnx.max_texts allows {settings.max_texts}")
        longest = max(map(len, texts), default=0)
        if longest > settings.max_text_chars:
            raise TooLarge(
                f"a text of {longest} characters; the setting onnx.max_text_chars allows {settings.max_text_chars}"
            )

    def _tokens(self, texts: Sequence[str], cut: Cut, prompt: str, at: int) -> list[Tokens]:
        tokenizer = self.tokenizer
        room = max(0, cut.length - tokenizer.num_special_tokens_to_add(False))
        skip = self._length(prompt) if prompt and not self.facts.pool_prompt else 0
        found = []
        for place, one in enumerate(self._bare([self._trimmed(prompt + text) for text in texts], room, cut)):
            if len(one.ids) > room:
                if cut.refuse:
                    raise BadRequest(
                        f"text {at + place} has {len(one.ids)} tokens, {self.id} reads {room}: shorten it, or leave truncate away"
                    )
                one.truncate(room)
            whole = tokenizer.post_process(one)
            found.append(Tokens(whole.ids, _kinds(whole), skip))
        return found

    def _length(self, prompt: str) -> int:
        """The tokens of a prompt in front of a text, the one that begins every text among them."""
        one = self.tokenizer.encode(self._trimmed(prompt))
        return len(one.ids) - sum(one.special_tokens_mask[-1:])

    def _trimmed(self, text: str) -> str:
        """A text as sentence-transformers gives it to the tokenizer of an embedding model."""
        if self.facts.task == "embedding":
            text = text.strip()
        return text.lower() if self.facts.lower else text

    def _bare(self, texts: Sequence[str], room: int, cut: Cut) -> list[Encoding]:
        """Texts without special tokens, or at least the first `room` of each: unless every one counts, the rest of a text that
        is far longer is not looked at."""
        texts = [printable(text) for text in texts]
        heads = texts if cut.refuse else [beginning(text, (room + SPARE) * LETTERS) for text in texts]
        found: list[Encoding] = self.tokenizer.encode_batch(heads, add_special_tokens=False)
        for place, one in enumerate(found):
            if len(heads[place]) < len(texts[place]) and len(one.ids) < room + SPARE:
                found[place] = self.tokenizer.encode(texts[place], add_special_tokens=False)
        return found

    async def pairs(self, question: str, texts: Sequence[str], cut: Cut, most: int | None = None) -> list[Tokens]:
        """Each text, of which at most `most` tokens count, behind the question as one input; the longer part is cut first.
        Raises as `tokens`."""
        self.check([question, *texts])
        with self.reading():
            return await self.in_parts(texts, lambda at, part: self._pairs(question, part, cut, most, at))

    def reading(self) -> AbstractContextManager[None]:
        """Whatever the tokenizer makes of a text that it can't take, it is a ProviderUnavailable at the end of this block."""
        return calm(
            lambda why: ProviderUnavailable(f"the tokenizer of {self.id} can't read a text: {why}; send another")
        )

    def _pairs(self, question: str, texts: Sequence[str], cut: Cut, most: int | None, at: int) -> list[Tokens]:
        tokenizer = self.tokenizer
        room = max(2, cut.length - tokenizer.num_special_tokens_to_add(True))
        first, *rest = self._bare([question, *texts], room, cut)
        asked: dict[int, Encoding] = {len(first.ids): first}  # the question by its length
        found = []
        for place, one in enumerate(rest):
            length = len(one.ids) if most is None else min(most, len(one.ids))
            left, right = shares(len(first.ids), length, room)
            if cut.refuse and (left, right) != (len(first.ids), length):
                raise BadRequest(
                    f"the query and document {at + place} have more than the {room} tokens that {self.id} reads"
                )
            one.truncate(right)
            if left not in asked:
                asked[left] = tokenizer.encode(printable(question), add_special_tokens=False)
                asked[left].truncate(left)
            pair = tokenizer.post_process(asked[left], one)
            found.append(Tokens(pair.ids, pair.type_ids))
        return found

    async def run(self, items: Sequence[Tokens]) -> list[Array]:
        """For each text: its vector of an embedding model, its scores of a classifier, one row for each token of a token
        classifier. Raises ProviderUnavailable when the model gives NaN."""
        return await self._batcher.submit(items)


class Runs:
    """Batches through the graph. It knows nothing of its model, which is gone with the last who holds it: weights do not wait
    for a collection of circles."""

    def __init__(self, model: str, facts: Facts, session: Session, layers: Sequence[Dense]) -> None:
        self._model = model
        self._facts = facts
        self._session = session
        self._layers = layers

    def __call__(self, items: Sequence[Tokens]) -> list[Array]:
        ids, mask, kinds = self._padded(items)
        output = self._session.run(ids, mask, kinds)
        if not self._facts.fits(output.shape, *ids.shape):
            raise ProviderUnavailable(
                f"the model {self._model} gives {output.shape} for {ids.shape[0]} texts: its files do not belong together, "
                "fetch or import it again"
            )
        if self._facts.task == "embedding" and output.ndim == 3:
            output = pool(output, self._pooled_tokens(mask, items), self._facts)
            for layer in self._layers:
                output = layer(output)
            found = list(output)
        elif output.ndim == 3:
            found = [row[: len(item.ids)].copy() for row, item in zip(output, items, strict=True)]
        else:
            found = list(output)
        _check_finite(found, self._model)
        return found

    def _padded(self, items: Sequence[Tokens]) -> tuple[Any, Any, Any]:
        import numpy as np  # noqa: PLC0415  heavy: on first use

        longest = max(1, *(len(item.ids) for item in items))
        ids = np.full((len(items), longest), self._session.padding, dtype=np.int64)
        mask = np.zeros((len(items), longest), dtype=np.int64)
        kinds = np.zeros((len(items), longest), dtype=np.int64)
        for row, item in enumerate(items):
            ids[row, : len(item.ids)] = item.ids
            mask[row, : len(item.ids)] = 1
            if item.kinds is not None:
                kinds[row, : len(item.ids)] = item.kinds
        return ids, mask, kinds

    def _pooled_tokens(self, mask: Any, items: Sequence[Tokens]) -> Any:
        if not any(item.skip for item in items):
            return mask
        counted = mask.copy()
        for row, item in enumerate(items):
            counted[row, : min(item.skip, len(item.ids) - 1)] = 0
        return counted


def size_of(found: CachedGraph, settings: OnnxSettings) -> int:
    """The bytes that a model needs in memory, about: those of its graph with what lies beside it. Raises ValidationFailed for
    a file that is not sound."""
    seen = probe(found.graph, settings.max_model_mb * MIB)
    beside = sum((found.graph.parent / name).stat().st_size for name in seen.external)
    return found.graph.stat().st_size + beside


def pool(output: Array, mask: Any, facts: Facts) -> Array:
    """One vector a text of one a token: `output` has the shape (texts, tokens, dimension), `mask` is 1 where a token counts."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if facts.pooling == "cls":
        return output[:, 0].copy()
    if facts.pooling == "lasttoken":
        last = mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1)
        return np.asarray(output[np.arange(len(output)), last])
    if facts.pooling == "max":
        return np.asarray(np.where(mask[..., None] == 1, output, np.float32(-1e9)).max(axis=1))
    weights = mask.astype(np.float32)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(np.matmul(weights[:, None, :], output)[:, 0])


def shares(left: int, right: int, room: int) -> tuple[int, int]:
    """How many tokens of either part stay when the longer one is cut first."""
    if left + right <= room:
        return left, right
    half = room // 2
    if left <= half:
        return left, room - left
    if right <= half:
        return room - right, right
    return room - half, half


def beginning(text: str, most: int) -> str:
    """The first `most` characters of a text up to a white space, or all of it where there is none to end at."""
    if len(text) <= most:
        return text
    head = text[:most].rsplit(maxsplit=1)
    return head[0] if len(head) == 2 and len(head[0]) > most // 2 else text


def printable(text: str) -> str:
    """A text that the tokenizer can take: lone surrogates are replaced."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _kinds(encoding: Encoding) -> Sequence[int] | None:
    kinds = encoding.type_ids
    return kinds if any(kinds) else None


def _check_finite(found: Sequence[Array], model: str) -> None:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if not all(bool(np.isfinite(one).all()) for one in found):
        raise ProviderUnavailable(
            f"the model {model} gives NaN or infinity: its files are damaged, fetch or import it again"
        )


Loader = Callable[[CachedGraph, OnnxSettings], Model]


def measured(found: CachedGraph, settings: OnnxSettings) -> int:
    """`size_of`, and whether a model of this size may be loaded at all. Raises ProviderUnavailable naming the setting."""
    size = size_of(found, settings)
    if size > settings.memory_mb * MIB:
        raise ValidationFailed(
            f"the model {found.id} has {size // MIB} MiB, the setting onnx.memory_mb allows {settings.memory_mb} for all"
        )
    return size
