"""In the helper: ONNX Runtime sessions of a model's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers

from paddock.builtin.helper import Refused

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}


class Session:
    """One graph. `inputs` are its inputs by name with the type of their numbers and their shape."""

    def __init__(self, path: Path, threads: int, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self.model = model
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises many kinds for a damaged graph
            raise damaged(model, f"{path.name} does not load") from error
        self.inputs = {
            item.name: (_TYPES.get(item.type, np.float32), item.shape) for item in self._session.get_inputs()
        }
        self.outputs = [item.name for item in self._session.get_outputs()]

    def run(self, given: dict[str, Any]) -> dict[str, Any]:
        """Run with those of the tensors that the graph takes, in its types. Raises Refused."""
        absent = set(self.inputs) - set(given)
        if absent:
            raise damaged(self.model, f"it wants {', '.join(sorted(absent)[:5])}, which nobody here can give")
        feed = {name: np.asarray(given[name], dtype=kind) for name, (kind, _) in self.inputs.items()}
        try:
            return dict(zip(self.outputs, self._session.run(None, feed), strict=True))
        except Exception as error:  # as above
            raise damaged(self.model, f"it does not run ({type(error).__name__})") from error


def damaged(model: str, why: str) -> Refused:
    """The error for a model that can't be run."""
    return Refused(f"can't be read: the model {model} is damaged or of another kind: {why}; import it again")


def read_tokenizer(folder: Path, model: str) -> Any:
    """A model's tokenizer. Raises Refused."""
    try:
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # it raises nothing narrower
        raise damaged(model, f"its tokenizer.json does not load ({error})") from error


def shares(logits: Any) -> Any:
    """Softmax over the last axis, in float64."""
    logits = np.asarray(logits, dtype=np.float64)
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)
