"""What a search finds."""

from __future__ import annotations

import msgspec

from paddock.contracts.base import Json


class Hit(msgspec.Struct, kw_only=True):
    """A chunk found; `metadata` holds filename, dataset, page and chunk_index besides the chunk's own."""

    chunk_id: str
    document_id: str  # the file's sha256
    content: str
    score: float
    metadata: dict[str, Json]
