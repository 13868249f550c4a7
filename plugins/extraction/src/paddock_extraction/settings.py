"""The section ``extraction`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec


class ExtractionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of document models. They run in helper processes, so that a damaged model ends only its helper.

    `workers`: pages worked on at once, each by a helper with its own copy of the model. `threads` of one helper, 0 for all
    processors. `timeout_seconds`: for one page; after it a helper is killed. `memory_mb`: address space of a helper.
    `max_model_mb`: the weights of one model. `max_tokens`: what a generating model may write for a page. `idle_seconds`: a helper
    without work is ended after it, and its model leaves memory.
    """

    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 300
    memory_mb: Annotated[int, msgspec.Meta(ge=512, le=262_144)] = 8192
    max_model_mb: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 4096
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=8192)] = 1024
    idle_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] = 300
