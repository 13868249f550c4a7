"""A learnt head as an ONNX graph, and how it scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from paddock.builtin.trained import Damaged
from paddock_classifier.learning import Head

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]


def head_graph(head: Head) -> bytes:
    """A model with input ``x`` (texts, dimension) float32 and output ``scores`` (texts, labels)."""
    import numpy as np  # noqa: PLC0415  heavy: on first use
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  as above

    parts = {
        "map": head.map,
        "weights": head.weights,
        "bias": head.bias,
        "least": np.array(1e-12),
        "axes": np.array([1], dtype=np.int64),
    }
    tensors = [
        numpy_helper.from_array(part if part.dtype == np.int64 else part.astype(np.float32), name)
        for name, part in parts.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "map"], ["mapped"]),
        helper.make_node("ReduceL2", ["mapped", "axes"], ["length"], keepdims=1),
        helper.make_node("Max", ["length", "least"], ["divisor"]),
        helper.make_node("Div", ["mapped", "divisor"], ["unit"]),
        helper.make_node("Gemm", ["unit", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    dimension, count = head.weights.shape
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, dimension])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, count])],
        tensors,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


class Scorer:
    """A loaded graph. For many threads; blocks."""

    def __init__(self, name: str, graph: bytes, labels: int, threads: int) -> None:
        """Raises Damaged, also for a graph of another number of labels."""
        import onnxruntime  # noqa: PLC0415  heavy: on first use

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            self.dimension = int(self._session.get_inputs()[0].shape[-1])
            found = int(self._session.get_outputs()[0].shape[-1])
        except Exception as error:
            raise Damaged(f"the saved model {name} is damaged: delete it and fit it again") from error
        if found != labels:
            raise Damaged(f"the saved model {name} is damaged (its parts do not fit): delete it and fit it again")

    def scores(self, vectors: Matrix) -> Matrix:
        """Probabilities, one row for each vector."""
        scores: Matrix = self._session.run(None, {"x": vectors})[0]
        return scores
