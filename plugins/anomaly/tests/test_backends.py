"""Learning and the exported graphs: equal to scikit-learn, calibrated, alive on odd data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from paddock_anomaly import AnomalySettings
from paddock_anomaly.backends import Options, learn
from paddock_anomaly.calibration import Calibration
from paddock_anomaly.detector import Detector, Facts
from paddock_anomaly.fitting import Wanted, fit
from paddock_anomaly.forest import average_path, smoothed
from paddock_anomaly.scoring import session

from paddock.contracts.anomaly import Backend
from paddock.errors import BadRequest, ProviderUnavailable, TooLarge

SETTINGS = AnomalySettings()
BACKENDS: tuple[Backend, ...] = ("isolation_forest", "one_class_svm", "local_outlier_factor", "autoencoder")
TEMPERATURES = [
    22.1, 23.5, 21.8, 24.2, 22.7, 23.1, 21.5, 24.8, 22.3, 23.9, 21.2, 24.5, 22.8, 23.2, 21.9, 24.1, 22.5, 23.7, 21.6, 24.3,
]  # fmt: skip
READINGS = [22.0, 23.5, 0.0, 21.5, 100.0, 24.0, -10.0, 22.8, 35.0, 23.2]
STRANGE = [2, 4, 6, 8]


def rows(values: list[float]) -> list[Any]:
    """Rows of one feature."""
    return [[value] for value in values]


def wanted(backend: Backend = "isolation_forest", **given: Any) -> Wanted:
    options = Options(contamination=given.pop("contamination", 0.1), epochs=given.pop("epochs", 100))
    return Wanted(
        **{
            "backend": backend,
            "schema": None,
            "normalization": "standardization",
            "threshold": None,
            "options": options,
            **given,
        }
    )


def fitted(data: list[Any], settings: AnomalySettings = SETTINGS, **given: Any) -> Detector:
    import msgspec

    facts, graph = fit(data, wanted(**given), settings)
    return Detector("m", msgspec.to_builtins(facts), graph, settings)


def scores(detector: Detector, data: list[Any]) -> Any:
    facts = detector.facts
    return facts.calibration.normalized(detector.raw(detector.matrix(data)), facts.normalization)


def reference(backend: Backend, train: Any, test: Any) -> Any:
    """Scikit-learn's own raw scores."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import LocalOutlierFactor
    from sklearn.svm import OneClassSVM

    if backend == "isolation_forest":
        return -IsolationForest(n_estimators=200, random_state=42).fit(train).score_samples(test)
    if backend == "one_class_svm":
        return -OneClassSVM(nu=0.1, gamma=2 / train.shape[1]).fit(train).decision_function(test)
    neighbours = LocalOutlierFactor(n_neighbors=min(50, len(train) - 1), novelty=True)
    return -neighbours.fit(train).score_samples(test)


@pytest.mark.parametrize("count", [2, 30, 600])
@pytest.mark.parametrize("backend", BACKENDS[:3])
def test_raw_scores_are_those_of_scikit_learn(backend: Backend, count: int) -> None:
    random = np.random.default_rng(count)
    train = random.normal(size=(count, 4)).astype(np.float32)
    test = (random.normal(size=(300, 4)) * 3).astype(np.float32)
    learnt = learn(backend, train, Options(contamination=0.1))
    output = np.asarray(session(learnt.graph, 1).run(None, {"x": test})[-1], dtype=float).reshape(len(test))
    raw = output if backend == "isolation_forest" else learnt.offset - output
    assert np.abs(raw - reference(backend, train, test)).max() < 1e-5


def test_rows_that_the_training_has_many_times_are_no_outliers_of_themselves() -> None:
    data = np.random.default_rng(0).integers(0, 3, size=(3000, 3)).astype(float)
    detector = fitted(data.tolist(), backend="local_outlier_factor")
    assert detector.raw(detector.matrix(data[:300].tolist())) == pytest.approx(np.ones(300))


def test_a_forest_decides_alike_on_the_thresholds_themselves() -> None:
    from sklearn.ensemble import IsolationForest

    train = np.arange(50, dtype=np.float32).reshape(-1, 1)
    forest = IsolationForest(n_estimators=200, random_state=42).fit(train)
    cuts = np.concatenate([tree.tree_.threshold[tree.tree_.feature >= 0] for tree in forest.estimators_])
    test = cuts.astype(np.float32).reshape(-1, 1)
    output = session(learn("isolation_forest", train, Options(contamination=0.1)).graph, 1).run(None, {"x": test})[-1]
    assert np.abs(np.asarray(output).ravel() + forest.score_samples(test)).max() < 1e-5


def test_the_mean_path_is_that_of_the_paper() -> None:
    assert average_path([0, 1, 2]).tolist() == [0, 0, 1]
    assert average_path([256])[0] == pytest.approx(10.2448, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_documents_temperatures_are_told_apart_at_one_half(backend: Backend) -> None:
    found = scores(fitted(rows(TEMPERATURES), backend=backend, contamination=0.05), rows(READINGS))
    assert np.flatnonzero(found > 0.5).tolist() == STRANGE


@pytest.mark.parametrize("normalization", ["standardization", "zscore", "raw"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_share_contamination_of_the_training_rows_lies_above_the_threshold(
    backend: Backend, normalization: Any
) -> None:
    data = np.random.default_rng(1).normal(size=(200, 3)).tolist()
    detector = fitted(data, backend=backend, normalization=normalization, contamination=0.1, epochs=10)
    if backend == "local_outlier_factor":
        return  # its training rows are no neighbours of themselves: their scores are not those of new rows
    assert (scores(detector, data) > detector.facts.threshold).sum() == pytest.approx(20, abs=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_grow_with_raw_scores_which_are_higher_for_strange_rows(backend: Backend) -> None:
    data = np.random.default_rng(2).normal(size=(100, 2)).tolist()
    detector = fitted(data, backend=backend)
    test = [[0.0, 0.0], [1.5, 1.5], [4.0, -4.0], [9.0, 9.0]]
    raw = detector.raw(detector.matrix(test))
    assert raw[0] < raw[2]
    order = np.argsort(raw, kind="stable")
    for how in ("standardization", "zscore", "raw"):
        assert (np.diff(detector.facts.calibration.normalized(raw, how)[order]) >= 0).all()


def test_normalizations_are_what_they_say() -> None:
    raw = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    calibration = Calibration.of(raw)
    assert calibration.normalized(raw, "raw") is raw
    assert calibration.normalized(raw, "zscore") == pytest.approx((raw - 3) / raw.std())
    fence = 4 + 1.5 * 2
    at_fence, far = calibration.normalized(np.array([fence, 1e9]), "standardization")
    assert at_fence == pytest.approx(0.5, abs=1e-5)
    assert far == 1.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "data",
    [
        [[1, 2], [3, 4]],
        [[5.0]] * 30,
        [[1.0, 7.0], [2.0, 7.0], [3.0, 7.0]],
        [[0.0]] * 40 + [[1.0]],
        [[1e30], [-1e30], [0]],
        [[1e-30], [2e-30], [3e-30]],
    ],
    ids=["two rows", "one value", "a constant feature", "duplicates", "huge", "tiny"],
)
def test_odd_data_fit_and_score_finitely(backend: Backend, data: list[Any]) -> None:
    detector = fitted(data, backend=backend, epochs=5)
    test = [*data, [1e30] * len(data[0]), [-3.0] * len(data[0])]
    assert np.isfinite(scores(detector, test)).all()
    assert np.isfinite(detector.raw(detector.matrix(test))).all()
    assert np.isfinite(detector.facts.threshold)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_rows_are_enough_to_find_one_far_away(backend: Backend) -> None:
    detector = fitted([[1, 2], [3, 4]], backend=backend)
    near, far = scores(detector, [[1, 2], [100, 200]])
    assert far > 0.5
    assert near <= detector.facts.threshold < far


SENSOR = [[22.1, 1024], [23.5, 1100], [21.8, 980], [24.2, 1050], [22.7, 1080], [23.1, 990]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_six_rows_are_enough_to_find_what_each_feature_has_of_strange(backend: Backend) -> None:
    detector = fitted(list(SENSOR), backend=backend)
    assert (scores(detector, list(SENSOR)) <= detector.facts.threshold).all()  # a tenth of six rows is none
    strange = scores(detector, [[0.0, 1000], [100.0, 1050], [22.5, 5000], [23.0, 0]])
    assert (strange > max(0.5, detector.facts.threshold)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_documents_temperatures_are_told_apart_by_the_models_own_threshold(backend: Backend) -> None:
    detector = fitted(rows(TEMPERATURES), backend=backend, contamination=0.05)
    assert set(STRANGE) <= set(np.flatnonzero(scores(detector, rows(READINGS)) > detector.facts.threshold))
    assert (scores(detector, rows(TEMPERATURES)) > detector.facts.threshold).sum() <= 1


def test_few_rows_are_copied_with_noise_as_wide_as_their_columns() -> None:
    few = (np.random.default_rng(5).normal(size=(40, 3)) * [1, 7, 0] + [0, 0, 3]).astype(np.float32)
    many = smoothed(few)
    assert len(many) >= 256
    assert (many[:40] == few).all()
    assert many.std(axis=0)[:2] == pytest.approx(few.std(axis=0)[:2], rel=0.25)
    assert (many[:, 2] == 3).all()
    assert smoothed(many) is many


def test_no_rows_have_no_scores() -> None:
    detector = fitted(rows(TEMPERATURES))
    assert detector.raw(detector.matrix([])).tolist() == []


def test_epochs_change_the_autoencoder() -> None:
    data = np.random.default_rng(3).normal(size=(60, 4)).tolist()
    few, many = (
        fitted(data, backend="autoencoder", options=Options(contamination=0.1, epochs=count)) for count in (1, 200)
    )
    assert many.raw(many.matrix(data)).mean() < few.raw(few.matrix(data)).mean() * 0.8


def test_batch_size_changes_the_autoencoder() -> None:
    data = np.random.default_rng(3).normal(size=(60, 4)).tolist()
    small, large = (
        fitted(data, backend="autoencoder", options=Options(contamination=0.1, epochs=5, batch_size=size))
        for size in (4, 60)
    )
    assert small.raw(small.matrix(data)).mean() != large.raw(large.matrix(data)).mean()


def test_a_fit_ends_when_the_server_stops() -> None:
    with pytest.raises(ProviderUnavailable, match="stopping"):
        learn("autoencoder", np.zeros((4, 2), dtype=np.float32), Options(contamination=0.1, stopped=lambda: True))


def test_many_rows_are_sampled_evenly_where_the_cost_grows_with_the_square() -> None:
    settings = AnomalySettings(max_sample=50)
    data = rows([float(at) for at in range(500)])
    svm, forest = (fitted(data, settings, backend=name) for name in ("one_class_svm", "isolation_forest"))
    assert (svm.facts.samples_used, svm.facts.samples_fitted, forest.facts.samples_used) == (50, 500, 500)
    assert scores(svm, [[250.0]])[0] < scores(svm, [[5000.0]])[0]


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        ([[1.0]], BadRequest, "two or more"),
        ([], BadRequest, "two or more"),
        ([[1.0], [1.0, 2.0]], BadRequest, r"data\[1\] has 2 features instead of 1"),
        ([[], []], BadRequest, "empty"),
        ([[1.0], {"a": 1}], BadRequest, "mixes"),
        ([[1.0], [float("nan")]], BadRequest, "finite"),
        ([[1.0], [float("-inf")]], BadRequest, "finite"),
        ([[1.0], [1e31]], BadRequest, "finite"),
        ([{"a": 1}, {"a": 2}], BadRequest, "schema"),
        ([[1.0]] * 11, TooLarge, "anomaly.max_rows"),
        ([[1.0] * 6] * 3, TooLarge, "anomaly.max_features"),
    ],
)
def test_bad_training_data_is_refused_with_the_reason(data: list[Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        fit(data, wanted(), AnomalySettings(max_rows=10, max_features=5))


def test_a_schema_for_lists_is_refused() -> None:
    with pytest.raises(BadRequest, match="leave it out"):
        fit([[1.0], [2.0]], wanted(schema={"a": "numeric"}), SETTINGS)


def test_the_feature_that_is_strange_contributes_most() -> None:
    data = np.random.default_rng(4).normal(size=(200, 3)).tolist()
    for backend in BACKENDS:
        detector = fitted(data, backend=backend)
        row: list[Any] = [[0.0, 9.0, 0.1]]
        matrix = detector.matrix(row)
        (parts,) = detector.explain(row, matrix, detector.raw(matrix))
        assert parts[0].feature == "feature_1", backend
        assert (parts[0].value, parts[0].contribution > 0) == (9.0, True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_contributions_add_up_to_what_the_row_is_stranger_than_the_medians(backend: Backend) -> None:
    data = np.random.default_rng(4).normal([0, 30], size=(200, 2))
    detector = fitted(data.tolist(), backend=backend)
    row: list[Any] = [[5.0, 31.0], np.median(data, axis=0).tolist()]
    raw = detector.raw(detector.matrix(row))
    parts, none = detector.explain(row, detector.matrix(row), raw)
    assert sum(part.contribution for part in parts) == pytest.approx(raw[0] - raw[1], abs=1e-5)
    assert parts[0].feature == "feature_0"
    assert [part.contribution for part in none] == pytest.approx([0, 0], abs=1e-6)


def test_explanations_are_bounded() -> None:
    detector = fitted(rows(TEMPERATURES), AnomalySettings(max_explained=3))
    matrix = detector.matrix(rows(READINGS))
    with pytest.raises(TooLarge, match=r"anomaly\.max_explained"):
        detector.explain(rows(READINGS), matrix, detector.raw(matrix))


def test_facts_name_their_columns() -> None:
    facts: Facts = fitted([[1, 2], [3, 4]]).facts
    assert (facts.columns, facts.schema) == (["feature_0", "feature_1"], None)
