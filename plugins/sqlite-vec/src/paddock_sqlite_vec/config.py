"""The type names of the store and their configs: its own, and those of the stores that LlamaFarm knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec

from paddock.contracts.providers import Metric, TypeName
from paddock.errors import FieldError, ValidationFailed

METRICS: Mapping[str, Metric] = {
    "cosine": "cosine",
    "l2": "l2",
    "euclid": "l2",
    "euclidean": "l2",
    "l1": "l1",
    "manhattan": "l1",
    "dot": "dot",
    "ip": "dot",
}
METRIC_KEYS = ("metric", "distance_function", "distance_metric", "distance")
DIMENSION_KEYS = ("dimension", "embedding_dimension", "vector_size")
Size = Annotated[int, msgspec.Meta(ge=1, le=8192)]


class Store(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the configs."""

    collection_name: str = "documents"


class SqliteVecConfig(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metric and dimension under any of the names that people know; a dimension is checked against the vectors."""

    metric: str | None = None
    distance_function: str | None = None
    distance_metric: str | None = None
    distance: str | None = None
    dimension: Size | None = None
    embedding_dimension: Size | None = None
    vector_size: Size | None = None
    enable_deduplication: bool = True


class ChromaConfig(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of ChromaStore that mean something here."""

    distance_function: str | None = None
    distance_metric: str | None = None
    embedding_dimension: Size | None = None
    enable_deduplication: bool = True


class QdrantConfig(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of QdrantStore that mean something here."""

    distance: str | None = None
    vector_size: Size | None = None


class FaissConfig(Store, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys of FAISSStore that mean something here."""

    metric: str | None = None
    dimension: Size | None = None


_NO_SERVER = "the store is a file of this server, there is nothing to connect to"
_INDEX = "paddock chooses the index by the number of chunks"
TYPES = (
    TypeName("SqliteVecStore", SqliteVecConfig),
    TypeName(
        "ChromaStore",
        ChromaConfig,
        {
            "host": _NO_SERVER,
            "port": _NO_SERVER,
            "embedding_function": "the embedder is named by the database's embedding strategies",
            "persist_directory": "the store's folder belongs to the project and can't be moved",
        },
    ),
    TypeName(
        "QdrantStore",
        QdrantConfig,
        {
            "host": _NO_SERVER,
            "port": _NO_SERVER,
            "grpc_port": _NO_SERVER,
            "api_key": _NO_SERVER,
            "on_disk": "the store is always on disk",
        },
    ),
    TypeName(
        "FAISSStore",
        FaissConfig,
        {
            "index_type": _INDEX,
            "nlist": _INDEX,
            "nprobe": _INDEX,
            "use_gpu": "the store works on the processor",
        },
    ),
)


def metric_of(config: Any) -> Metric:
    """The metric that a config asks for, cosine by default. Raises ValidationFailed for an unknown or a second one."""
    given = _given(config, METRIC_KEYS)
    found = set()
    for key, value in given.items():
        metric = METRICS.get(value.lower())
        if metric is None:
            known = ", ".join(METRICS)
            raise ValidationFailed.of([FieldError(key, f"unknown metric {value[:32]!r}; known: {known}")])
        found.add(metric)
    return _single(given, found) or "cosine"


def dimension_of(config: Any) -> int | None:
    """The dimension that a config demands, or None. Raises ValidationFailed when it demands two."""
    given = _given(config, DIMENSION_KEYS)
    dimension: int | None = _single(given, set(given.values()))
    return dimension


def warnings_of(config: Any) -> Iterable[str]:
    """Sentences about values that change nothing."""
    if not getattr(config, "enable_deduplication", True):
        yield "enable_deduplication: a file is known by its hash and never stored twice, with or without this option"


def _given(config: Any, keys: Iterable[str]) -> dict[str, Any]:
    values = {key: getattr(config, key, None) for key in keys}
    return {key: value for key, value in values.items() if value is not None}


def _single(given: Mapping[str, Any], found: set[Any]) -> Any:
    if len(found) > 1:
        raise ValidationFailed.of(
            [FieldError(key, f"{value} contradicts the other keys") for key, value in given.items()]
        )
    return found.pop() if found else None
