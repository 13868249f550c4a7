"""The hashing embedder."""

import subprocess
import sys
import threading
from typing import Any, ClassVar

import numpy as np
import pytest

from paddock.builtin import hashing
from paddock.builtin.hashing import HashingConfig, HashingEmbedder, words
from paddock.contracts.base import Json
from paddock.errors import ValidationFailed
from paddock.testing.embedder import EmbedderSuite


class TestHashingEmbedder(EmbedderSuite):
    @pytest.fixture
    def embedder(self) -> HashingEmbedder:
        return HashingEmbedder()


class TestWordsAlone(TestHashingEmbedder):
    raw_config: ClassVar[dict[str, Json]] = {"ngram_weight": 0, "dimension": 64, "batch_size": 3}


def vectors(*texts: str, **options: Any) -> Any:
    return HashingEmbedder().vectors(texts, HashingConfig(**options))


def likeness(one: str, other: str, **options: Any) -> float:
    a, b = vectors(one, other, **options)
    return float(a @ b)


def test_vectors_have_length_one() -> None:
    found = vectors("a cow", "", " ", "!?", "the of and", "日本語のテキスト", "\x00", "x" * 100_000, "\ud800")
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_vectors_are_the_same_in_every_process() -> None:
    code = (
        "from paddock.builtin.hashing import *; "
        "print(HashingEmbedder().vectors(['Cows eat grass, don\\'t they?'], HashingConfig()).tobytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {vectors("Cows eat grass, don't they?").tobytes().hex() + "\n"}


def test_what_was_embedded_before_changes_nothing() -> None:
    used = HashingEmbedder()
    used.vectors(["ones twos others us"] * 3, HashingConfig())
    assert np.array_equal(used.vectors(["one ship of ours"], HashingConfig()), vectors("one ship of ours"))


def test_a_full_table_is_begun_anew() -> None:
    used = HashingEmbedder(cached_stems=10)
    for number in range(5):
        used.vectors([" ".join(f"word{number}x{at}" for at in range(20))], HashingConfig())
    assert np.array_equal(used.vectors(["a ship"], HashingConfig()), vectors("a ship"))


def test_only_the_last_sets_of_options_are_kept() -> None:
    used = HashingEmbedder()
    for dimension in range(64, 80):
        assert used.vectors(["a ship"], HashingConfig(dimension=dimension)).shape == (1, dimension)
    assert len(used._features) == hashing.CACHED_TABLES


def test_forms_of_a_word_are_one_word() -> None:
    assert likeness("sailing ships", "sailed ship") == pytest.approx(1)


def test_case_and_accents_do_not_count() -> None:
    assert likeness("Café CRÈME", "cafe creme") == pytest.approx(1)


def test_function_words_weigh_little() -> None:
    assert likeness("the ship", "ship of the") > 0.95
    assert likeness("where is the ship", "where is the cow") < 0.3


def test_a_misspelt_word_is_near_through_its_n_grams() -> None:
    assert likeness("aerodynamics", "aerodinamics") > likeness("aerodynamics", "aerodinamics", ngram_weight=0) + 0.05


def test_texts_without_spaces_are_read_in_pairs_of_characters() -> None:
    assert words("牛は草を食べる") == ["牛は", "は草", "草を", "を食", "食べ", "べる"]
    assert likeness("牛は草を食べる", "草を食べる牛") > likeness("牛は草を食べる", "船が港を出る")


@pytest.mark.parametrize(
    "options", [{"dimension": 256}, {"ngram_min": 2}, {"ngram_max": 6}, {"ngram_weight": 0.0}, {"ngram_weight": 1.0}]
)
def test_each_option_changes_the_vectors_and_the_fingerprint(options: dict[str, Any]) -> None:
    one, other = HashingConfig(), HashingConfig(**options)
    assert not np.array_equal(vectors("an aerodynamic ship"), vectors("an aerodynamic ship", **options))
    assert HashingEmbedder().fingerprint(one) != HashingEmbedder().fingerprint(other)


def test_the_batch_size_changes_neither() -> None:
    assert HashingEmbedder().fingerprint(HashingConfig(batch_size=1)) == HashingEmbedder().fingerprint(HashingConfig())


@pytest.mark.parametrize("raw", [{"dimension": 63}, {"dimension": 4097}, {"ngram_weight": -1}, {"ngram_min": 5}])
def test_bad_options_are_refused(raw: dict[str, Json]) -> None:
    with pytest.raises(ValidationFailed):
        HashingEmbedder().configure("HashingEmbedder", raw)


def test_n_grams_that_weigh_nothing_are_a_warning() -> None:
    configured = HashingEmbedder().configure("HashingEmbedder", {"ngram_weight": 0, "ngram_max": 5})
    assert "without effect" in configured.warnings[0]


async def test_embedding_runs_outside_the_loop() -> None:
    seen = []

    class Watched(HashingEmbedder):
        def vectors(self, texts: Any, config: HashingConfig) -> Any:
            seen.append(threading.current_thread() is threading.main_thread())
            return super().vectors(texts, config)

    await Watched().embed(["a cow"], HashingConfig(), "query")
    assert seen == [False]
