"""A detector: what a fit keeps, and how a saved one scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.builtin.trained import Damaged
from paddock.contracts.anomaly import Backend, Contribution, Encoder, Normalization, Row
from paddock.contracts.base import Json
from paddock.errors import BadRequest, TooLarge
from paddock_anomaly import encoders
from paddock_anomaly.backends import SAMPLED, Options, learn
from paddock_anomaly.calibration import NORMALIZATIONS, Calibration
from paddock_anomaly.encoders import Feature
from paddock_anomaly.settings import AnomalySettings

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Matrix = np.ndarray[Any, np.dtype[np.float32]]
FARTHEST = 1e6  # standard deviations: beyond it float32 would overflow in squares of sums
BATCH = 1024  # rows scored at once: the neighbours' distances to the training rows are in memory together


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of a detector but its graph. `features` is None for rows that are lists; `means`, `scales` and `medians` are
    those of the encoded columns before scaling; a raw score is `offset` minus the graph's output (or, for the
    autoencoder, the mean squared error of it)."""

    backend: Backend
    features: list[Feature] | None
    means: list[float]
    scales: list[float]
    medians: list[float]
    offset: float
    calibration: Calibration
    normalization: Normalization
    contamination: float
    thresholds: dict[Normalization, float]
    samples_fitted: int
    samples_used: int

    @property
    def threshold(self) -> float:
        """The model's own, for its own normalization."""
        return self.thresholds[self.normalization]

    @property
    def columns(self) -> list[str]:
        """The columns' names in their order."""
        if self.features is None:
            return [f"feature_{at}" for at in range(len(self.means))]
        return [column for feature in self.features for column in feature.columns()]

    @property
    def schema(self) -> dict[str, Encoder] | None:
        """The schema of the fit."""
        return None if self.features is None else {feature.name: feature.encoder for feature in self.features}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit was asked for."""

    backend: Backend
    schema: Mapping[str, Encoder] | None
    normalization: Normalization
    threshold: float | None
    options: Options


def limit_rows(count: int, settings: AnomalySettings) -> None:
    """Raises TooLarge naming the setting."""
    if count > settings.max_rows:
        raise TooLarge(
            f"{count} rows are more than {settings.max_rows}, the setting anomaly.max_rows: send fewer at once"
        )


def limit_texts(rows: Sequence[Row], settings: AnomalySettings) -> None:
    """Raises TooLarge naming the setting, BadRequest for a value that is neither number nor text."""
    for at, row in enumerate(rows):
        for name, value in row.items() if isinstance(row, dict) else ():
            if isinstance(value, str) and len(value) > settings.max_text:
                raise TooLarge(f"data[{at}]: a text is longer than {settings.max_text}, the setting anomaly.max_text")
            if isinstance(value, dict | list):
                raise BadRequest(f"data[{at}], {name[:64]!r}: a value is a number, a text, true, false or null")


def limit_columns(count: int, settings: AnomalySettings) -> None:
    """Raises TooLarge naming the setting."""
    if count > settings.max_features:
        raise TooLarge(
            f"rows have {count} columns, more than {settings.max_features}, the setting anomaly.max_features: "
            "leave some out, or encode them as label or hash instead of onehot"
        )


def fit(rows: Sequence[Row], wanted: Wanted, settings: AnomalySettings) -> tuple[Facts, bytes]:
    """Learn a detector; returns its facts and its graph. Blocks. Raises BadRequest, TooLarge."""
    import numpy as np  # noqa: PLC0415  heavy: on first use
    from threadpoolctl import threadpool_limits  # noqa: PLC0415  as above

    matrix, features = _training(rows, wanted.schema, settings)
    means, scales = matrix.mean(axis=0), matrix.std(axis=0)
    scales[scales <= np.abs(means) * 1e-12] = 1.0  # a constant column
    scaled = _scaled(matrix, means, scales)
    sample = _sample(scaled, wanted.backend, settings.max_sample)
    with threadpool_limits(settings.threads):
        learnt = learn(wanted.backend, sample, wanted.options)
    raw = learnt.raw
    if raw is None:
        raw = _raw(session(learnt.graph, settings.threads), wanted.backend, learnt.offset, scaled)
    calibration = Calibration.of(raw)
    share = wanted.options.contamination
    thresholds = {how: calibration.threshold(raw, how, share) for how in NORMALIZATIONS}
    if wanted.threshold is not None:
        thresholds[wanted.normalization] = wanted.threshold
    facts = Facts(
        backend=wanted.backend,
        features=features,
        means=means.tolist(),
        scales=scales.tolist(),
        medians=np.median(matrix, axis=0).tolist(),
        offset=learnt.offset,
        calibration=calibration,
        normalization=wanted.normalization,
        contamination=share,
        thresholds=thresholds,
        samples_fitted=len(rows),
        samples_used=len(sample),
    )
    return facts, learnt.graph


def _training(
    rows: Sequence[Row], schema: Mapping[str, Encoder] | None, settings: AnomalySettings
) -> tuple[Floats, list[Feature] | None]:
    limit_rows(len(rows), settings)
    if len(rows) < 2:
        raise BadRequest(f"data has {len(rows)} rows: learning what is normal takes two or more")
    if encoders.all_lists(rows):
        if schema is not None:
            raise BadRequest("a schema is for rows that are objects; these are lists of numbers: leave it out")
        return _matrix(rows, None, settings), None
    if schema is None:
        raise BadRequest('rows that are objects need a schema: {"feature": "numeric", …}')
    limit_texts(rows, settings)
    limit_columns(len(schema), settings)
    features = encoders.learn(_objects(rows), schema)
    limit_columns(sum(len(feature.columns()) for feature in features), settings)
    matrix = encoders.encode(_objects(rows), features)
    encoders.checked(matrix, [column for feature in features for column in feature.columns()])
    return matrix, features


def _objects(rows: Sequence[Row]) -> list[dict[str, Json]]:
    return [row for row in rows if isinstance(row, dict)]


def _matrix(rows: Sequence[Row], width: int | None, settings: AnomalySettings) -> Floats:
    """Rows that are lists, as a matrix. Raises BadRequest for another number of features than `width` (that of the first
    row when it is None), TooLarge."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    expected = len(rows[0]) if width is None else width
    for at, row in enumerate(rows):
        if len(row) != expected:
            raise BadRequest(f"data[{at}] has {len(row)} features instead of {expected}")
    if expected == 0:
        raise BadRequest("data[0] is empty: a row has one feature or more")
    limit_columns(expected, settings)
    matrix = np.array(rows, dtype=np.float64)
    encoders.checked(matrix, [f"feature {at}" for at in range(expected)])
    return matrix


def _scaled(matrix: Floats, means: Floats, scales: Floats) -> Matrix:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    return np.clip((matrix - means) / scales, -FARTHEST, FARTHEST).astype(np.float32)


def _sample(scaled: Matrix, backend: Backend, most: int) -> Matrix:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if backend not in SAMPLED or len(scaled) <= most:
        return scaled
    sample: Matrix = scaled[np.linspace(0, len(scaled) - 1, most).astype(int)]
    return sample


def session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    """A session of a graph. Raises what ONNX Runtime raises for one that is damaged."""
    import onnxruntime  # noqa: PLC0415  heavy: on first use

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _raw(run: onnxruntime.InferenceSession, backend: Backend, offset: float, scaled: Matrix) -> Floats:
    """Raw scores, higher is stranger."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    parts: list[Any] = []  # numpy's stubs are too narrow for a mixture
    for at in range(0, len(scaled), BATCH):
        rows = scaled[at : at + BATCH]
        output = np.asarray(run.run(None, {"x": rows})[-1], dtype=np.float64)
        if backend == "autoencoder":
            parts.append(((output.reshape(rows.shape) - rows) ** 2).mean(axis=1))
        elif backend == "isolation_forest":
            parts.append(output.reshape(len(rows)))
        else:
            parts.append(offset - output.reshape(len(rows)))
    return np.concatenate(parts) if parts else np.empty(0)


class Detector:
    """A loaded detector. For many threads; everything blocks."""

    def __init__(self, name: str, facts: dict[str, Json], graph: bytes, settings: AnomalySettings) -> None:
        """Raises Damaged."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        try:
            self.facts = msgspec.convert(facts, Facts)
            self._session = session(graph, settings.threads)
            width = self._session.get_inputs()[0].shape[-1]
        except Exception as error:
            raise Damaged(f"the saved model {name} is damaged: delete it and fit it again") from error
        lengths = {
            len(self.facts.columns),
            len(self.facts.scales),
            len(self.facts.medians),
            len(self.facts.means),
            width,
        }
        if len(lengths) != 1:
            raise Damaged(f"the saved model {name} is damaged (its parts do not fit): delete it and fit it again")
        self._settings = settings
        self._means, self._scales = np.array(self.facts.means), np.array(self.facts.scales)

    def matrix(self, rows: Sequence[Row]) -> Floats:
        """The rows encoded, before scaling. Raises BadRequest for rows unlike those of the fit, TooLarge."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        limit_rows(len(rows), self._settings)
        if not rows:
            return np.empty((0, len(self._means)))
        lists = encoders.all_lists(rows)
        if self.facts.features is None:
            if not lists:
                raise BadRequest("this model was fitted on lists of numbers, without a schema: send rows as lists")
            return _matrix(rows, len(self._means), self._settings)
        if lists:
            wanted = ", ".join(feature.name for feature in self.facts.features)[:200]
            raise BadRequest(f"this model was fitted on objects: send rows with the features {wanted}")
        limit_texts(rows, self._settings)
        matrix = encoders.encode(_objects(rows), self.facts.features)
        encoders.checked(matrix, self.facts.columns)
        return matrix

    def raw(self, matrix: Floats) -> Floats:
        """The raw score of each encoded row; higher is stranger."""
        return _raw(self._session, self.facts.backend, self.facts.offset, _scaled(matrix, self._means, self._scales))

    def explain(self, rows: Sequence[Row], matrix: Floats, raw: Floats) -> list[list[Contribution]]:
        """For each row what each feature contributes. Raises TooLarge."""
        names = [feature.name for feature in self.facts.features] if self.facts.features else self.facts.columns
        if len(rows) * len(names) > self._settings.max_explained:
            raise TooLarge(
                f"{len(rows)} rows of {len(names)} features are more than {self._settings.max_explained} explanations, "
                "the setting anomaly.max_explained: send fewer rows at once"
            )
        usual = self._usual(len(rows))
        level = self.raw(usual)
        found: list[list[Contribution]] = [[] for _ in rows]
        for name, columns in zip(names, self._groups(), strict=True):
            without, alone = matrix.copy(), usual.copy()
            without[:, columns], alone[:, columns] = usual[:, columns], matrix[:, columns]
            shares = ((raw - self.raw(without)) + (self.raw(alone) - level)) / 2
            for at, share in enumerate(shares.tolist()):
                value = self._value(rows[at], name, columns)
                found[at].append(Contribution(feature=name, value=value, contribution=share))
        return [sorted(one, key=lambda part: -part.contribution) for one in found]

    def _usual(self, count: int) -> Floats:
        """So many rows that have every feature at its median."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        return np.tile(np.array(self.facts.medians), (count, 1))

    def _value(self, row: Row, name: str, columns: Sequence[int]) -> Json:
        return row.get(name) if isinstance(row, dict) else row[columns[0]]

    def _groups(self) -> list[list[int]]:
        """The columns of each feature."""
        if self.facts.features is None:
            return [[at] for at in range(len(self._means))]
        groups, at = [], 0
        for feature in self.facts.features:
            width = len(feature.columns())
            groups.append(list(range(at, at + width)))
            at += width
        return groups
