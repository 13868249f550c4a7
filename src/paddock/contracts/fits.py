"""What the lists of trained models tell about fits that are not done."""

from __future__ import annotations

from typing import Literal

import msgspec


class Fitting(msgspec.Struct, kw_only=True):
    """A fit that was accepted: it goes on to its end when its client leaves; what became of it is in the event log.

    `backend` only for anomaly detectors. Fits run one after another: `state` is ``waiting`` until its turn. If
    the server ends before, the fit is done at its next start. `since`: when it was accepted, in seconds since 1970.
    """

    model: str
    backend: str | msgspec.UnsetType = msgspec.UNSET
    samples: int
    state: Literal["waiting", "running"] = "waiting"
    since: float = 0.0
