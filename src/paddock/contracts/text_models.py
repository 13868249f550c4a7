"""Texts sorted and searched for names by models that were trained for it, and what of all local models is in memory."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

import msgspec

from paddock.contracts.base import Context, endpoint
from paddock.contracts.providers import Aggregation, Entity
from paddock.errors import BadRequest, ModelNotFound, ProviderUnavailable, TooLarge

ModelText = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
MaxLength = Annotated[int, msgspec.Meta(ge=3, le=1_000_000)]
_FAILS = (ModelNotFound, BadRequest, TooLarge, ProviderUnavailable)


class ClassifyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_length` in tokens: what is behind it in a text does not count (default: what the model can read)."""

    model: ModelText
    texts: list[str]
    max_length: MaxLength | None = None


class ClassifyItem(msgspec.Struct, frozen=True, kw_only=True):
    """One text's result. `label` is the best one; `labels` those that hold, several only for a multi-label model."""

    index: int
    label: str
    score: float
    all_scores: dict[str, float]
    labels: list[str]


class ClassifyReply(msgspec.Struct, frozen=True, kw_only=True):
    """The results in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[ClassifyItem]
    total_count: int
    model: str


class EntityRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`max_length` in tokens as above; without it a long text is read to its end, window by window.
    `aggregation_strategy`: how tokens become entities; ``simple`` joins neighbours of one label, the others first give
    each word one label, that of its first, its average or its best token."""

    model: ModelText
    texts: list[str]
    max_length: MaxLength | None = None
    aggregation_strategy: Aggregation = "simple"


class EntityItem(msgspec.Struct, frozen=True, kw_only=True):
    """One text's entities, in its order."""

    index: int
    entities: list[Entity]


class EntityReply(msgspec.Struct, frozen=True, kw_only=True):
    """The results in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[EntityItem]
    total_count: int
    model: str


class UnloadRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model; null or no body at all: every one."""

    model: ModelText | None = None


class UnloadReply(msgspec.Struct, frozen=True, kw_only=True):
    """What went; a model in use stays."""

    unloaded: int
    models: list[str]


@endpoint("POST", "/v1/classify", access="infer", tags=("text",), raises=_FAILS)
def text_classify(ctx: Context, data: ClassifyRequest) -> Awaitable[ClassifyReply]:
    """Classify texts with a pre-trained model (sentiment, spam …)."""


@endpoint("POST", "/v1/ner", access="infer", tags=("text",), raises=_FAILS)
def text_entities(ctx: Context, data: EntityRequest) -> Awaitable[EntityReply]:
    """Find persons, places and other names in texts; offsets are in characters."""


@endpoint("POST", "/v1/models/unload", access="manage", tags=("models",), raises=(BadRequest, ModelNotFound))
def models_unload(ctx: Context, data: UnloadRequest) -> Awaitable[UnloadReply]:
    """Free the memory of models that this process has loaded. They load again when they are asked for. Idempotent: a model
    that is known and not loaded is no error."""
