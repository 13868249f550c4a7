"""Text classifiers that users train from a few examples of each label.

Two families of paths stand over one store of models. ``/v1/classifier`` (the Universal Runtime's) takes a model's name as
it is, and a fit replaces. ``/v1/ml/classifier`` (LlamaFarm's) keeps versions: unless `overwrite` is true a fit stores
``NAME_YYYYmmdd_HHMMSS``, and ``NAME-latest`` stands for the newest version, or for NAME itself when there is none.

`base_model` is the embedding model beneath: ``core/hashing`` (the server's own, from words and their letters: no
download), ``ollama/NAME``, ``openai/NAME``, or the id of a model in the cache
(``sentence-transformers/all-MiniLM-L6-v2``, also by its short name, or with ``onnx/`` before it). Left out, it is
what the setting ``classifier.base_model`` says; the reply tells which one was used. Its weights stay as they are: a
fit learns a linear map that brings texts of one label together and moves others apart, and a logistic regression
behind it. Scores are probabilities, calibrated on held-out examples where there are enough.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, Name, endpoint
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
    UpstreamError,
    UpstreamTimeout,
    ValidationFailed,
)

_EMBEDS = (
    BadName,
    BadRequest,
    ModelNotFound,
    TooLarge,
    ValidationFailed,
    UpstreamError,
    ProviderUnavailable,
    UpstreamTimeout,
)
_FIT = (*_EMBEDS, RateLimited)
_USE = (*_EMBEDS, Forbidden, Conflict)
_KEEP = (BadName, Forbidden, ModelNotFound, ProviderUnavailable)


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A text and its label."""

    text: str
    label: str


class ClassifierFit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Examples of two labels or more; one of each is enough to begin with.

    In each of `num_iterations` rounds every example is drawn close to another of its label and away from those of other
    labels, `batch_size` examples at a time. `description` is taken and not kept: save keeps one.
    """

    model: Name
    base_model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    training_data: list[Example]
    num_iterations: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    batch_size: Annotated[int, msgspec.Meta(ge=2, le=4096)] = 16
    description: str | None = None


class ClassifierFitVersioned(ClassifierFit, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same; with `overwrite` the model keeps its name and replaces the one that has it."""

    overwrite: bool = False


class ClassifierPredict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts to classify."""

    model: Name
    texts: list[str]


class ClassifierModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A saved model."""

    model: Name


class ClassifierSave(ClassifierModel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to keep, and a description for people; null leaves the one it has."""

    description: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None


class ClassifierPath(msgspec.Struct, frozen=True, kw_only=True):
    """A saved model by its exact name."""

    model_name: Name


class ClassifierFitted(msgspec.Struct, kw_only=True):
    """A model that was learnt and saved. `labels` are sorted; `training_time_ms` includes embedding the examples."""

    object: Literal["fit_result"] = "fit_result"
    model: str
    base_model: str
    samples_fitted: int
    num_classes: int
    labels: list[str]
    training_time_ms: float
    status: Literal["fitted"] = "fitted"
    auto_saved: bool = True
    saved_path: str


class ClassifierFittedVersioned(ClassifierFitted, kw_only=True):
    """The same with the name that was asked for and the one that the model got."""

    base_name: str
    versioned_name: str
    overwrite: bool


class Classified(msgspec.Struct, kw_only=True):
    """A text with its most probable label; `all_scores` add up to 1."""

    text: str
    label: str
    score: float
    all_scores: dict[str, float]


class ClassifiedList(msgspec.Struct, kw_only=True):
    """The texts in the order of the request."""

    object: Literal["list"] = "list"
    data: list[Classified]
    total_count: int
    model: str


class ClassifierSaved(msgspec.Struct, kw_only=True):
    """The model is on disk."""

    object: Literal["save_result"] = "save_result"
    model: str
    path: str
    description: str | None
    is_fitted: bool = True
    labels: list[str]
    num_classes: int
    status: Literal["saved"] = "saved"


class ClassifierLoaded(msgspec.Struct, kw_only=True):
    """The model is in memory; `model` is the version that was meant."""

    object: Literal["load_result"] = "load_result"
    model: str
    path: str
    is_fitted: bool = True
    labels: list[str]
    num_classes: int
    status: Literal["loaded"] = "loaded"


class ClassifierItem(msgspec.Struct, kw_only=True):
    """A saved model. `created` and `modified` are seconds since 1970; `error` says why it can't be used, null when it can."""

    name: str
    base_name: str
    base_model: str | None
    path: str
    labels: list[str]
    num_classes: int
    size_bytes: int
    created: float
    modified: float
    is_versioned: bool
    description: str | None
    error: str | None


class ClassifierList(msgspec.Struct, kw_only=True):
    """All saved models, the newest first, and the fits that are not done, in their order."""

    object: Literal["list"] = "list"
    data: list[ClassifierItem]
    models_dir: str
    total: int
    fitting: list[Fitting]


class ClassifierDeleted(msgspec.Struct, kw_only=True):
    """The model that was deleted."""

    object: Literal["delete_result"] = "delete_result"
    model: str
    path: str
    status: Literal["deleted"] = "deleted"


@endpoint("POST", "/v1/classifier/fit", access="write", tags=("ml",), raises=_FIT)
def classifier_fit(ctx: Context, data: ClassifierFit) -> Awaitable[ClassifierFitted]:
    """Learn and save a classifier under exactly this name, replacing what has it. A fit goes on when its client leaves, and is
    done at the next start when the server ends in between; the list of models tells those under way."""


@endpoint("POST", "/v1/classifier/predict", access="infer", tags=("ml",), raises=_USE)
def classifier_predict(ctx: Context, data: ClassifierPredict) -> Awaitable[ClassifiedList]:
    """Classify texts. A model whose base model makes other vectors now than at the fit is a Conflict."""


@endpoint("POST", "/v1/classifier/save", access="write", tags=("ml",), raises=_KEEP)
def classifier_save(ctx: Context, data: ClassifierSave) -> Awaitable[ClassifierSaved]:
    """Set a model's description. A fit has saved the model itself already. Idempotent."""


@endpoint("POST", "/v1/classifier/load", access="infer", tags=("ml",), raises=_KEEP)
def classifier_load(ctx: Context, data: ClassifierModel) -> Awaitable[ClassifierLoaded]:
    """Load a model before it is needed; predicting does so by itself."""


@endpoint("GET", "/v1/classifier/models", access="infer", tags=("ml",))
def classifier_models(ctx: Context) -> Awaitable[ClassifierList]:
    """List the saved models that the caller may use."""


@endpoint("DELETE", "/v1/classifier/models/{model_name}", access="write", tags=("ml",), raises=_KEEP)
def classifier_delete(ctx: Context, params: ClassifierPath) -> Awaitable[ClassifierDeleted]:
    """Delete a model."""


@endpoint("POST", "/v1/ml/classifier/fit", access="write", tags=("ml",), raises=_FIT)
def ml_classifier_fit(ctx: Context, data: ClassifierFitVersioned) -> Awaitable[ClassifierFittedVersioned]:
    """Learn and save a classifier as a new version, or with `overwrite` under its own name. A name does not end in
    ``-latest``; one for new versions has 48 characters at most."""


@endpoint("POST", "/v1/ml/classifier/predict", access="infer", tags=("ml",), raises=_USE)
def ml_classifier_predict(ctx: Context, data: ClassifierPredict) -> Awaitable[ClassifiedList]:
    """Classify texts; the model may end in ``-latest``."""


@endpoint("POST", "/v1/ml/classifier/save", access="write", tags=("ml",), raises=_KEEP)
def ml_classifier_save(ctx: Context, data: ClassifierSave) -> Awaitable[ClassifierSaved]:
    """Set a model's description; the model may end in ``-latest``. Idempotent."""


@endpoint("POST", "/v1/ml/classifier/load", access="infer", tags=("ml",), raises=_KEEP)
def ml_classifier_load(ctx: Context, data: ClassifierModel) -> Awaitable[ClassifierLoaded]:
    """Load a model before it is needed; its name may end in ``-latest``."""


@endpoint("GET", "/v1/ml/classifier/models", access="infer", tags=("ml",))
def ml_classifier_models(ctx: Context) -> Awaitable[ClassifierList]:
    """List the saved models that the caller may use."""


@endpoint("DELETE", "/v1/ml/classifier/models/{model_name}", access="write", tags=("ml",), raises=_KEEP)
def ml_classifier_delete(ctx: Context, params: ClassifierPath) -> Awaitable[ClassifierDeleted]:
    """Delete a model."""
