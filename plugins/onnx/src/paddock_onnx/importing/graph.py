"""A small way to write ONNX graphs: every method adds a node and returns the name of its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.errors import ValidationFailed
from paddock_onnx.importing.safetensors import Weights

if TYPE_CHECKING:
    import onnx

OPSET = 20
MICROSOFT = "com.microsoft"  # ONNX Runtime's own operators: attention and layer norm in one step
ACTIVATIONS = {
    "gelu": ("Gelu", {}),
    "gelu_python": ("Gelu", {}),
    "gelu_new": ("Gelu", {"approximate": "tanh"}),
    "gelu_pytorch_tanh": ("Gelu", {"approximate": "tanh"}),
    "relu": ("Relu", {}),
    "tanh": ("Tanh", {}),
}


class Graph:
    """A graph under construction over the weights of a model. `prefix` stands before every name of the encoder's tensors."""

    def __init__(self, weights: Weights, prefix: str = "") -> None:
        self.weights = weights
        self.prefix = prefix
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._count = 0

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output."""
        from onnx import helper  # noqa: PLC0415  heavy: on first use

        self._count += 1
        name = f"{kind}_{self._count}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, domain=domain, **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        """Add an array under a name; the same name is added once."""
        if name not in self._constants:
            from onnx import numpy_helper  # noqa: PLC0415  heavy: on first use

            self._constants[name] = numpy_helper.from_array(value, name)
        return name

    def whole(self, name: str, value: Any) -> str:
        """Add whole numbers."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        return self.constant(name, np.array(value, dtype=np.int64))

    def tensor(self, name: str) -> str:
        """A tensor of the encoder, by its name without the prefix."""
        full = self.prefix + name
        return self.constant(full, self.weights.array(full))

    def linear(self, hidden: str, name: str) -> str:
        """``hidden @ weight.T + bias``, by the full name of the layer."""
        weight = self.constant(f"{name}.weight", _turned(self.weights.array(f"{name}.weight")))
        product = self.node("MatMul", hidden, weight)
        return self.node("Add", product, self.constant(f"{name}.bias", self.weights.array(f"{name}.bias")))

    def activation(self, hidden: str, name: str) -> str:
        """An activation by its name in config.json. Raises ValidationFailed listing the known ones."""
        found = ACTIVATIONS.get(name)
        if found is None:
            raise ValidationFailed(f"config.json: the activation {name[:40]!r} is not one of {', '.join(ACTIVATIONS)}")
        kind, attributes = found
        return self.node(kind, hidden, **attributes)

    def norm(self, hidden: str, name: str, epsilon: float) -> str:
        """Layer norm over the last axis, by the layer's name without the prefix."""
        return self.node("LayerNormalization", hidden, *self._norm(name), axis=-1, epsilon=epsilon)

    def add_norm(self, hidden: str, rest: str, name: str, epsilon: float) -> str:
        """Layer norm of a sum."""
        return self.node("SkipLayerNormalization", hidden, rest, *self._norm(name), domain=MICROSOFT, epsilon=epsilon)

    def _norm(self, name: str) -> tuple[str, str]:
        old = f"{self.prefix}{name}.gamma" in self.weights.names()
        scale, shift = ("gamma", "beta") if old else ("weight", "bias")
        return self.tensor(f"{name}.{scale}"), self.tensor(f"{name}.{shift}")

    def model(self, inputs: list[str], output: str, name: str) -> onnx.ModelProto:
        """The finished model: `inputs` are whole numbers of shape (batch, length), `output` is renamed to `name`."""
        from onnx import TensorProto, helper  # noqa: PLC0415  heavy: on first use

        self._nodes.append(helper.make_node("Identity", [output], [name]))
        graph = helper.make_graph(
            self._nodes,
            "paddock",
            [helper.make_tensor_value_info(one, TensorProto.INT64, ["batch", "length"]) for one in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
            list(self._constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="paddock")


def _turned(weight: Any) -> Any:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return np.ascontiguousarray(weight.T)
