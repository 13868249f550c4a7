"""Texts to vectors with a loaded model: prompts, pooling, shortening, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.providers import Vectors
from paddock.errors import BadRequest
from paddock_onnx.facts import Facts
from paddock_onnx.model import Model

# What requests call the two kinds of texts, and under which names models keep the prompts for them.
KINDS = {
    "query": ("query", "search_query", "retrieval.query", "s2p_query"),
    "document": ("document", "passage", "search_document", "retrieval.passage", "corpus"),
}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How vectors shall be: `dimension` shortens them (for models that were trained for it), `normalize` None follows the
    model's own files; `prompt` stands before every text; with `refuse` texts beyond the model's window are errors."""

    prompt: str = ""
    dimension: int | None = None
    normalize: bool | None = None
    refuse: bool = False


class Embedded(msgspec.Struct, frozen=True):
    """Vectors of shape (texts, dimension), and how many tokens were read."""

    vectors: Vectors
    tokens: int


async def embed(model: Model, texts: Sequence[str], wanted: Wanted) -> Embedded:
    """One vector for each text. Raises BadRequest (no embedding model, a dimension that it does not have), TooLarge."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    model.must("embedding")
    items = await model.tokens(texts, model.cut(refuse=wanted.refuse), wanted.prompt)
    rows = await model.run(items)
    vectors = np.stack(rows) if rows else np.empty((0, 0), dtype=np.float32)
    return Embedded(shaped(vectors, model, wanted), sum(len(item.ids) for item in items))


def shaped(vectors: Vectors, model: Model, wanted: Wanted) -> Vectors:
    """Shortened and normalised as wanted. Raises BadRequest for more dimensions than there are."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if len(vectors) and wanted.dimension is not None:
        if wanted.dimension > vectors.shape[1]:
            raise BadRequest(
                f"the model {model.id} makes vectors of {vectors.shape[1]} numbers: set the dimension to that or less"
            )
        vectors = vectors[:, : wanted.dimension]
    normalize = model.facts.normalize if wanted.normalize is None else wanted.normalize
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) if normalize else 1
    return np.ascontiguousarray(vectors / lengths, dtype=np.float32)


def prompt_for(facts: Facts, kind: str | None) -> str:
    """The prompt of the model's own files for a kind of text (``query``, ``document``, or any name of theirs); None: the
    default one. Empty without one; a name that is neither a kind nor the model's raises BadRequest."""
    if kind is None:
        return facts.prompts.get(facts.default_prompt or "", "")
    if kind in facts.prompts:
        return facts.prompts[kind]
    names = next((names for names in KINDS.values() if kind in names), None)
    if names is None:
        known = ", ".join(dict.fromkeys([*KINDS, *facts.prompts]))
        raise BadRequest(f"unknown kind of text {kind[:40]!r}: one of {known}")
    return next((facts.prompts[name] for name in names if name in facts.prompts), "")
