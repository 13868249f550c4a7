"""Quality of the anomaly detectors on tables with labelled anomalies.

    python tests/benchmarks/anomaly.py FOLDER [--seeds 3]

FOLDER holds tables as .npz files with X (rows) and y (1: anomaly). Each is learnt from half of its normal rows and tested
on the rest: the mean over the tables of the area under the ROC curve, beside its goal, with scikit-learn's defaults on the
same halves for scale. The detectors are the plugin's own, as ONNX.
Ends with status 1 when a figure is below its goal.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from common import goal
from paddock_anomaly.backends import Options
from paddock_anomaly.detector import Detector
from paddock_anomaly.fitting import Wanted, fit
from paddock_anomaly.settings import AnomalySettings

from paddock.contracts.anomaly import Backend

GOALS: dict[Backend, float] = {
    "isolation_forest": 0.845,
    "one_class_svm": 0.839,
    "local_outlier_factor": 0.83,
    "autoencoder": 0.80,
}
SETTINGS = AnomalySettings()


def halves(table: Path, seeds: int) -> Iterator[tuple[Any, Any, Any]]:
    """Rows to learn from, rows to test, and the labels of these, for each seed."""
    with np.load(table) as data:
        rows, labels = data["X"].astype(float), data["y"].astype(int)
    for seed in range(seeds):
        normal = np.flatnonzero(labels == 0)
        np.random.default_rng(seed).shuffle(normal)
        half = len(normal) // 2
        test = np.concatenate([normal[half:], np.flatnonzero(labels == 1)])
        yield rows[normal[:half]], rows[test], labels[test]


def ours(backend: Backend, train: Any, test: Any) -> Any:
    """Raw scores of the plugin's detector."""
    options = Options(contamination=0.1)
    wanted = Wanted(backend=backend, schema=None, normalization="standardization", threshold=None, options=options)
    facts, graph = fit(train.tolist(), wanted, SETTINGS)
    detector = Detector("m", msgspec.to_builtins(facts), graph, SETTINGS)
    return detector.raw(detector.matrix(test.tolist()))


def theirs(backend: Backend, train: Any, test: Any) -> Any:
    """Scikit-learn as it comes, on standardised columns; None where it has no such detector."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import OneClassSVM

    scaler = StandardScaler().fit(train)
    models = {
        "isolation_forest": IsolationForest(random_state=42),
        "one_class_svm": OneClassSVM(nu=0.1),
        "local_outlier_factor": LocalOutlierFactor(novelty=True),
    }
    model = models.get(backend)
    return None if model is None else -model.fit(scaler.transform(train)).score_samples(scaler.transform(test))


def area(labels: Any, scores: Any) -> float:
    """Under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def main(folder: Path, seeds: int) -> int:
    """Print each backend's mean; the exit status."""
    tables = sorted(folder.glob("*.npz")) or sys.exit(f"{folder} holds no .npz files")
    good = True
    for backend, least in GOALS.items():
        start = time.perf_counter()
        pairs = [
            (labels, ours(backend, train, test)) for table in tables for train, test, labels in halves(table, seeds)
        ]
        took = (time.perf_counter() - start) / len(pairs)
        mean = float(np.mean([area(*pair) for pair in pairs]))
        goal(f"{backend} mean AUROC over {len(tables)} tables, {seeds} seeds", mean, least, least=True)
        alone = [
            (labels, theirs(backend, train, test)) for table in tables for train, test, labels in halves(table, seeds)
        ]
        default = [area(labels, scores) for labels, scores in alone if scores is not None]
        print(f"  scikit-learn's defaults: {np.mean(default):.3f}" if default else "  scikit-learn has none", end="; ")
        print(f"{took:.2f} s a fit with export and scoring")
        good = good and mean >= least
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    sys.exit(main(arguments.folder, arguments.seeds))
