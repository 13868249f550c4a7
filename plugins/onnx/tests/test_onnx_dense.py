"""The layers that sentence-transformers puts behind pooling."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_kit import SENTENCE, WIDTH, imported, reference, tiny, tokenizer_of, weights_of, write_safetensors
from paddock_onnx.embeddings import Wanted, embed
from paddock_onnx.residency import Residency
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.trial import Trials

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.errors import ValidationFailed
from paddock.testing.hub_cache import cache_model

MODEL = "org/tiny"
LAYERED: Json = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"path": "3_Dense", "type": "sentence_transformers.models.Dense"},
    {"path": "4_Normalize", "type": "sentence_transformers.models.Normalize"},
]
BENDS = ("torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity")


def layered(folder: Path, first: Mapping[str, Json] | None = None, modules: Json = LAYERED) -> Path:
    """A model with two layers behind pooling, the first with these changes in its config."""
    one: dict[str, Json] = {"in_features": WIDTH, "out_features": 8, "bias": True, "activation_function": BENDS[0]}
    two: dict[str, Json] = {"in_features": 8, "out_features": 4, "bias": False, "activation_function": BENDS[1]}
    configs = {"2_Dense/config.json": {**one, **(first or {})}, "3_Dense/config.json": two}
    tiny(folder, files={**SENTENCE, "modules.json": modules, **configs})
    for name, tensors in layers().items():
        write_safetensors(folder / name / "model.safetensors", tensors)
    return folder


def layers() -> dict[str, dict[str, Any]]:
    rng = np.random.default_rng(5)
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "2_Dense": {"linear.weight": (8, WIDTH), "linear.bias": (8,)},
        "3_Dense": {"linear.weight": (4, 8)},
    }
    return {
        name: {key: rng.normal(size=shape).astype(np.float32) for key, shape in tensors.items()}
        for name, tensors in shapes.items()
    }


def files(folder: Path) -> dict[str, bytes]:
    """A model folder as the files of a repository."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fetched", [False, True])
async def test_layers_behind_pooling_are_run(tmp_path: Path, fetched: bool) -> None:
    folder = layered(tmp_path / "source")
    if fetched:  # from a hub, as weights
        cache_model(tmp_path / "hub", MODEL, files(folder))
    else:
        imported(tmp_path / "hub", folder, MODEL)
    ids = np.array([tokenizer_of("bert").encode("a cow").ids])
    mean = reference("bert", "embedding", weights_of("bert", "embedding"), ids, np.ones_like(ids))[0].mean(0)
    one, two = layers().values()
    expected = two["linear.weight"] @ np.tanh(one["linear.weight"] @ mean + one["linear.bias"])
    residency = Residency(HubCache(tmp_path / "hub"), OnnxSettings(), trials=Trials(OnnxSettings()))
    async with residency.using(MODEL) as model:
        found = (await embed(model, ["a cow"], Wanted())).vectors
    assert np.allclose(found[0], expected / np.linalg.norm(expected), atol=1e-5)
    await residency.close()


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ({"in_features": 31}, "2_Dense/model.safetensors has no linear.weight of the shape"),
        ({"out_features": 9}, "2_Dense/model.safetensors has no linear.weight of the shape"),
        ({"activation_function": "torch.nn.modules.activation.Mish"}, "the activation Mish is not supported"),
        ({"in_features": "many"}, "config.json can't be read"),
    ],
)
def test_a_layer_that_does_not_fit_is_refused(tmp_path: Path, first: dict[str, Json], words: str) -> None:
    with pytest.raises(ValidationFailed, match=re.escape(words)):
        imported(tmp_path / "hub", layered(tmp_path / "source", first), MODEL)


def test_layers_that_do_not_fit_each_other_or_have_no_weights_are_refused(tmp_path: Path) -> None:
    folder = layered(tmp_path / "source")
    (folder / "3_Dense" / "config.json").write_text(json.dumps({"in_features": 7, "out_features": 4, "bias": False}))
    write_safetensors(folder / "3_Dense" / "model.safetensors", {"linear.weight": np.ones((4, 7), np.float32)})
    with pytest.raises(ValidationFailed, match="3_Dense takes 7 numbers, but the layer before it gives 8"):
        imported(tmp_path / "hub", folder, MODEL)
    (folder / "2_Dense" / "config.json").write_text(json.dumps({"in_features": 31, "out_features": 7, "bias": False}))
    write_safetensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": np.ones((7, 31), np.float32)})
    with pytest.raises(ValidationFailed, match="2_Dense takes 31 numbers, but the graph gives 32"):
        imported(tmp_path / "hub", folder, MODEL)
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ValidationFailed, match=r"2_Dense lacks config\.json or model\.safetensors"):
        imported(tmp_path / "hub", folder, MODEL)


def test_modules_in_an_order_that_is_not_done_are_refused(tmp_path: Path) -> None:
    assert isinstance(LAYERED, list)
    turned = [*LAYERED[:2], LAYERED[4], *LAYERED[2:4]]
    with pytest.raises(ValidationFailed, match="modules are run in the order Transformer, Pooling, Dense, Normalize"):
        imported(tmp_path / "hub", layered(tmp_path / "source", modules=turned), MODEL)


@pytest.mark.parametrize("path", ["", ".", "..", "../other", "/etc", "a/b"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_module_outside_of_the_folder_is_refused(tmp_path: Path, path: str, at: int) -> None:
    assert isinstance(LAYERED, list)
    modules = [{**module, "path": path} if place == at else module for place, module in enumerate(LAYERED)]
    with pytest.raises(ValidationFailed, match="is no folder in this one"):
        imported(tmp_path / "hub", layered(tmp_path / "source", modules=modules), MODEL)
