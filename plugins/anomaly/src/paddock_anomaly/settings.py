"""The section ``anomaly`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]


class AnomalySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of what is learnt and scored.

    `max_rows` of one request, `max_features` columns of a row after encoding, `max_text` characters of a text in a row,
    `max_explained` rows times features of the explanations of a reply. `max_sample`: one_class_svm and
    local_outlier_factor, whose cost grows with the square, learn from an even sample of more rows than these.
    `threads` of a fit and of scoring; `keep_loaded` models stay in memory.
    """

    max_rows: Positive = 100_000
    max_features: Positive = 1000
    max_text: Positive = 10_000
    max_explained: Positive = 100_000
    max_sample: Annotated[int, msgspec.Meta(ge=2)] = 10_000
    threads: Positive = 1
    keep_loaded: Positive = 8
