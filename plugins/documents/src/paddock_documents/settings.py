"""The section ``documents`` of the settings."""

from __future__ import annotations

from typing import Annotated

import msgspec


class DocumentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of reading one document. Documents are read in helper processes, so that a hostile one ends only its helper.

    `timeout_seconds`: after it a helper is killed. `memory_mb`: address space of a helper. `max_mb`: larger documents are
    refused. `idle_seconds`: a helper without work is ended after it.
    """

    timeout_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 60
    memory_mb: Annotated[int, msgspec.Meta(ge=512, le=65_536)] = 2048
    max_mb: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256
    idle_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 30
