"""What every provider is: type names, their configs, health."""

from __future__ import annotations

import functools
import time
from abc import ABC
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar, Literal

import msgspec

from paddock.contracts.base import Json
from paddock.errors import FieldError, ProviderUnavailable, ValidationFailed, field_error


class NoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For types without options."""


class TypeName(msgspec.Struct, frozen=True):
    """One name that a provider answers to.

    `config` decodes its ``config:`` (unknown keys are errors). `inert` lists documented keys that have no meaning here,
    with the reason: they are accepted and reported as warnings (``host`` of a QdrantStore).
    """

    name: str
    config: type[msgspec.Struct] = NoConfig
    inert: Mapping[str, str] = {}


class Configured(msgspec.Struct, frozen=True):
    """A decoded component config and what there is to warn about."""

    config: Any
    warnings: tuple[str, ...] = ()


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider is: status, one sentence, and how long the look took in milliseconds."""

    status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
    message: str = ""
    latency_ms: float | None = None
    details: dict[str, Json] = {}


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One figure for ``/metrics``. `name` is without the prefix ``paddock_``; a counter only grows, and gets ``_total``."""

    name: str
    help: str
    value: float
    labels: Mapping[str, str] = {}
    kind: Literal["gauge", "counter"] = "gauge"


@functools.cache  # a struct's fields take a tenth of a millisecond to find, and every query and file asks
def option_names(config: type[msgspec.Struct]) -> frozenset[str]:
    """The keys that a config struct reads."""
    return frozenset(field.encode_name for field in msgspec.structs.fields(config))


class Provider(ABC):
    """Base of everything that a plugin provides. `types[0]` is the canonical name."""

    types: ClassVar[tuple[TypeName, ...]]

    @property
    def name(self) -> str:
        """The canonical type name."""
        return self.types[0].name

    def configure(self, type_name: str, raw: Mapping[str, Json] | None) -> Configured:
        """Decode a component's ``config:`` for one of the provider's type names.

        Raises ValidationFailed naming the key (relative to the config) and, for an unknown key, the known ones.
        """
        declared = next(item for item in self.types if item.name == type_name)
        values = {key: value for key, value in (raw or {}).items() if key not in declared.inert}
        warnings = tuple(f"{key}: {declared.inert[key]}" for key in (raw or {}) if key in declared.inert)
        known = option_names(declared.config)
        unknown = sorted(set(values) - known)
        if unknown:
            options = ", ".join(sorted(known | set(declared.inert))) or "none"
            raise ValidationFailed.of(
                [FieldError(key, f"unknown option of {type_name}; known: {options}") for key in unknown]
            )
        try:
            config = msgspec.convert(values, declared.config, strict=True)
        except msgspec.ValidationError as error:
            raise ValidationFailed.of([field_error(error, type_name, declared.config)]) from error
        return Configured(config, warnings + tuple(self.warn(type_name, config)))

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the hook's signature
        """Sentences about values that would change nothing. Raises ValidationFailed for what can't be honoured."""
        return ()

    async def health(self) -> Health:
        """Look whether the provider works, within about a second. Never raises."""
        return Health()

    def metrics(self) -> Iterable[Sample]:
        """Figures for ``/metrics``, from memory: it is asked at every scrape and must not block. Samples of one name have
        the same label names."""
        return ()

    async def close(self) -> None:
        """Free what the provider holds; called once at shutdown."""
        return


async def timed_health(look: Callable[[], Awaitable[str]]) -> Health:
    """Run `look` (which returns a sentence, or raises ProviderUnavailable) and time it: for `Provider.health`."""
    start = time.perf_counter()
    try:
        message = await look()
    except ProviderUnavailable as error:
        return Health(status="unhealthy", message=error.message, latency_ms=(time.perf_counter() - start) * 1000)
    return Health(message=message, latency_ms=(time.perf_counter() - start) * 1000)
