"""Learning a detector from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.contracts.anomaly import Backend, Encoder, Normalization, Row
from paddock.errors import BadRequest
from paddock_anomaly import encoders
from paddock_anomaly.backends import SAMPLED, Options, learn
from paddock_anomaly.calibration import NORMALIZATIONS, Calibration
from paddock_anomaly.detector import Facts
from paddock_anomaly.encoders import Feature
from paddock_anomaly.forest import smoothed
from paddock_anomaly.rows import limit_columns, limit_rows, limit_texts, limit_width, lists_matrix, objects
from paddock_anomaly.scoring import raw_scores, scaled, session
from paddock_anomaly.settings import AnomalySettings

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Matrix = np.ndarray[Any, np.dtype[np.float32]]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit was asked for."""

    backend: Backend
    schema: Mapping[str, Encoder] | None
    normalization: Normalization
    threshold: float | None
    options: Options


def fit(rows: Sequence[Row], wanted: Wanted, settings: AnomalySettings) -> tuple[Facts, bytes]:
    """Learn a detector; returns its facts and its graph. Blocks. Raises BadRequest, TooLarge."""
    import numpy as np  # noqa: PLC0415  heavy: on first use
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  as above

    matrix, features = _training(rows, wanted.schema, settings)
    means, scales = matrix.mean(axis=0), matrix.std(axis=0)
    scales[scales <= np.abs(means) * 1e-12] = 1.0  # a constant column
    columns = scaled(matrix, means, scales)
    used = _sample(columns, wanted.backend, settings.max_sample)
    seen = smoothed(columns) if wanted.backend == "isolation_forest" else used
    with threadpool_limits(settings.threads):
        learnt = learn(wanted.backend, seen, wanted.options)
    raw, spread = learnt.raw, learnt.raw
    if raw is None:
        run = session(learnt.graph, settings.threads)
        raw = spread = raw_scores(run, wanted.backend, learnt.offset, columns, wanted.options.stopped)
        if len(seen) > len(columns):  # few scores tell little about where outliers begin
            spread = raw_scores(run, wanted.backend, learnt.offset, seen)
    calibration = Calibration.of(spread)
    facts = Facts(
        backend=wanted.backend,
        features=features,
        means=means.tolist(),
        scales=scales.tolist(),
        medians=np.median(matrix, axis=0).tolist(),
        offset=learnt.offset,
        calibration=calibration,
        normalization=wanted.normalization,
        contamination=wanted.options.contamination,
        thresholds=_thresholds(calibration, raw, wanted),
        samples_fitted=len(rows),
        samples_used=len(used),
    )
    return facts, learnt.graph


def _thresholds(calibration: Calibration, raw: Floats, wanted: Wanted) -> dict[Normalization, float]:
    """The model's threshold for each normalization; the one that was asked for stands for its own."""
    share = wanted.options.contamination
    found = {how: calibration.threshold(raw, how, share) for how in NORMALIZATIONS}
    return found if wanted.threshold is None else {**found, wanted.normalization: wanted.threshold}


def check_rows(rows: Sequence[Row], schema: Mapping[str, Encoder] | None, settings: AnomalySettings) -> None:
    """All that can be seen at a glance. Raises BadRequest, TooLarge."""
    limit_rows(len(rows), settings)
    if len(rows) < 2:
        raise BadRequest(f"data has {len(rows)} rows: learning what is normal takes two or more")
    if encoders.all_lists(rows):
        if schema is not None:
            raise BadRequest("a schema is for rows that are objects; these are lists of numbers: leave it out")
        limit_width(rows, None, settings)
        return
    if schema is None:
        raise BadRequest('rows that are objects need a schema: {"feature": "numeric", …}')
    limit_columns(len(schema), settings)


def _training(
    rows: Sequence[Row], schema: Mapping[str, Encoder] | None, settings: AnomalySettings
) -> tuple[Floats, list[Feature] | None]:
    """The training rows encoded, and the features when they are objects."""
    check_rows(rows, schema, settings)
    if schema is None:
        return lists_matrix(rows, None, settings), None
    limit_texts(rows, settings)
    features = encoders.learn(objects(rows), schema)
    limit_columns(sum(len(feature.columns()) for feature in features), settings)
    matrix = encoders.encode(objects(rows), features)
    encoders.checked(matrix, [column for feature in features for column in feature.columns()])
    return matrix, features


def _sample(columns: Matrix, backend: Backend, most: int) -> Matrix:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if backend not in SAMPLED or len(columns) <= most:
        return columns
    sample: Matrix = columns[np.linspace(0, len(columns) - 1, most).astype(int)]
    return sample
