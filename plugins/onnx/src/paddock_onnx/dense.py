"""The layers that sentence-transformers may put behind pooling: ``N_Dense/config.json`` with ``model.safetensors``."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.errors import ValidationFailed
from paddock_onnx.facts import read_json
from paddock_onnx.importing.safetensors import TensorFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

FILES = CONFIG, WEIGHTS = "config.json", "model.safetensors"


class DenseConfig(msgspec.Struct, frozen=True):
    """The part of a layer's ``config.json`` that is read. `activation_function` is the name of a class of torch."""

    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"


class Dense:
    """One layer: vectors of `takes` numbers in, of `gives` out. Raises ValidationFailed naming the file that is at fault."""

    def __init__(self, folder: Path) -> None:
        config = read_json(folder / CONFIG, DenseConfig)
        if config is None or not (folder / WEIGHTS).is_file():
            raise ValidationFailed(
                f"{folder.name} lacks {CONFIG} or {WEIGHTS} (a pickle is never opened): save the model anew with a "
                "sentence-transformers of these years"
            )
        self.takes, self.gives = config.in_features, config.out_features
        self._bend = _activation(folder.name, config.activation_function)
        file = TensorFile(folder / WEIGHTS)
        self._weight = _tensor(file, folder.name, "linear.weight", (self.gives, self.takes))
        self._bias = _tensor(file, folder.name, "linear.bias", (self.gives,)) if config.bias else 0

    def __call__(self, vectors: Array) -> Array:
        """One vector for each, of the shape (texts, numbers)."""
        found: Array = self._bend(vectors @ self._weight.T + self._bias)
        return found


def read_layers(folder: Path, names: Sequence[str]) -> list[Dense]:
    """The layers in these folders of a model. Raises ValidationFailed."""
    layers = [Dense(folder / name) for name in names]
    for name, one, more in zip(names[1:], layers, layers[1:], strict=False):
        if one.gives != more.takes:
            raise ValidationFailed(f"{name} takes {more.takes} numbers, but the layer before it gives {one.gives}")
    return layers


def put_layers(source: Path, target: Path, names: Sequence[str]) -> None:
    """Copy the files of these layers from one folder of a model to another; what is not there is left out."""
    for path in (source / name / file for name in names for file in FILES):
        if path.is_file():
            (target / path.parent.name).mkdir(exist_ok=True)
            shutil.copyfile(path, target / path.parent.name / path.name)


def _tensor(file: TensorFile, place: str, name: str, shape: tuple[int, ...]) -> Array:
    if name not in file.names() or file.shape(name) != shape:
        raise ValidationFailed(
            f"{place}/{WEIGHTS} has no {name} of the shape {shape}: it does not belong to its {CONFIG}"
        )
    return file.array(name)


def _activation(place: str, name: str) -> Callable[[Any], Any]:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    known: dict[str, Callable[[Any], Any]] = {
        "Tanh": np.tanh,
        "Identity": lambda value: value,
        "ReLU": lambda value: np.maximum(value, 0),
        "Sigmoid": lambda value: 1 / (1 + np.exp(-value)),
    }
    kind = name.rpartition(".")[2]
    if kind not in known:
        raise ValidationFailed(
            f"{place}/{CONFIG}: the activation {kind[:40]} is not supported; one of {', '.join(known)}"
        )
    return known[kind]
