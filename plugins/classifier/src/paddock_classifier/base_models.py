"""What `base_model` means: an embedder of any loaded plugin, and its config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import Embedder, Host
from paddock.errors import BadRequest, ModelNotFound, ProviderUnavailable, ValidationFailed

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]
HASHING = "core/hashing"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
AUTO = "auto"
_CACHED = "onnx"  # who runs the models of the cache, where a name says it
_PREFIXES = {"ollama": "OllamaEmbedder", "openai": "OpenAIEmbedder"}


class BaseModel(msgspec.Struct, frozen=True, kw_only=True):
    """An embedder with its config, under the name that a fit gave it."""

    name: str
    embedder: Embedder
    config: Any

    @property
    def fingerprint(self) -> str:
        """Names the space of the vectors; a classifier works only in the one that it was fitted in."""
        return self.embedder.fingerprint(self.config)

    async def embed(self, texts: Sequence[str]) -> Matrix:
        """One vector of length 1 for each text. Raises what the embedder raises."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        vectors = await self.embedder.embed(texts, self.config, "query")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def named(host: Host, name: str) -> BaseModel:
    """The base model of this name; whether its embedder has the model shows when it embeds. Raises ModelNotFound,
    BadRequest."""
    type_name, raw = _meaning(name)
    embedder = host.embedder(type_name)
    if embedder is None:
        raise ModelNotFound(
            f"the base model {name!r} needs an embedder of type {type_name}, which no loaded plugin provides: "
            f"pip install {'paddock-' + name.partition('/')[0] if type_name in _PREFIXES.values() else 'paddock-onnx'}, "
            f"or use the base model {HASHING}"
        )
    try:
        config = embedder.configure(type_name, raw).config
    except ValidationFailed as error:
        raise BadRequest(f"the base model {name!r} can't be used: {error.message}") from error
    return BaseModel(name=name, embedder=embedder, config=config)


def _meaning(name: str) -> tuple[str, dict[str, Json]]:
    """The embedder's type and its config."""
    if name in (HASHING, HASHING.partition("/")[2]):
        return "HashingEmbedder", {}
    provider, _, model = name.partition("/")
    if provider == _CACHED and model:
        return "UniversalEmbedder", {"model": model}
    if provider in _PREFIXES and model:
        return _PREFIXES[provider], {"model": model}
    return "UniversalEmbedder", {"model": name}


async def chosen(host: Host, name: str | None, setting: str) -> BaseModel:
    """The named base model, else the setting's; ``auto`` looks whether MiniLM is there. Raises as `named` does."""
    wanted = name or setting
    if wanted != AUTO:
        return named(host, wanted)
    try:
        best = named(host, MINILM)
        await best.embed(["look"])
    except (ModelNotFound, ProviderUnavailable, BadRequest):
        host.log("classifier_base_model", base_model=HASHING, reason=f"{MINILM} is not in the model cache")
        return named(host, HASHING)
    return best
