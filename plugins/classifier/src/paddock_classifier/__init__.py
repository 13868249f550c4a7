"""Text classifiers from a few examples of each label, on any embedder."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from paddock.contracts.base import Service, hookimpl
from paddock.contracts.providers import Environment
from paddock_classifier.service import ClassifierService
from paddock_classifier.settings import ClassifierSettings

__all__ = ["ClassifierPlugin", "ClassifierService", "ClassifierSettings", "plugin"]


class ClassifierPlugin:
    """The entry point."""

    @hookimpl
    def paddock_settings(self) -> tuple[str, type[msgspec.Struct]]:
        """Section ``classifier``."""
        return "classifier", ClassifierSettings

    @hookimpl
    def paddock_services(self, env: Environment) -> Sequence[Service]:
        """The endpoints of `paddock.contracts.classifiers`; models live in ``{data}/models/classifier``."""
        return [ClassifierService(env.settings, env.data_dir / "models" / "classifier", env.host)]


plugin = ClassifierPlugin()
