"""The real MiniLM, imported by our own importer: what sentence-transformers says of it, we say too.

The weights come from `.ci/minilm` (`just minilm`), which PADDOCK_MINILM may replace by another folder.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from onnx_kit import imported
from paddock_onnx.embedder import OnnxEmbedder
from paddock_onnx.residency import Residency
from paddock_onnx.settings import OnnxSettings

from paddock.builtin.hub_cache import HubCache

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paddock" / "minilm"
TEXTS = [
    "How much water does a dairy cow drink?",
    "A cow drinks between 80 and 120 litres of water a day.",
    "The museum opens at nine on weekdays.",
    "Die Kuh trinkt Wasser – täglich! 🐄",  # noqa: RUF001  a dash that is no hyphen is what is tried
    "word " * 600,  # longer than the window
]
# Of sentence-transformers 6.2.0 with torch 2.13.0.
COSINES = [
    [1.0, 0.75889, 0.01383, -0.00984, 0.08153],
    [0.75889, 1.0, 0.02923, -0.02034, 0.05370],
    [0.01383, 0.02923, 1.0, 0.01997, -0.03855],
    [-0.00984, -0.02034, 0.01997, 1.0, 0.00739],
    [0.08153, 0.05370, -0.03855, 0.00739, 1.0],
]
BEGINNINGS = [
    [0.01673, -0.05080, -0.02534, 0.05284],
    [-0.02434, -0.00922, -0.00116, 0.03699],
    [0.01154, -0.00342, 0.03522, 0.06476],
    [-0.01724, 0.09509, 0.04593, -0.04861],
    [-0.00812, -0.09559, -0.03867, 0.04966],
]


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder with the weights."""
    given = os.environ.get("PADDOCK_MINILM")
    found = [Path(given)] if given else sorted(CACHE.glob("*"))
    if found and (found[-1] / "model.safetensors").is_file():
        return found[-1]
    if os.environ.get("CI"):
        raise RuntimeError("MiniLM is missing: .ci/minilm fetches it")
    return pytest.skip("MiniLM is not there: `just minilm` fetches it (84 MB)")


@pytest_asyncio.fixture
async def embedder(tmp_path: Path) -> AsyncIterator[OnnxEmbedder]:
    residency = Residency(HubCache(tmp_path / "hub"), OnnxSettings())
    yield OnnxEmbedder(residency)
    await residency.close()


@pytest.mark.parametrize(("quantize", "tolerance"), [(None, 2e-5), ("int8", 0.06)])
async def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, folder: Path, embedder: OnnxEmbedder, quantize: str | None, tolerance: float
) -> None:
    size = imported(tmp_path / "hub", folder, MODEL, quantize).size
    config = embedder.configure("UniversalEmbedder", {"model": "all-MiniLM-L6-v2"}).config
    vectors = await embedder.embed(TEXTS, config, "document")
    assert np.abs(vectors @ vectors.T - np.array(COSINES)).max() < tolerance
    assert np.abs(vectors[:, :4] - np.array(BEGINNINGS)).max() < tolerance
    assert (size < 25_000_000) == (quantize == "int8")
