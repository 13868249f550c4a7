"""A detector: what a fit keeps, and how a saved one scores and explains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.builtin.trained import Damaged
from paddock.contracts.anomaly import Backend, Contribution, Encoder, Normalization, Row
from paddock.contracts.base import Json
from paddock.errors import BadRequest, TooLarge
from paddock_anomaly import encoders
from paddock_anomaly.calibration import Calibration
from paddock_anomaly.encoders import Feature
from paddock_anomaly.rows import limit_rows, limit_texts, lists_matrix, objects
from paddock_anomaly.scoring import raw_scores, scaled, session
from paddock_anomaly.settings import AnomalySettings

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]


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
            return lists_matrix(rows, len(self._means), self._settings)
        if lists:
            wanted = ", ".join(feature.name for feature in self.facts.features)[:200]
            raise BadRequest(f"this model was fitted on objects: send rows with the features {wanted}")
        limit_texts(rows, self._settings)
        matrix = encoders.encode(objects(rows), self.facts.features)
        encoders.checked(matrix, self.facts.columns)
        return matrix

    def raw(self, matrix: Floats, stopped: Callable[[], bool] = bool) -> Floats:
        """The raw score of each encoded row; higher is stranger. Raises ProviderUnavailable when stopped."""
        columns = scaled(matrix, self._means, self._scales)
        return raw_scores(self._session, self.facts.backend, self.facts.offset, columns, stopped)

    def explain(
        self, rows: Sequence[Row], matrix: Floats, raw: Floats, stopped: Callable[[], bool] = bool
    ) -> list[list[Contribution]]:
        """For each row what each feature contributes. Raises TooLarge, and ProviderUnavailable when stopped."""
        names = [feature.name for feature in self.facts.features] if self.facts.features else self.facts.columns
        if len(rows) * len(names) > self._settings.max_explained:
            raise TooLarge(
                f"{len(rows)} rows of {len(names)} features are more than {self._settings.max_explained} explanations, "
                "the setting anomaly.max_explained: send fewer rows at once"
            )
        usual = self._usual(len(rows))
        level = self.raw(usual, stopped)
        found: list[list[Contribution]] = [[] for _ in rows]
        for name, columns in zip(names, self._groups(), strict=True):
            without, alone = matrix.copy(), usual.copy()
            without[:, columns], alone[:, columns] = usual[:, columns], matrix[:, columns]
            shares = ((raw - self.raw(without, stopped)) + (self.raw(alone, stopped) - level)) / 2
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
