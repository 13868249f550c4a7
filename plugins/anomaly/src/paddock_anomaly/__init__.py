"""Anomaly detectors, learnt with scikit-learn, saved and scored as ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import Service, hookimpl
from paddock.contracts.providers import Environment
from paddock_anomaly.service import AnomalyService
from paddock_anomaly.settings import AnomalySettings

__all__ = ["AnomalyPlugin", "AnomalyService", "AnomalySettings", "plugin"]


class AnomalyPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``anomaly``."""
        return "anomaly", AnomalySettings

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        """The endpoints of `paddock.contracts.anomaly`; models live in ``{data}/models/anomaly``."""
        return [AnomalyService(env.settings, env.data_dir / "models" / "anomaly", env.host)]


plugin = AnomalyPlugin()
