"""The settings section ``sqlite_vec``."""

from __future__ import annotations

from typing import Annotated

import msgspec


class SqliteVecSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether derived indexes answer (`fast`, needs usearch and tantivy), and above how many chunks (`fast_above`)."""

    fast: bool = True
    fast_above: Annotated[int, msgspec.Meta(ge=0)] = 5000
