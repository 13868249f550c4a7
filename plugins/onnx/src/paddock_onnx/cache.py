"""Text models in the model cache: which snapshot a name means, and its ONNX file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec

from paddock.builtin.hub_cache import HubCache
from paddock.builtin.model_names import parse_model
from paddock.errors import BadName, BadRequest
from paddock_onnx.facts import Facts, elsewhere
from paddock_onnx.importing.encoders import FAMILIES
from paddock_onnx.importing.tokenizer import TOKENIZERS

PROVIDER = "onnx/"  # before a model's id in requests
GRAPHS = (
    "onnx/model.onnx", "model.onnx", "onnx/model_quantized.onnx", "model_quantized.onnx", "onnx/model_int8.onnx",
    "onnx/model_fp16.onnx",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # from which a graph can be built


class Unready(BadRequest):
    """A cached model that lacks something which can perhaps be made of the rest: its graph, its tokenizer. `folder` has it."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


class CachedGraph(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the cache that can be run: its id, its folder, its ONNX file."""

    id: str
    folder: Path
    graph: Path


def pick_graph(names: Sequence[str]) -> str | None:
    """The ONNX file among a model's files: the usual names first, then the only one there is."""
    found = [name for name in names if name.endswith(".onnx") and name.count("/") <= 1]
    return next((name for name in GRAPHS if name in found), found[0] if len(found) == 1 else None)


def can_run(names: Collection[str], facts: Facts) -> bool:
    """Whether a model with these files can be run, after it was built if need be."""
    graph = pick_graph(list(names)) is not None or (
        facts.model_type in FAMILIES and any(name in names for name in WEIGHTS)
    )
    return graph and any(all(one in names for one in files) for files in TOKENIZERS)


def find_graph(cache: HubCache, model: str) -> CachedGraph:
    """A model by its id, or by the short name of sentence-transformers. Blocks.

    Raises BadName, ModelNotFound with near names and the command that fetches it, Unready, BadRequest for what is no whole
    model.
    """
    repo = repo_of(cache, model)
    snapshot = cache.snapshot(repo)
    if snapshot is None:
        raise cache.missing(model)
    files = cache.files(snapshot)
    if "config.json" not in files:
        raise BadRequest(
            f"the model {repo} lacks config.json, so it can't be run: fetch it anew, or import a whole folder"
        )
    kind = elsewhere(snapshot)
    if kind is not None:
        raise BadRequest(
            f"the model {repo} is of the kind {kind} and reads no texts: document models are asked by /v1/documents/extract"
        )
    name = pick_graph(list(files))
    if name is None:
        raise Unready(
            f"the model {repo} is cached without an ONNX file: build one with `paddock models import {repo}` (from its "
            "model.safetensors)",
            snapshot,
        )
    if "tokenizer.json" not in files:
        raise Unready(
            f"the model {repo} lacks tokenizer.json, so it can't be run: fetch it anew, or import a whole folder",
            snapshot,
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
