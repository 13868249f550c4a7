"""Using a new model once: does it take what it should, and give what its config promises?"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_onnx.dense import read_layers
from paddock_onnx.facts import Facts
from paddock_onnx.importing.tokenizer import FILE, calm
from paddock_onnx.session import Session

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LENGTHS = (5, 3)  # of the two texts that are tried
SAMPLE = f"A cow gives 30 litres. {string.printable[:95]} \u00e9\u00df \u4e2d\u6587 \U0001f680"
GROWN = 8  # times as long as a text its tokens may be, and what the normalizer makes of it
SPECIAL = 64  # tokens that may be put around a text


def verify(folder: Path, graph: Path, facts: Facts, providers: Sequence[str] = ()) -> None:
    """Raise ValidationFailed unless the tokenizer reads a text, and the graph gives finite numbers of the right shape for two
    texts of different lengths."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    session = Session.open(folder, graph, providers=providers, threads=1)
    with calm(lambda why: ValidationFailed(f"{FILE} can't be used: {why}")):
        _try(session.tokenizer)
    longest = max(LENGTHS)
    ids = np.full((len(LENGTHS), longest), session.padding, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = np.arange(length) + min(session.padding + 1, 2)
        mask[row, :length] = 1
    try:
        found = session.run(ids, mask)
    except ProviderUnavailable as error:
        raise ValidationFailed(f"the weights do not fit each other: {error.message}") from error
    if not bool(np.isfinite(found).all()):
        raise ValidationFailed("the graph gives NaN or infinity: its weights are damaged")
    if not facts.fits(found.shape, len(LENGTHS), longest):
        raise ValidationFailed(
            f"the graph gives {found.shape} for two texts of {longest} tokens, which is no {facts.task} model with "
            f"{len(facts.labels)} labels: its config.json does not belong to it"
        )
    layers = read_layers(folder, facts.dense)
    if found.ndim == 3 and layers and layers[0].takes != found.shape[-1]:
        raise ValidationFailed(
            f"{facts.dense[0]} takes {layers[0].takes} numbers, but the graph gives {found.shape[-1]}"
        )


def _try(tokenizer: Tokenizer) -> None:
    """Raise ValidationFailed unless the tokens of a text, alone and behind another, are as many as they should be."""
    normal = tokenizer.normalizer.normalize_str(SAMPLE) if tokenizer.normalizer else SAMPLE
    bare = tokenizer.encode(SAMPLE, add_special_tokens=False)
    count = len(bare.ids)
    if max(len(normal), count) > GROWN * len(SAMPLE):
        raise ValidationFailed(f"{FILE} makes {max(len(normal), count)} parts of {len(SAMPLE)} characters")
    for texts, whole in ((1, tokenizer.post_process(bare)), (2, tokenizer.post_process(bare, bare))):
        added = tokenizer.num_special_tokens_to_add(texts == 2)
        if added > SPECIAL or len(whole.ids) != texts * count + added:
            raise ValidationFailed(f"{FILE} makes {len(whole.ids)} tokens of {texts} \u00d7 {count}")
