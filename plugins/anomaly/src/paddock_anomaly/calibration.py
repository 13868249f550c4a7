"""From a backend's raw scores to scores and thresholds, with statistics of the training scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import msgspec

from paddock.contracts.anomaly import Normalization

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
_NOISE = 1e-6  # differences of raw scores that rounding may make, relative to their size
_STEEPEST = 700.0  # exp of more overflows


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """`fence` is where outliers begin among the raw training scores, `width` what one step of the sigmoid is."""

    fence: float
    width: float
    mean: float
    std: float

    @classmethod
    def of(cls, raw: Floats) -> Calibration:
        """Tukey's fence: the third quartile and one and a half of the distance between the quartiles."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        low, middle, high = (float(value) for value in np.percentile(raw, [25, 50, 75]))
        noise = _noise(middle)
        spread = high - low if high - low > noise else 0.0
        std = float(raw.std()) if float(raw.std()) > noise else 0.0
        return cls(
            fence=high + 1.5 * spread + noise,
            width=2 * spread or std or 1.0,
            mean=float(raw.mean()),
            std=std or 1.0,
        )

    def normalized(self, raw: Floats, how: Normalization) -> Floats:
        """The scores; they grow with the raw ones."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        if how == "raw":
            return raw
        if how == "zscore":
            return (raw - self.mean) / self.std
        steps = np.clip((raw - self.fence) / self.width, -_STEEPEST, _STEEPEST)
        return 1.0 / (1.0 + np.exp(-steps))

    def threshold(self, raw: Floats, how: Normalization, contamination: float) -> float:
        """The score above which this share of the training rows lies: none of them when it is less than one row."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        if contamination * len(raw) < 1:
            highest = raw.max(keepdims=True)
            return float(self.normalized(highest + _noise(float(highest[0])), how)[0])
        return float(np.quantile(self.normalized(raw, how), 1 - contamination))


def _noise(raw: float) -> float:
    """By how much rounding may move such a raw score."""
    return _NOISE * max(1.0, abs(raw))
