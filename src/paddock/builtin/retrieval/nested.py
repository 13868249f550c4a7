"""Strategies inside strategies: checked with the outer config, run through the tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from paddock.builtin.retrieval.base import Ask
from paddock.contracts.base import Json
from paddock.contracts.providers import Hit, Query, RetrievalStrategy, RetrievalTools
from paddock.errors import FieldError, ValidationFailed

Known = Mapping[str, RetrievalStrategy]
FOLLOWS = {"hybrid_alpha": "alpha", "distance_metric": "metric"}  # what an inner strategy may have no use for
COUNTS = ("top_k", "final_k", "final_top_k")


def check(known: Known, field: str, type_name: str, config: Mapping[str, Json]) -> Iterable[str]:
    """The warnings of an inner config; `field` is where it stands. Raises ValidationFailed with the path of each error.

    A type that the core does not know belongs to a plugin, or to nobody; running it tells.
    """
    strategy = known.get(type_name)
    if strategy is None:
        return ()
    try:
        return tuple(f"{field}.config.{warning}" for warning in strategy.configure(type_name, config).warnings)
    except ValidationFailed as error:
        raise ValidationFailed.of(
            [FieldError(f"{field}.config.{one.field}", one.reason) for one in error.errors]
        ) from error


async def run(
    ask: Ask, tools: RetrievalTools, type_name: str, config: Mapping[str, Json], k: int | None
) -> tuple[list[Hit], set[str]]:
    """The hits of an inner strategy, and which of the query's fields it has no use for (``hybrid_alpha``, …).

    `k` None leaves the number to its config.
    """
    query = Query(text=ask.text, top_k=k, filters=ask.filters, metric=ask.metric, alpha=ask.alpha)
    unused: set[str] = set()
    while True:
        try:
            found = await tools.run(type_name, config, query)
        except ValidationFailed as error:
            refused = {one.field for one in error.errors} & (set(FOLLOWS) - unused)
            given = {field for field in refused if getattr(query, FOLLOWS[field]) is not None}
            if not given:
                raise
            unused |= given
            query = msgspec.structs.replace(query, **{FOLLOWS[field]: None for field in given})
        else:
            return found.hits, unused


async def run_base(ask: Ask, tools: RetrievalTools, type_name: str, config: Mapping[str, Json], k: int) -> list[Hit]:
    """The hits of the one inner strategy. Raises ValidationFailed for a field that it has no use for."""
    hits, unused = await run(ask, tools, type_name, config, k)
    refuse_unused(unused, f"the base strategy {type_name}")
    return hits


def refuse_unused(unused: Iterable[str], who: str) -> None:
    """A field of the query that nobody used is refused."""
    errors = [FieldError(field, f"{who} has no use for it") for field in sorted(unused)]
    if errors:
        raise ValidationFailed.of(errors)


def count_of(config: Mapping[str, Any], otherwise: int) -> int | None:
    """None when an inner config says its own number of hits, else `otherwise`."""
    return None if any(key in config for key in COUNTS) else otherwise


def warn_counts(field: str, config: Mapping[str, Any], instead: str) -> Iterable[str]:
    """An inner config's number of hits has no effect where the outer one decides."""
    return [f"{field}.{key}: without effect, {instead} decides" for key in COUNTS if key in config]
