"""The section ``classifier`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class ClassifierSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of what is learnt and classified.

    `base_model` where a fit names none; ``auto`` is all-MiniLM-L6-v2 when it is in the model cache, else ``core/hashing``.
    `max_texts` of one request, `max_text` characters of a text, `max_label` of a label, `max_classes` labels of a model,
    `max_scores` texts times labels of a reply.
    `threads` of a fit and of scoring; `keep_loaded` models stay in memory.
    """

    base_model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] = "auto"
    max_texts: Positive = 20_000
    max_text: Positive = 20_000
    max_label: Positive = 200
    max_classes: Annotated[int, msgspec.Meta(ge=2)] = 1000
    max_scores: Positive = 1_000_000
    threads: Positive = 1
    keep_loaded: Positive = 16
