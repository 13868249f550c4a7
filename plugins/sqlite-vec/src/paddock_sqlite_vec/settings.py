"""The settings section ``sqlite_vec``."""

from __future__ import annotations

from typing import Annotated

import msgspec


class SqliteVecSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether derived indexes answer (`fast`, needs usearch and tantivy), above how many chunks (`fast_above`), and after
    how many new ones they are saved (`save_after`; what was not saved is added again at the next start)."""

    fast: bool = True
    fast_above: Annotated[int, msgspec.Meta(ge=0)] = 5000
    save_after: Annotated[int, msgspec.Meta(ge=1)] = 5000
