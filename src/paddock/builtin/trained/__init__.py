"""Models that users train: kept on disk whole or not at all, in versions, loaded when they are needed, fitted durably.

For plugins. A model is one ONNX file and one JSON file in a folder of its own; pickles are neither written nor read.
"""

from paddock.builtin.trained.files import Damaged, Found, Key, ModelFiles, Saved, shown
from paddock.builtin.trained.fits import Fits
from paddock.builtin.trained.memory import InMemory
from paddock.builtin.trained.names import base_name, is_version, not_there

__all__ = [
    "Damaged",
    "Fits",
    "Found",
    "InMemory",
    "Key",
    "ModelFiles",
    "Saved",
    "base_name",
    "is_version",
    "not_there",
    "shown",
]
