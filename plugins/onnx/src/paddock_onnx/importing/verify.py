"""Running a new graph once: does it take what it should, and give what its config promises?"""

from __future__ import annotations

from pathlib import Path

from paddock.errors import ProviderUnavailable, ValidationFailed
from paddock_onnx.facts import Facts
from paddock_onnx.session import Session

LENGTHS = (5, 3)  # of the two texts that are tried


def verify(folder: Path, graph: Path, facts: Facts) -> None:
    """Raise ValidationFailed unless the graph gives finite numbers of the right shape for two texts of different lengths."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    session = Session.open(folder, graph, providers=(), threads=1)
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
    expected = {
        "embedding": found.shape[:-1] in ((2, longest), (2,)),
        "ner": found.shape == (2, longest, len(facts.labels)),
    }.get(facts.task, found.shape == (2, len(facts.labels)))
    if not expected:
        raise ValidationFailed(
            f"the graph gives {found.shape} for two texts of {longest} tokens, which is no {facts.task} model with "
            f"{len(facts.labels)} labels: its config.json does not belong to it"
        )
