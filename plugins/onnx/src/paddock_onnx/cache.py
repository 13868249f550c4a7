"""Text models in the model cache: which snapshot a name means, and its ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.builtin.model_names import parse_model
from paddock.errors import BadName, BadRequest

PROVIDER = "onnx/"  # before a model's id in requests
GRAPHS = (
    "onnx/model.onnx", "model.onnx", "onnx/model_quantized.onnx", "model_quantized.onnx", "onnx/model_int8.onnx",
    "onnx/model_fp16.onnx",
)  # fmt: skip


class CachedGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the cache that can be run: its id, its folder, its ONNX file."""

    id: str
    folder: Path
    graph: Path


def pick_graph(names: Sequence[str]) -> str | None:
    """The ONNX file among a model's files: the usual names first, then the only one there is."""
    found = [name for name in names if name.endswith(".onnx") and name.count("/") <= 1]
    return next((name for name in GRAPHS if name in found), found[0] if len(found) == 1 else None)


def find_graph(cache: HubCache, model: str) -> CachedGraph:
    """A model by its id, or by the short name of sentence-transformers. Blocks.

    Raises BadName, ModelNotFound with near names and the command that fetches it, BadRequest when it has no ONNX file.
    """
    repo = repo_of(cache, model)
    snapshot = cache.snapshot(repo)
    if snapshot is None:
        raise cache.missing(model)
    files = cache.files(snapshot)
    name = pick_graph(list(files))
    if name is None:
        raise BadRequest(
            f"the model {repo} is cached without an ONNX file: build one with `paddock models import {repo}` (from its "
            "model.safetensors)"
        )
    missing = [one for one in ("config.json", "tokenizer.json") if one not in files]
    if missing:
        raise BadRequest(
            f"the model {repo} lacks {missing[0]}, so it can't be run: fetch it anew, or import a whole folder"
        )
    return CachedGraph(id=repo, folder=snapshot, graph=snapshot / name)


def repo_of(cache: HubCache, model: str) -> str:
    """The id that a name stands for, whether it is cached or not; ``onnx/`` may stand before it as in requests, unless that
    could be a part of it. Raises BadName."""
    bare = model.removeprefix(PROVIDER)
    if bare != model and ("/" in bare or parse_model(bare).completed().repo != bare):
        model = bare
    if parse_model(model).quantization:
        raise BadName(
            f"{model[:200]!r}: what stands behind the colon names a GGUF file, which is no text model here: write ORG/NAME (one "
            "that `paddock models import` quantised has a name of its own)"
        )
    return cache.resolve(model).repo
