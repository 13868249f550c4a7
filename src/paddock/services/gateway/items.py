"""Models as ``GET /v1/models`` shows them: one item for the clients of OpenAI, LlamaFarm and llamactl at once."""

from __future__ import annotations

from typing import Any

from paddock.contracts.providers import ModelInfo

# What a provider's details may say of a model in the item itself; everything else stays under `details`.
_PLAIN = frozenset({
    "name", "path", "type", "loaded", "status", "model_id", "size_bytes", "size_human", "last_modified", "revisions",
    "root", "parent", "max_model_len", "description",
})  # fmt: skip


def model_item(name: str, provider: str, info: ModelInfo) -> dict[str, Any]:
    """A listed model under the name that leads to it."""
    item: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": info.created,
        "owned_by": info.owned_by,
        "provider": provider,
        "name": info.id,
    }
    if info.size is not None:
        item["size"] = info.size
    item |= {key: value for key, value in info.details.items() if key in _PLAIN}
    rest = {key: value for key, value in info.details.items() if key not in _PLAIN}
    return {**item, "details": rest} if rest else item


def alias_item(name: str, target: str) -> dict[str, Any]:
    """A name that the settings made."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "paddock",
        "provider": "paddock",
        "alias_of": target,
    }
