"""Between the contracts' structs and the detector's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from paddock.builtin.trained import Found, Key, base_name, is_version, not_there, shown
from paddock.contracts.anomaly import (
    AnomalyFit,
    AnomalyFitted,
    AnomalyItem,
    AnomalyScore,
    Backend,
    Detected,
    DetectedRow,
    DetectSummary,
    EncoderInfo,
    ModelParams,
    Scored,
    ScoredRow,
    ScoreSummary,
)
from paddock.contracts.fits import Fitting
from paddock.errors import Conflict, ModelNotFound
from paddock.storage import check_name
from paddock_anomaly.backends import Options
from paddock_anomaly.detector import Detector, Facts
from paddock_anomaly.fitting import Wanted

BACKENDS: tuple[Backend, ...] = get_args(Backend)
SUFFIXES = (".onnx", ".pkl", ".joblib", ".pt")


def about(request: AnomalyFit) -> Fitting:
    """A fit in the list."""
    return Fitting(model=request.model, backend=request.backend, samples=len(request.data))


def wanted(request: AnomalyFit, stopped: Callable[[], bool]) -> Wanted:
    """What the request asks a fit for."""
    options = Options(
        contamination=request.contamination,
        epochs=request.epochs or 100,
        batch_size=request.batch_size or 32,
        stopped=stopped,
    )
    return Wanted(
        backend=request.backend,
        schema=request.schema,
        normalization=request.normalization,
        threshold=request.threshold,
        options=options,
    )


def fitted(model: str, facts: Facts, path: Path, elapsed_ms: float) -> AnomalyFitted:
    """The reply to a fit."""
    schema = facts.schema
    return AnomalyFitted(
        model=model,
        backend=facts.backend,
        samples_fitted=facts.samples_fitted,
        training_time_ms=elapsed_ms,
        model_params=ModelParams(
            backend=facts.backend,
            contamination=facts.contamination,
            threshold=facts.threshold,
            input_dim=len(facts.means),
            normalization=facts.normalization,
            samples_used=facts.samples_used,
        ),
        encoder=None if schema is None else EncoderInfo(schema=dict(schema), features=facts.columns),
        saved_path=shown(path, 2),
    )


def scored(
    model: str, detector: Detector, data: AnomalyScore, *, anomalies: bool, stopped: Callable[[], bool]
) -> Scored:
    """Score the rows; with `anomalies` only those are explained. Blocks. Raises BadRequest, TooLarge, and
    ProviderUnavailable when stopped."""
    facts = detector.facts
    how = data.normalization or facts.normalization
    threshold = facts.thresholds[how] if data.threshold is None else data.threshold
    matrix = detector.matrix(data.data)
    raw = detector.raw(matrix, stopped)
    pairs = zip(facts.calibration.normalized(raw, how).tolist(), raw.tolist(), strict=True)
    rows = [
        ScoredRow(index=at, score=score, is_anomaly=score > threshold, raw_score=own)
        for at, (score, own) in enumerate(pairs)
    ]
    if data.explain:
        chosen = [row.index for row in rows if row.is_anomaly or not anomalies]
        explained = detector.explain([data.data[at] for at in chosen], matrix[chosen], raw[chosen], stopped)
        for at, parts in zip(chosen, explained, strict=True):
            rows[at].contributions = parts
    count = sum(row.is_anomaly for row in rows)
    rate = count / len(rows) if rows else 0.0
    summary = ScoreSummary(total_points=len(rows), anomaly_count=count, anomaly_rate=rate, threshold=threshold)
    return Scored(data=rows, total_count=len(rows), model=model, backend=facts.backend, summary=summary)


def detected(scores: Scored) -> Detected:
    """Only the anomalies."""
    rows = [
        DetectedRow(index=row.index, score=row.score, raw_score=row.raw_score, contributions=row.contributions)
        for row in scores.data
        if row.is_anomaly
    ]
    return Detected(
        data=rows,
        total_count=len(rows),
        model=scores.model,
        backend=scores.backend,
        summary=DetectSummary(anomalies_detected=len(rows), threshold=scores.summary.threshold),
    )


def filename(key: Key) -> str:
    """What the list calls a model."""
    return f"{key[0]}_{key[1]}.onnx"


def item(found: Found) -> AnomalyItem:
    """A model in the list."""
    name, backend = found.key
    saved = found.saved
    return AnomalyItem(
        name=name,
        filename=filename(found.key),
        base_name=base_name(name),
        backend=backend,
        path=shown(found.path, 2),
        size_bytes=found.size,
        created=saved.created if saved else 0.0,
        modified=saved.modified if saved else 0.0,
        is_versioned=is_version(name),
        description=saved.description if saved else None,
        error=found.error,
    )


def named(text: str, keys: Sequence[Key]) -> Key:
    """The model that a file name, ``NAME_BACKEND`` or a bare name means. Raises BadName, ModelNotFound, Conflict."""
    stem = next((text.removesuffix(end) for end in SUFFIXES if text.endswith(end)), text)
    backend = next((one for one in BACKENDS if stem.endswith(f"_{one}")), None)
    name = stem if backend is None else stem.removesuffix(f"_{backend}")
    check_name(name, "file name")
    if backend is not None and (name, backend) in keys:
        return name, backend
    bare = [key for key in keys if key[0] in (text, stem)]
    if len(bare) > 1:
        raise Conflict(f"{text[:64]} has several backends: delete one of {', '.join(map(filename, bare))}")
    if not bare:
        raise ModelNotFound(missing(name, backend, keys, text))
    return bare[0]


def missing(name: str, backend: Backend | None, keys: Sequence[Key], shown: str | None = None) -> str:
    """The sentence about a model that is not there, with near names; `shown` is what was asked for instead of the name."""
    what = "anomaly model"
    others = sorted({key[1] for key in keys if key[0] == name})
    if others and backend:
        return f"no {what} {name[:64]!r} with the backend {backend}; it was fitted with {', '.join(others)}"
    return not_there(what, name, sorted({key[0] for key in keys}), shown)
