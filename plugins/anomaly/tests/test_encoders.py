"""Each encoder as the contract describes it."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from paddock_anomaly import AnomalySettings
from paddock_anomaly.backends import Options
from paddock_anomaly.detector import Detector
from paddock_anomaly.encoders import encode, learn
from paddock_anomaly.fitting import Wanted, fit

from paddock.errors import BadRequest, TooLarge


def encoded(encoder: Any, training: list[Any], test: list[Any]) -> list[list[float]]:
    features = learn([{"f": value} for value in training], {"f": encoder})
    rows: list[list[float]] = encode([{"f": value} for value in test], features).tolist()
    return rows


def md5(text: str) -> float:
    return float(int(hashlib.md5(text.encode()).hexdigest()[:8], 16) % 1_000_000)


@pytest.mark.parametrize(
    ("encoder", "training", "test", "expected"),
    [
        ("numeric", [1, 2], [3, "4.5", "x", None, True], [[3], [4.5], [0], [0], [1]]),
        (
            "hash",
            ["a"],
            ["Mozilla/5.0", "ü", None, 7, 7.0],
            [[md5("Mozilla/5.0")], [md5("ü")], [0], [md5("7")], [md5("7")]],
        ),
        ("label", ["b", "a", None, "c"], ["a", "b", "c", "d", None], [[1], [2], [3], [0], [0]]),
        ("onehot", ["GET", "PUT", None], ["PUT", "GET", "X", None], [[0, 1], [1, 0], [0, 0], [0, 0]]),
        ("onehot", [None, None], ["x"], [[0]]),
        ("binary", ["x"], ["TRUE", "yes", 1, "on", "t", "Y", True, "no", 0, None], [[1]] * 7 + [[0]] * 3),
        ("frequency", ["a", "a", "a", "b"], ["a", "b", "c", None], [[0.75], [0.25], [0.125], [0.125]]),
    ],
)
def test_an_encoder_gives_the_documented_numbers(
    encoder: str, training: list[Any], test: list[Any], expected: Any
) -> None:
    assert encoded(encoder, training, test) == expected


def test_onehot_has_a_hundred_columns_at_most() -> None:
    assert len(encoded("onehot", [f"v{at:03}" for at in range(300)], ["v299"])[0]) == 100


def test_a_feature_that_no_training_row_has_is_a_misspelling() -> None:
    with pytest.raises(BadRequest, match="'methd'"):
        learn([{"method": "GET"}, {"method": "PUT"}], {"methd": "label"})


def fitted(settings: AnomalySettings | None = None, **schema: Any) -> Detector:
    import msgspec

    rows: list[Any] = [
        {"ms": 100, "method": "GET", "agent": "Mozilla/5.0"},
        {"ms": 105, "method": "POST", "agent": "Chrome/90.0"},
        {"ms": 103, "method": "GET", "agent": "Chrome/90.0"},
    ]
    known = settings or AnomalySettings()
    options = Options(contamination=0.1)
    wanted = Wanted(
        backend="local_outlier_factor", schema=schema, normalization="standardization", threshold=None, options=options
    )
    facts, graph = fit(rows, wanted, known)
    return Detector("m", msgspec.to_builtins(facts), graph, known)


def test_a_saved_schema_encodes_as_the_fit_did() -> None:
    detector = fitted(ms="numeric", method="onehot", agent="hash")
    assert detector.facts.columns == ["ms", "method=GET", "method=POST", "agent"]
    assert detector.matrix([{"ms": "7", "method": "POST", "agent": None, "further": 1}]).tolist() == [[7, 0, 1, 0]]
    row: list[Any] = [{"ms": 9000, "method": "GET", "agent": "Chrome/90.0"}]
    matrix = detector.matrix(row)
    (parts,) = detector.explain(row, matrix, detector.raw(matrix))
    assert (parts[0].feature, parts[0].value, len(parts)) == ("ms", 9000, 3)


@pytest.mark.parametrize(
    ("row", "error", "says"),
    [
        ([1.0], BadRequest, "fitted on objects"),
        ({"other": 1}, BadRequest, "none of the schema's features"),
        ({"ms": "nan"}, BadRequest, "finite"),
        ({"ms": 10**400}, BadRequest, "finite"),
        ({"method": "x" * 101}, TooLarge, "anomaly.max_text"),
        ({"method": ["x"]}, BadRequest, "a value is"),
    ],
)
def test_a_row_unlike_the_schema_is_refused_with_the_reason(row: Any, error: type[Exception], says: str) -> None:
    detector = fitted(AnomalySettings(max_text=100), ms="numeric", method="label")
    with pytest.raises(error, match=says):
        detector.matrix([row])


def test_columns_are_bounded_after_encoding() -> None:
    with pytest.raises(TooLarge, match="label or hash instead of onehot"):
        fitted(AnomalySettings(max_features=2), ms="numeric", method="onehot")


def test_an_empty_schema_is_refused() -> None:
    with pytest.raises(BadRequest, match="schema is empty"):
        fitted()
