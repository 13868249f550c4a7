"""The conformance suite of embedders. Needs the packages pytest and pytest-asyncio.

::

    class TestMine(EmbedderSuite):
        @pytest.fixture
        def embedder(self):
            return Mine()
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from paddock.contracts.base import Json
from paddock.contracts.providers import Embedder, Health
from paddock.errors import ValidationFailed

TEXTS = ["a cow in the meadow", "a ship in the harbour", "cows eat grass", "the ship sails at noon", "milk"]
ODD = ["", " ", "\n\t", "é", "日本語", "🐄" * 50, "a" * 10_000, "\x00\x1b[31m", "' OR 1=1 --"]


class EmbedderSuite:
    """What holds for every embedder. Override the fixture `embedder` and, where needed, `type_name` and `raw_config`."""

    type_name: str | None = None  # None: the canonical one
    raw_config: ClassVar[dict[str, Json]] = {}
    tolerance = 1e-5  # between the same text alone and in a batch

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The embedder under test."""
        raise NotImplementedError("override the fixture `embedder`")

    @pytest.fixture
    def config(self, embedder: Embedder) -> Any:
        """The decoded config."""
        return embedder.configure(self.type_name or embedder.name, self.raw_config).config

    async def test_there_is_one_row_for_each_text(self, embedder: Embedder, config: Any) -> None:
        """If this fails: shape (texts, dimension), float32, C-contiguous."""
        vectors = await embedder.embed(TEXTS, config, "document")
        assert vectors.ndim == 2
        assert len(vectors) == len(TEXTS)
        assert vectors.dtype.name == "float32"
        assert vectors.flags.c_contiguous

    async def test_the_dimension_is_as_told(self, embedder: Embedder, config: Any) -> None:
        """If this fails, dimension() and the vectors differ."""
        vectors = await embedder.embed(TEXTS, config, "document")
        assert embedder.dimension(config) in (None, vectors.shape[1])

    async def test_no_texts_make_no_vectors(self, embedder: Embedder, config: Any) -> None:
        """If this fails, the empty list is not shape (0, …)."""
        assert (await embedder.embed([], config, "document")).shape[0] == 0

    async def test_batches_do_not_change_vectors(self, embedder: Embedder, config: Any) -> None:
        """If this fails, order is lost at the border of two batches, or neighbours in a batch leak into each other."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        size = getattr(config, "batch_size", None) or embedder.batch_size
        texts = [f"{TEXTS[number % len(TEXTS)]} number {number}" for number in range(size + 3)]
        together = await embedder.embed(texts, config, "document")
        for number in (0, size - 1, size, size + 2):
            alone = await embedder.embed([texts[number]], config, "document")
            assert np.allclose(together[number], alone[0], atol=self.tolerance), f"text {number} of {len(texts)}"

    async def test_the_same_text_has_the_same_vector(self, embedder: Embedder, config: Any) -> None:
        """If this fails, the embedder is not deterministic."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        once, again = await embedder.embed([TEXTS[0], TEXTS[0]], config, "document")
        assert np.allclose(once, again, atol=self.tolerance)

    async def test_different_texts_have_different_vectors(self, embedder: Embedder, config: Any) -> None:
        """If this fails, the texts are not looked at."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        vectors = await embedder.embed(TEXTS, config, "document")
        assert len(np.unique(vectors, axis=0)) == len(TEXTS)

    async def test_odd_texts_have_finite_vectors(self, embedder: Embedder, config: Any) -> None:
        """If this fails, an empty, very long or strange text breaks the batch it is in."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        vectors = await embedder.embed(ODD, config, "document")
        assert len(vectors) == len(ODD)
        assert bool(np.isfinite(vectors).all())

    async def test_queries_live_in_the_space_of_documents(self, embedder: Embedder, config: Any) -> None:
        """If this fails, a query can't be compared with what is stored."""
        documents = await embedder.embed(TEXTS, config, "document")
        assert (await embedder.embed([TEXTS[0]], config, "query")).shape[1] == documents.shape[1]

    async def test_concurrent_calls_do_not_mix(self, embedder: Embedder, config: Any) -> None:
        """If this fails, state of one call leaks into another."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        expected = await embedder.embed(TEXTS, config, "document")
        found = await asyncio.gather(*(embedder.embed([text], config, "document") for text in TEXTS))
        assert np.allclose(np.concatenate(found), expected, atol=self.tolerance)

    async def test_the_fingerprint_is_stable(self, embedder: Embedder, config: Any) -> None:
        """If this fails, the same config names two embedding spaces."""
        assert embedder.fingerprint(config) == embedder.fingerprint(config) != ""

    async def test_an_unknown_option_is_refused_by_name(self, embedder: Embedder) -> None:
        """If this fails, a mistyped option is ignored."""
        with pytest.raises(ValidationFailed) as caught:
            embedder.configure(self.type_name or embedder.name, {**self.raw_config, "no_such_option": 1})
        assert "no_such_option" in caught.value.message

    async def test_health_is_told(self, embedder: Embedder) -> None:
        """If this fails, health() raises or returns something else."""
        assert isinstance(await embedder.health(), Health)
