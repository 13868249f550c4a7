"""Running a detector's graph: columns scaled, raw scores out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paddock.contracts.anomaly import Backend
from paddock.errors import ProviderUnavailable

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Matrix = np.ndarray[Any, np.dtype[np.float32]]
FARTHEST = 1e6  # standard deviations: beyond it float32 would overflow in squares of sums
BATCH = 1024  # rows scored at once: the neighbours' distances to the training rows are in memory together


def scaled(matrix: Floats, means: Floats, scales: Floats) -> Matrix:
    """Columns at mean 0 and deviation 1, as float32; what is absurdly far is cut."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return np.clip((matrix - means) / scales, -FARTHEST, FARTHEST).astype(np.float32)


def session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session of a graph. Raises what ONNX Runtime raises for one that is damaged."""
    import onnxruntime  # noqa: PLC0415  heavy: on first use

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def raw_scores(
    run: onnxruntime.InferenceSession,
    backend: Backend,
    offset: float,
    scaled: Matrix,
    stopped: Callable[[], bool] = bool,
) -> Floats:
    """Raw scores, higher is stranger. Blocks; `stopped` is asked between batches of rows. Raises ProviderUnavailable then."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    parts: list[Any] = []  # numpy's stubs are too narrow for a mixture
    for at in range(0, len(scaled), BATCH):
        if stopped():
            raise ProviderUnavailable("the server is stopping: ask again when it is back")
        rows = scaled[at : at + BATCH]
        output = np.asarray(run.run(None, {"x": rows})[-1], dtype=np.float64)
        if backend == "autoencoder":
            parts.append(((output.reshape(rows.shape) - rows) ** 2).mean(axis=1))
        elif backend == "isolation_forest":
            parts.append(output.reshape(len(rows)))
        else:
            parts.append(offset - output.reshape(len(rows)))
    return np.concatenate(parts) if parts else np.empty(0)
