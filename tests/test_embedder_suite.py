"""The suite for embedders is proved by fakes that are broken on purpose, and by a good one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from paddock.contracts.providers import Embedder, NoConfig, TextKind, TypeName, Vectors
from paddock.testing.embedder import EmbedderSuite
from paddock.testing.proof import failures_of, name_of


class Letters(Embedder):
    """A good embedder in few lines: counts letters."""

    types = (TypeName("letters", NoConfig),)
    batch_size = 4

    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        return np.array([self.vector(text) for text in texts], dtype=np.float32)

    def vector(self, text: str) -> list[float]:
        return [float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz0123456789"]


class Unordered(Letters):
    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        return (await super().embed_batch(texts, config, kind))[::-1]


class Liar(Letters):
    def dimension(self, config: Any) -> int:
        return 7


class Random(Letters):
    def vector(self, text: str) -> list[float]:
        return list(np.random.default_rng().random(36))


class Blind(Letters):
    def vector(self, text: str) -> list[float]:
        return [1.0] * 36


class Fragile(Letters):
    def vector(self, text: str) -> list[float]:
        return [value / len(text.strip()) for value in super().vector(text)]


class TwoSpaces(Letters):
    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        vectors = await super().embed_batch(texts, config, kind)
        return vectors if kind == "document" else vectors[:, :5]


class Tolerant(Letters):
    def configure(self, type_name: str, raw: Any) -> Any:
        return super().configure(type_name, {})


class Unstable(Letters):
    def fingerprint(self, config: Any) -> str:
        return str(np.random.default_rng().random())


class Leaky(Letters):
    async def embed_batch(self, texts: Sequence[str], config: Any, kind: TextKind) -> Vectors:
        self.texts = texts
        await asyncio.sleep(0)
        return await super().embed_batch(self.texts, config, kind)


EMBEDDERS: list[tuple[Embedder, str]] = [
    (Letters(), ""),
    (Unordered(), "batches_do_not_change_vectors"),
    (Liar(), "the_dimension_is_as_told"),
    (Random(), "the_same_text_has_the_same_vector"),
    (Blind(), "different_texts_have_different_vectors"),
    (Fragile(), "odd_texts_have_finite_vectors"),
    (TwoSpaces(), "queries_live_in_the_space_of_documents"),
    (Tolerant(), "an_unknown_option_is_refused_by_name"),
    (Unstable(), "the_fingerprint_is_stable"),
    (Leaky(), "concurrent_calls_do_not_mix"),
]


class AnyEmbedderSuite(EmbedderSuite):
    __test__ = False


@pytest.mark.parametrize(("embedder", "expected"), EMBEDDERS, ids=name_of)
async def test_the_embedder_suite_sees_what_is_broken(embedder: Embedder, expected: str) -> None:
    failed = await failures_of(AnyEmbedderSuite(), embedder=embedder, config=NoConfig())
    assert expected in failed if expected else not failed
