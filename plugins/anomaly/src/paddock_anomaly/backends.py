"""The four backends: learnt with scikit-learn, turned into an ONNX graph that scores.

Chosen on eight public tables (tests/benchmarks/anomaly.py): 200 trees, a radial kernel of width 2 over the number of
columns, 50 neighbours, and an autoencoder of twice, half and twice as many units as columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.contracts.anomaly import Backend
from paddock.errors import ProviderUnavailable

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]
SEED = 42
TREES = 200
NEIGHBOURS = 50
PATIENCE = 10  # epochs
LEAST_FALL = 1e-4
OPSET = {"": 18, "ai.onnx.ml": 3}
SAMPLED: frozenset[Backend] = frozenset({"one_class_svm", "local_outlier_factor"})


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """A graph, what must be added to minus its output to get the raw score, and the raw scores of the training rows where
    they are not those that the graph gives."""

    graph: bytes
    offset: float = 0.0
    raw: Any = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit may choose; `epochs` at most. `stopped` is asked between them."""

    contamination: float
    epochs: int = 100
    batch_size: int = 32
    stopped: Callable[[], bool] = bool


def learn(backend: Backend, rows: Matrix, options: Options) -> Learnt:
    """Learn from scaled rows, two at least. Blocks; about a second for ten thousand rows of ten columns."""
    return _LEARNERS[backend](rows, options)


def _converted(model: Any, columns: int) -> bytes:
    from skl2onnx import to_onnx  # noqa: PLC0415  heavy: on first use
    from skl2onnx.common.data_types import FloatTensorType  # noqa: PLC0415  as above

    made = to_onnx(model, initial_types=[("x", FloatTensorType([None, columns]))], target_opset=OPSET)
    return bytes(made.SerializeToString())


def _forest(rows: Matrix, options: Options) -> Learnt:  # noqa: ARG001  the learners' signature
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415  heavy: on first use

    from paddock_anomaly.forest import forest_graph  # noqa: PLC0415  as above

    return Learnt(graph=forest_graph(IsolationForest(n_estimators=TREES, random_state=SEED).fit(rows), rows.shape[1]))


def _svm(rows: Matrix, options: Options) -> Learnt:
    from sklearn.svm import OneClassSVM  # noqa: PLC0415  heavy: on first use

    model = OneClassSVM(nu=options.contamination, kernel="rbf", gamma=2 / rows.shape[1]).fit(rows)
    return Learnt(graph=_converted(model, rows.shape[1]))


def _neighbours(rows: Matrix, options: Options) -> Learnt:  # noqa: ARG001  the learners' signature
    from sklearn.neighbors import LocalOutlierFactor  # noqa: PLC0415  heavy: on first use

    model = LocalOutlierFactor(n_neighbors=min(NEIGHBOURS, len(rows) - 1), novelty=True).fit(rows)
    # A training row is no neighbour of itself: its own score comes from the fit.
    own = -model.negative_outlier_factor_
    # skl2onnx's option "cdist" would be six times faster, and tell rows that the training has many times apart from
    # themselves: it takes squares from squares, and a density of 1e10 becomes one of 1e3.
    return Learnt(graph=_converted(model, rows.shape[1]), offset=-float(model.offset_), raw=own)


def _autoencoder(rows: Matrix, options: Options) -> Learnt:
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415  heavy: on first use

    columns = rows.shape[1]
    model = MLPRegressor(
        hidden_layer_sizes=(2 * columns, max(2, columns // 2), 2 * columns),
        activation="tanh",
        batch_size=min(options.batch_size, len(rows)),
        random_state=SEED,
    )
    _train(model, rows, rows if columns > 1 else rows.ravel(), options)
    return Learnt(graph=_converted(model, columns))


def _train(model: Any, rows: Matrix, target: Any, options: Options) -> None:
    """Epoch by epoch, until the loss has not fallen for `PATIENCE` of them. Raises ProviderUnavailable when stopped."""
    best, since = float("inf"), 0
    for _ in range(options.epochs):
        if options.stopped():
            raise ProviderUnavailable("the server is stopping: fit again when it is back")
        model.partial_fit(rows, target)
        since = since + 1 if model.loss_ > best - LEAST_FALL else 0
        best = min(best, model.loss_)
        if since >= PATIENCE:
            return


_LEARNERS: dict[Backend, Callable[[Matrix, Options], Learnt]] = {
    "isolation_forest": _forest,
    "one_class_svm": _svm,
    "local_outlier_factor": _neighbours,
    "autoencoder": _autoencoder,
}
