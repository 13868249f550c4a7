"""The embedders of projects: LlamaFarm's three names for a local embedding model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec

from paddock.contracts.providers import Embedder, Health, TextKind, TypeName, Vectors
from paddock.errors import BadRequest, UpstreamTimeout, ValidationFailed
from paddock_onnx.cache import repo_of
from paddock_onnx.embeddings import Wanted, embed, prompt_for
from paddock_onnx.residency import Residency

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Batch = Annotated[int, msgspec.Meta(ge=1, le=2048)]
Dimension = Annotated[int, msgspec.Meta(ge=1, le=16384)]


class Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all three take besides LlamaFarm's own keys: `dimension` shortens the vectors, `query_prefix` and
    `document_prefix` stand before the texts instead of the prompts in the model's own files."""

    dimension: Dimension | None = None
    query_prefix: str | None = None
    document_prefix: str | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 3600


class UniversalConfig(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Config of UniversalEmbedder. `timeout` in seconds for one batch."""

    model: ModelName = "nomic-ai/nomic-embed-text-v2-moe"
    batch_size: Batch = 16
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 60


class HuggingFaceConfig(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Config of HuggingFaceEmbedder."""

    model_name: ModelName = MINILM
    batch_size: Batch = 32
    normalize_embeddings: bool = True


class SentenceTransformerConfig(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Config of SentenceTransformerEmbedder: vectors are normalised if the model's own files say so."""

    model_name: ModelName = MINILM
    batch_size: Batch = 32


DEVICE = {"device": "models run where the setting onnx.providers says"}


class OnnxEmbedder(Embedder):
    """Types UniversalEmbedder, HuggingFaceEmbedder, SentenceTransformerEmbedder."""

    types: ClassVar[tuple[TypeName, ...]] = (
        TypeName("UniversalEmbedder", UniversalConfig, {"base_url": "models run in this process"}),
        TypeName(
            "HuggingFaceEmbedder",
            HuggingFaceConfig,
            {
                **DEVICE,
                "show_progress_bar": "progress is that of the task",
                "cache_folder": "models are in the model cache, setting models.cache_dir",
            },
        ),
        TypeName("SentenceTransformerEmbedder", SentenceTransformerConfig, DEVICE),
    )

    def __init__(self, residency: Residency) -> None:
        self._residency = residency

    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        """See `Embedder.embed_batch`. The first call may load the model, which counts for the timeout."""
        try:
            async with asyncio.timeout(config.timeout), self._residency.using(model_of(config)) as model:
                prefix = config.query_prefix if kind == "query" else config.document_prefix
                prompt = prompt_for(model.facts, kind) if prefix is None else prefix
                wanted = Wanted(prompt=prompt, dimension=config.dimension, normalize=normalizes(config))
                return (await embed(model, texts, wanted)).vectors
        except TimeoutError as error:
            raise UpstreamTimeout(f"{model_of(config)} took more than {config.timeout:g} s for a batch") from error

    def fingerprint(self, config: Any) -> str:
        """The model under its full name: all three types make the same vectors of it."""
        try:
            name = repo_of(self._residency.cache, model_of(config))
        except BadRequest:
            name = model_of(config)
        parts = ["onnx", name, str(config.dimension or "")]
        for prefix in (config.query_prefix, config.document_prefix):
            parts += [] if prefix is None else [msgspec.json.encode(prefix).decode()]
        return ":".join([*parts, *(["raw"] if normalizes(config) is False else [])])

    def warn(self, type_name: str, config: Any) -> Sequence[str]:  # noqa: ARG002  the hook's signature
        """Whether the name can be a model's. Raises ValidationFailed."""
        try:
            repo_of(self._residency.cache, model_of(config))
        except BadRequest as error:
            raise ValidationFailed(error.message) from error
        return ()

    async def health(self) -> Health:
        """The models in memory."""
        loaded = [one.id for one in self._residency.loaded()]
        return Health(message=f"{len(loaded)} models loaded", details={"loaded": loaded})


def model_of(config: Any) -> str:
    """The model that a config of any of the types names."""
    return str(config.model if isinstance(config, UniversalConfig) else config.model_name)


def normalizes(config: Any) -> bool | None:
    """Whether vectors get the length 1; None: as the model's own files say."""
    if isinstance(config, SentenceTransformerConfig):
        return None
    return bool(getattr(config, "normalize_embeddings", True))
