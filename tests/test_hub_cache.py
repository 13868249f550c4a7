"""The model cache as it lies on disk, and the names of models."""

import os
from pathlib import Path

import pytest

from paddock.builtin.hub_cache import HubCache, long_size, short_size
from paddock.builtin.model_names import ModelName, choose, parse_model, quantization_of, quantizations
from paddock.errors import BadName
from paddock.settings import load_settings
from paddock.testing.hub_cache import COMMIT, cache_model

GGUF = "org/tiny-GGUF"


@pytest.fixture
def cache(tmp_path: Path) -> HubCache:
    return HubCache(tmp_path / "hub")


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("gpt2", ModelName("gpt2")),
            ("cross-encoder/ms-marco-MiniLM-L-6-v2", ModelName("cross-encoder/ms-marco-MiniLM-L-6-v2")),
            ("unsloth/Qwen3-1.7B-GGUF:q4_k_m", ModelName("unsloth/Qwen3-1.7B-GGUF", "Q4_K_M")),
            ("a/b:UD-Q4_K_XL", ModelName("a/b", "UD-Q4_K_XL")),
        ],
    )
    def test_a_model_is_a_repository_and_perhaps_a_quantization(self, text: str, name: ModelName) -> None:
        assert parse_model(text) == name

    @pytest.mark.parametrize(
        "text",
        [
            *("", ".", "..", "../x", "a/../b", "a/..", "/a", "a/", "a//b", "a/b/c", "a\\b", "a\0", "a b", "-a", "a/.b"),
            *("a--b/c", "a/b:", "a/b:../c", "a/b:c/d", "ä/b", "a" * 97, "a/" + "b" * 10_000, "a\n", "a/b\n", "%2e%2e"),
        ],
    )
    def test_what_could_walk_the_tree_is_no_model(self, text: str, cache: HubCache) -> None:
        with pytest.raises(BadName):
            parse_model(text)
        with pytest.raises(BadName):
            cache.folder(text)

    def test_what_is_no_name_is_shown_in_letters_that_every_terminal_has(self) -> None:
        with pytest.raises(BadName, match=r"^'\\xe4/b' is no model"):
            parse_model("ä/b")

    @pytest.mark.parametrize(
        ("stem", "quantization"),
        [
            ("Qwen3-1.7B-Q4_K_M", "Q4_K_M"),
            ("qwen3.q8_0", "Q8_0"),
            ("UD-Q4_K_XL/Qwen3-UD-Q4_K_XL", "UD-Q4_K_XL"),
            ("BF16/model", "BF16"),
            ("model-IQ2_XXS", "IQ2_XXS"),
            ("gpt-oss-20b-mxfp4", "MXFP4"),
            ("Q4-less-Qwen", "Q4"),
            ("model", "UNKNOWN"),
        ],
    )
    def test_a_file_name_states_its_quantization(self, stem: str, quantization: str) -> None:
        assert quantization_of(stem) == quantization

    def test_shards_are_one_model_and_a_set_with_a_hole_is_none(self) -> None:
        files = {
            "m-Q8_0-00002-of-00002.gguf": 2,
            "m-Q8_0-00001-of-00002.gguf": 1,
            "m-F16-00001-of-00002.gguf": 1,
            "m-Q4_K_M.gguf": 2,
            "mmproj-F16.gguf": 1,
            "README.md": 1,
        }
        found = quantizations(files)
        assert [(one.quantization, one.size) for one in found] == [("Q4_K_M", 2), ("Q8_0", 3)]
        assert found[1].files == ("m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf")

    def test_what_belongs_to_a_model_is_none(self) -> None:
        names = [
            "m-Q4_K_M-imatrix.gguf",
            "m-imatrix.gguf",
            "Q4_K_M/imatrix.gguf",
            "mmproj-F16.gguf",
            "m-mmproj-Q8_0.gguf",
        ]
        assert [one.files for one in quantizations(dict.fromkeys(names, 1))] == [("m-Q4_K_M-imatrix.gguf",)]

    def test_without_a_wish_the_preferred_one_is_chosen(self) -> None:
        offered = quantizations({f"m-{name}.gguf": 1 for name in ("F16", "Q4_K_M", "Q8_0")})
        chosen = [choose(offered, wanted) for wanted in (None, "q8_0", "Q2_K")]
        assert [one and one.quantization for one in chosen] == ["Q4_K_M", "Q8_0", None]


class TestCache:
    def test_a_folder_that_is_not_there_holds_nothing(self, cache: HubCache) -> None:
        assert cache.models() == []
        assert cache.snapshot("a/b") is None
        assert cache.gguf("a/b:Q8_0") is None

    def test_a_model_has_its_size_each_blob_once_its_date_and_its_refs(self, cache: HubCache) -> None:
        cache_model(cache.root, "org/one", {"a.bin": b"x" * 1000, "sub/b.bin": b"x" * 1000, "c": b"y"})
        cache_model(cache.root, "org/one", {"c": b"y"}, commit="f" * 40, ref="v2")
        os.utime(next(cache.folder("org/one").glob("blobs/*")), (0, 0))
        [model] = cache.models()
        assert (model.repo, model.size, model.revisions) == ("org/one", 1001, ("main", "v2"))
        details = model.details()
        assert (details["model_id"], details["size_human"]) == ("org/one", "1KB")
        assert details["last_modified"].endswith("Z")

    def test_the_files_of_a_revision_have_their_names(self, cache: HubCache) -> None:
        snapshot = cache_model(cache.root, "org/one", {"a": b"1", "sub/b": b"2"})
        assert cache.snapshot("org/one") == cache.snapshot("org/one", COMMIT) == snapshot
        assert cache.snapshot("org/one", "v9") is None
        assert {name: path.read_bytes() for name, path in cache.files(snapshot).items()} == {"a": b"1", "sub/b": b"2"}

    def test_files_without_blobs_count_too(self, cache: HubCache) -> None:
        snapshot = cache.folder("me/imported") / "snapshots" / "imported"
        snapshot.mkdir(parents=True)
        (snapshot / "model.onnx").write_bytes(b"x" * 7)
        [model] = cache.models()
        assert (model.size, model.revisions) == (7, ("imported",))
        assert cache.snapshot("me/imported") == snapshot

    def test_what_is_not_whole_is_no_model(self, cache: HubCache) -> None:
        snapshot = cache_model(cache.root, "org/half", {"a": b"x"})
        (cache.folder("org/half") / "blobs" / f"{'0' * 64}.incomplete").write_bytes(b"y")
        next(cache.folder("org/half").glob("blobs/" + "?" * 64)).unlink()
        (cache.folder("org/empty") / "snapshots" / COMMIT).mkdir(parents=True)
        assert cache.models() == []
        assert cache.snapshot("org/half") is None
        assert cache.files(snapshot) == {}

    def test_links_that_lead_outside_are_not_followed(self, cache: HubCache, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text("s")
        outside = cache_model(tmp_path / "elsewhere", "org/out", {"a": b"x"})
        snapshot = cache_model(cache.root, "org/one", {"a": b"x"})
        (snapshot / "file").symlink_to(secret)
        (snapshot / "folder").symlink_to(tmp_path)
        (cache.root / "models--org--linked").symlink_to(outside.parents[1])
        (cache.folder("org/one") / "refs" / "evil").symlink_to(secret)
        (cache.folder("org/one") / "snapshots" / "evil").symlink_to(outside)
        [model] = cache.models()
        assert (model.repo, model.revisions) == ("org/one", ("main",))
        assert list(cache.files(snapshot)) == ["a"]
        assert cache.snapshot("org/linked") is None

    def test_folders_of_others_are_passed_over(self, cache: HubCache) -> None:
        for name in ("datasets--a--b", "models--..", "models--a--b--c", ".locks", "models--"):
            (cache.root / name / "snapshots" / "x").mkdir(parents=True)
            (cache.root / name / "snapshots" / "x" / "f").write_text("x")
        (cache.root / "models--file").write_text("x")
        assert cache.models() == []

    def test_gguf_is_found_by_repository_and_quantization(self, cache: HubCache) -> None:
        files = {
            "t-Q8_0-00001-of-00002.gguf": b"1",
            "t-Q8_0-00002-of-00002.gguf": b"2",
            "t-Q4_K_M.gguf": b"4",
        }
        snapshot = cache_model(cache.root, GGUF, files)
        assert cache.gguf(f"{GGUF}:q8_0") == snapshot / "t-Q8_0-00001-of-00002.gguf"
        assert cache.gguf(GGUF) == snapshot / "t-Q4_K_M.gguf"
        assert cache.gguf(f"{GGUF}:Q2_K") is None
        (snapshot / "t-Q8_0-00002-of-00002.gguf").unlink()
        assert cache.gguf(f"{GGUF}:Q8_0") is None

    def test_short_names_of_sentence_transformers_resolve(self, cache: HubCache) -> None:
        assert cache.resolve("all-MiniLM-L6-v2").repo == "sentence-transformers/all-MiniLM-L6-v2"
        assert cache.resolve("gpt2").repo == "gpt2"
        cache_model(cache.root, "all-MiniLM-L6-v2", {"a": b"x"})
        assert cache.resolve("all-MiniLM-L6-v2").repo == "all-MiniLM-L6-v2"

    def test_a_missing_model_names_its_neighbours_and_the_command(self, cache: HubCache) -> None:
        cache_model(cache.root, "org/model-a", {"a": b"x"})
        text = cache.missing("org/model-b").message
        assert "org/model-a" in text
        assert "paddock models download org/model-b" in text


@pytest.mark.parametrize(
    ("size", "short", "long"),
    [
        (0, "0B", "0.0 B"),
        (90_000_000, "90MB", "85.83 MB"),
        (1_073_741_824, "1.1GB", "1.0 GB"),
        (1_879_048_192, "1.9GB", "1.75 GB"),
        (10**16, "10000TB", "9094.95 TB"),
    ],
)
def test_sizes_look_as_documented(size: int, short: str, long: str) -> None:
    assert (short_size(size), long_size(size)) == (short, long)


class TestFolder:
    def test_the_cache_is_in_the_data_folder_unless_the_hub_has_one(self, tmp_path: Path) -> None:
        def folder(**environ: str) -> Path:
            return load_settings({}, environ={"PADDOCK_DATA_DIR": "/d", **environ}).hub_cache

        assert folder() == Path("/d/models/hub")
        assert folder(HF_HOME="/h") == Path("/h/hub")
        assert folder(HF_HOME="/h", HF_HUB_CACHE="/c") == Path("/c")
        assert folder(HF_HUB_CACHE="/c", PADDOCK_MODELS__CACHE_DIR="/p") == Path("/p")

    def test_a_settings_file_is_stronger_than_the_hubs_variables(self, tmp_path: Path) -> None:
        config = tmp_path / "my.toml"
        config.write_text('[models]\ncache_dir = "/mine"\n')
        environ = {"HF_HUB_CACHE": "/c", "HF_TOKEN": "t", "HF_ENDPOINT": "http://e"}  # for a plugin that is not here
        assert load_settings({}, config=config, environ=environ).hub_cache == Path("/mine")
