"""Anomaly detectors: learn what is normal from rows of numbers or of mixed values, then say which rows are strange.

Two families of paths stand over one store of models. ``/v1/anomaly`` (the Universal Runtime's) takes a model's name as it
is, and a fit replaces. ``/v1/ml/anomaly`` (LlamaFarm's) keeps versions: unless `overwrite` is true a fit stores
``NAME_YYYYmmdd_HHMMSS``, and ``NAME-latest`` stands for the newest version, or for NAME itself when there is none.

Rows are lists of numbers, all of one length, or objects with a `schema` that says how each feature becomes numbers:
``numeric`` (what is no number counts as 0), ``hash`` (a number below a million made of the text), ``label`` (the place
among the sorted values seen, from 1; an unseen one 0), ``onehot`` (a column for each of the values seen, 100 at most),
``binary`` (true, yes, 1, on, t, y), ``frequency`` (how large a part of the training data has the value). Keys of a row that
the schema does not name are not looked at, missing ones count as null.

Scores: `raw_score` is the backend's own, higher is stranger. `score` grows with it: ``standardization`` maps it into
(0, 1) such that 0.5 is where outliers begin among the training scores (Tukey's fence: a point and a half of the middle
half's width above it), ``zscore`` counts standard deviations above the training mean, ``raw`` changes nothing. A row is an
anomaly when its score is above the threshold: the one given, or the model's own, above which the share `contamination` of
the training data lies (none of it when that is less than one row). An isolation_forest of fewer than 256 rows learns from
noisy copies of them too, and finds its fence among all these.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Json, Name, endpoint
from paddock.contracts.fits import Fitting
from paddock.errors import (
    BadName,
    BadRequest,
    Conflict,
    Forbidden,
    ModelNotFound,
    ProviderUnavailable,
    RateLimited,
    TooLarge,
    ValidationFailed,
)

Backend = Literal["isolation_forest", "one_class_svm", "local_outlier_factor", "autoencoder"]
Encoder = Literal["numeric", "hash", "label", "onehot", "binary", "frequency"]
Normalization = Literal["standardization", "zscore", "raw"]
Row = list[float] | dict[str, Json]
_FIT = (BadName, BadRequest, TooLarge, ValidationFailed, RateLimited, ProviderUnavailable)
_USE = (BadName, BadRequest, Forbidden, ModelNotFound, TooLarge, ValidationFailed, ProviderUnavailable)


class AnomalyFit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to learn from: two rows or more.

    `epochs` (100 at most; fewer when nothing more is learnt) and `batch_size` (32) are the autoencoder's, and refused for
    another backend.
    """

    model: Name = "default"
    backend: Backend = "isolation_forest"
    data: list[Row]
    schema: dict[str, Encoder] | None = None
    contamination: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.1
    normalization: Normalization = "standardization"
    threshold: float | None = None
    epochs: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    batch_size: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    description: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class AnomalyFitVersioned(AnomalyFit, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same; with `overwrite` the model keeps its name and replaces the one that has it."""

    overwrite: bool = False


class AnomalyScore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows like those of the fit.

    `backend` null: isolation_forest, or the only one that the model has. `normalization` null: the fit's. `explain` adds
    to each row of the reply what each feature contributes.
    """

    model: Name = "default"
    backend: Backend | None = None
    data: list[Row]
    normalization: Normalization | None = None
    threshold: float | None = None
    explain: bool = False


class AnomalyModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A saved model; `backend` null: isolation_forest, or the only one that the model has."""

    model: Name = "default"
    backend: Backend | None = None


class AnomalySave(AnomalyModel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to keep, and a description for people; null leaves the one it has."""

    description: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class AnomalyFilePath(msgspec.Struct, frozen=True, kw_only=True):
    """A model's file as the list names it; ``NAME_BACKEND`` with ``.pkl``, ``.joblib``, ``.pt`` or nothing behind it, and
    NAME alone, mean the same model."""

    filename: Name


class ModelParams(msgspec.Struct, kw_only=True):
    """What was learnt: `input_dim` counts columns after encoding, `samples_used` the rows that the backend learnt from
    (one_class_svm and local_outlier_factor take an even sample of very many)."""

    backend: str
    contamination: float
    threshold: float
    input_dim: int
    normalization: str
    samples_used: int


class EncoderInfo(msgspec.Struct, kw_only=True):
    """How objects become numbers: the schema, and the columns in their order."""

    schema: dict[str, str]
    features: list[str]


class AnomalyFitted(msgspec.Struct, kw_only=True):
    """A model that was learnt and saved."""

    object: Literal["fit_result"] = "fit_result"
    model: str
    backend: str
    samples_fitted: int
    training_time_ms: float
    model_params: ModelParams
    encoder: EncoderInfo | None
    saved_path: str
    status: Literal["fitted"] = "fitted"


class AnomalyFittedVersioned(AnomalyFitted, kw_only=True):
    """The same with the name that was asked for and the one that the model got."""

    base_name: str
    versioned_name: str
    overwrite: bool


class Contribution(msgspec.Struct, kw_only=True):
    """By how much a feature makes the row stranger, in units of the raw score; negative when it makes it more normal.

    The mean of two differences: the row's raw score less that of the row with the feature at its training median, and that
    of a row of medians with only this feature as it is, less that of the medians. With one or two features they add up to
    the row's raw score less that of the medians, with more about so. `value` is what the request said."""

    feature: str
    value: Json
    contribution: float


class ScoredRow(msgspec.Struct, kw_only=True):
    """A row by its place in the request; `contributions` only when they were asked for, the largest first."""

    index: int
    score: float
    is_anomaly: bool
    raw_score: float
    contributions: list[Contribution] | msgspec.UnsetType = msgspec.UNSET


class DetectedRow(msgspec.Struct, kw_only=True):
    """A row that is an anomaly."""

    index: int
    score: float
    raw_score: float
    contributions: list[Contribution] | msgspec.UnsetType = msgspec.UNSET


class ScoreSummary(msgspec.Struct, kw_only=True):
    """`anomaly_rate` is the share of the rows, 0 without rows."""

    total_points: int
    anomaly_count: int
    anomaly_rate: float
    threshold: float


class DetectSummary(msgspec.Struct, kw_only=True):
    """How many, and above which threshold."""

    anomalies_detected: int
    threshold: float


class Scored(msgspec.Struct, kw_only=True):
    """Every row, in the order of the request."""

    object: Literal["list"] = "list"
    data: list[ScoredRow]
    total_count: int
    model: str
    backend: str
    summary: ScoreSummary


class Detected(msgspec.Struct, kw_only=True):
    """The anomalies, in the order of the request; `total_count` counts them."""

    object: Literal["list"] = "list"
    data: list[DetectedRow]
    total_count: int
    model: str
    backend: str
    summary: DetectSummary


class AnomalySaved(msgspec.Struct, kw_only=True):
    """The model is on disk."""

    object: Literal["save_result"] = "save_result"
    model: str
    backend: str
    filename: str
    path: str
    description: str | None
    status: Literal["saved"] = "saved"


class AnomalyLoaded(msgspec.Struct, kw_only=True):
    """The model is in memory; `model` is the version that was meant."""

    object: Literal["load_result"] = "load_result"
    model: str
    backend: str
    filename: str
    path: str
    threshold: float
    is_fitted: bool = True
    status: Literal["loaded"] = "loaded"


class AnomalyItem(msgspec.Struct, kw_only=True):
    """A saved model. `created` and `modified` are seconds since 1970; `error` says why it can't be used, null when it can."""

    name: str
    filename: str
    base_name: str
    backend: str
    path: str
    size_bytes: int
    created: float
    modified: float
    is_versioned: bool
    description: str | None
    error: str | None


class AnomalyList(msgspec.Struct, kw_only=True):
    """All saved models, the newest first, and the fits that are not done, in their order."""

    object: Literal["list"] = "list"
    data: list[AnomalyItem]
    models_dir: str
    total: int
    fitting: list[Fitting]


class AnomalyDeleted(msgspec.Struct, kw_only=True):
    """The model that was deleted, by the name of its file."""

    object: Literal["delete_result"] = "delete_result"
    filename: str
    deleted: bool = True


@endpoint("POST", "/v1/anomaly/fit", access="write", tags=("ml",), raises=_FIT)
def anomaly_fit(ctx: Context, data: AnomalyFit) -> Awaitable[AnomalyFitted]:
    """Learn and save a detector under exactly this name, replacing what has it. A fit goes on when its client leaves, and is
    done at the next start when the server ends in between; the list of models tells those under way."""


@endpoint("POST", "/v1/anomaly/score", access="infer", tags=("ml",), raises=_USE)
def anomaly_score(ctx: Context, data: AnomalyScore) -> Awaitable[Scored]:
    """Score every row."""


@endpoint("POST", "/v1/anomaly/detect", access="infer", tags=("ml",), raises=_USE)
def anomaly_detect(ctx: Context, data: AnomalyScore) -> Awaitable[Detected]:
    """Return the rows that are anomalies."""


@endpoint(
    "POST", "/v1/anomaly/save", access="write", tags=("ml",), raises=(BadName, ModelNotFound, ProviderUnavailable)
)
def anomaly_save(ctx: Context, data: AnomalySave) -> Awaitable[AnomalySaved]:
    """Set a model's description. A fit has saved the model itself already. Idempotent."""


@endpoint("POST", "/v1/anomaly/load", access="infer", tags=("ml",), raises=_USE)
def anomaly_load(ctx: Context, data: AnomalyModel) -> Awaitable[AnomalyLoaded]:
    """Load a model before it is needed; scoring does so by itself."""


@endpoint("GET", "/v1/anomaly/models", access="infer", tags=("ml",))
def anomaly_models(ctx: Context) -> Awaitable[AnomalyList]:
    """List the saved models that the caller may use."""


@endpoint(
    "DELETE",
    "/v1/anomaly/models/{filename}",
    access="write",
    tags=("ml",),
    raises=(BadName, ModelNotFound, Conflict, ProviderUnavailable),
)
def anomaly_delete(ctx: Context, params: AnomalyFilePath) -> Awaitable[AnomalyDeleted]:
    """Delete a model. A bare name that several backends have is a Conflict."""


@endpoint("POST", "/v1/ml/anomaly/fit", access="write", tags=("ml",), raises=_FIT)
def ml_anomaly_fit(ctx: Context, data: AnomalyFitVersioned) -> Awaitable[AnomalyFittedVersioned]:
    """Learn and save a detector as a new version, or with `overwrite` under its own name. A name does not end in
    ``-latest``; one for new versions has 48 characters at most."""


@endpoint("POST", "/v1/ml/anomaly/score", access="infer", tags=("ml",), raises=_USE)
def ml_anomaly_score(ctx: Context, data: AnomalyScore) -> Awaitable[Scored]:
    """Score every row; the model may end in ``-latest``."""


@endpoint("POST", "/v1/ml/anomaly/detect", access="infer", tags=("ml",), raises=_USE)
def ml_anomaly_detect(ctx: Context, data: AnomalyScore) -> Awaitable[Detected]:
    """Return the rows that are anomalies; the model may end in ``-latest``."""


@endpoint(
    "POST", "/v1/ml/anomaly/save", access="write", tags=("ml",), raises=(BadName, ModelNotFound, ProviderUnavailable)
)
def ml_anomaly_save(ctx: Context, data: AnomalySave) -> Awaitable[AnomalySaved]:
    """Set a model's description; the model may end in ``-latest``. Idempotent."""


@endpoint("POST", "/v1/ml/anomaly/load", access="infer", tags=("ml",), raises=_USE)
def ml_anomaly_load(ctx: Context, data: AnomalyModel) -> Awaitable[AnomalyLoaded]:
    """Load a model before it is needed; its name may end in ``-latest``."""


@endpoint("GET", "/v1/ml/anomaly/models", access="infer", tags=("ml",))
def ml_anomaly_models(ctx: Context) -> Awaitable[AnomalyList]:
    """List the saved models that the caller may use."""


@endpoint(
    "DELETE",
    "/v1/ml/anomaly/models/{filename}",
    access="write",
    tags=("ml",),
    raises=(BadName, ModelNotFound, Conflict, ProviderUnavailable),
)
def ml_anomaly_delete(ctx: Context, params: AnomalyFilePath) -> Awaitable[AnomalyDeleted]:
    """Delete a model. A bare name that several backends have is a Conflict."""
