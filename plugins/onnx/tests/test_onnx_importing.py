"""Folders into the cache: the graph is the model, the cache is whole, what lies is refused."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_kit import (
    FAMILIES,
    LETTERS,
    SENTENCE,
    WIDTH,
    WORDS,
    imported,
    put,
    reference,
    tiny,
    tokenizer_of,
    weights_of,
    write_safetensors,
)
from paddock_onnx.cache import find_graph
from paddock_onnx.facts import read_facts
from paddock_onnx.session import Session
from paddock_onnx.settings import OnnxSettings

from paddock.builtin.hub_cache import HubCache
from paddock.builtin.hub_store import MARKER
from paddock.errors import BadName, BadRequest, ModelNotFound, PaddockError, ValidationFailed

TASKS = ("embedding", "classification", "ner")


def batch(length: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """Three texts of different lengths, padded; long enough for every bucket of distances."""
    rng = np.random.default_rng(3)
    mask = np.zeros((3, length), dtype=np.int64)
    for row, size in enumerate((length, length // 2, 4)):
        mask[row, :size] = 1
    return np.where(mask == 1, rng.integers(7, len(WORDS), mask.shape), 1), mask


def session(folder: Path) -> Session:
    return Session.open(folder, folder / "onnx" / "model.onnx", providers=(), threads=1)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_built_graph_computes_what_the_weights_say(tmp_path: Path, family: str, task: str) -> None:
    found = put(tmp_path / "hub", "org/tiny", family, task)
    ids, mask = batch()
    expected = reference(family, task, weights_of(family, task), ids, mask)
    got = session(found.folder).run(ids, mask)
    if got.ndim == 3:  # what stands under the padding is nobody's
        got, expected = got * mask[..., None], expected * mask[..., None]
    assert np.abs(got - expected).max() < 2e-5
    assert found.task == task


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_keeps_the_direction_of_the_vectors(tmp_path: Path, family: str) -> None:
    source = tiny(tmp_path / "source", family)
    full, small = (
        imported(tmp_path / "hub", source, f"org/{name}", q) for name, q in (("full", None), ("small", "int8"))
    )
    ids, mask = batch()
    one, two = ((session(x.folder).run(ids, mask) * mask[..., None]).sum(1) for x in (full, small))
    cosine = (one * two).sum(-1) / np.linalg.norm(one, axis=-1) / np.linalg.norm(two, axis=-1)
    assert cosine.min() > 0.99
    assert json.loads((small.folder / MARKER).read_text())["quantize"] == "int8"


def test_half_precision_is_run_but_not_quantised(tmp_path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    built = put(tmp_path / "hub", "org/full", "bert").folder
    folder = tiny(tmp_path / "exported", "bert")
    (folder / "model.safetensors").unlink()
    model = onnx.load(built / "onnx" / "model.onnx")
    onnx.save(convert_float_to_float16(model, disable_shape_infer=True), folder / "model.onnx")
    half = imported(tmp_path / "hub", folder, "org/half").folder
    ids, mask = batch()
    found, full = ((session(one).run(ids, mask) * mask[..., None]) for one in (half, built))
    assert np.abs(found - full).max() < 0.05
    with pytest.raises(ValidationFailed, match=r"half precision.*export the model in full precision"):
        imported(tmp_path / "hub", folder, "org/small", "int8")


def test_an_imported_model_is_one_of_the_cache_and_found_by_its_short_name(tmp_path: Path) -> None:
    put(tmp_path / "hub", "sentence-transformers/all-MiniLM-L6-v2", files=SENTENCE)
    cache = HubCache(tmp_path / "hub")
    found = find_graph(cache, "all-MiniLM-L6-v2")
    assert found.id == "sentence-transformers/all-MiniLM-L6-v2"
    assert read_facts(found.folder).normalize
    assert [model.repo for model in cache.models()] == [found.id]
    assert cache.models()[0].revisions == ("main",)


def test_an_import_replaces_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    first = put(tmp_path / "hub", "org/tiny", seed=1)
    second = put(tmp_path / "hub", "org/tiny", seed=2)
    again = put(tmp_path / "hub", "org/tiny", seed=2)
    assert second.folder == again.folder != first.folder
    assert [path.name for path in second.folder.parent.iterdir()] == [second.folder.name]
    assert [path.name for path in (tmp_path / "hub").iterdir()] == ["models--org--tiny"]


def test_an_onnx_file_is_taken_as_it_is_with_the_files_beside_it(tmp_path: Path) -> None:
    import onnx

    built = put(tmp_path / "hub", "org/first").folder
    folder = tiny(tmp_path / "exported")
    (folder / "model.safetensors").unlink()
    model = onnx.load(built / "onnx" / "model.onnx")
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    found = imported(tmp_path / "hub", folder, "org/exported")
    assert (found.folder / "onnx" / "model.onnx_data").is_file()
    small = imported(tmp_path / "hub", folder, "org/small", "int8").folder / "onnx"
    assert [path.name for path in small.iterdir()] == ["model.onnx"]
    ids, mask = batch()
    assert np.array_equal(session(found.folder).run(ids, mask), session(built).run(ids, mask))


def test_a_cached_model_without_onnx_says_how_to_build_one_and_is_built(tmp_path: Path) -> None:
    from paddock.testing.hub_cache import cache_model

    source = tiny(tmp_path / "source")
    cache_model(tmp_path / "hub", "org/tiny", {path.name: path.read_bytes() for path in source.iterdir()})
    with pytest.raises(BadRequest, match="paddock models import org/tiny"):
        find_graph(HubCache(tmp_path / "hub"), "org/tiny")
    found = imported(tmp_path / "hub", Path("org/tiny"))
    assert found.model == "org/tiny"
    assert find_graph(HubCache(tmp_path / "hub"), "org/tiny").folder == found.folder


def test_weights_may_be_split_over_files(tmp_path: Path) -> None:
    folder, tensors = tiny(tmp_path / "split"), weights_of("bert", "embedding")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for number, part in enumerate((names[::2], names[1::2])):
        write_safetensors(folder / f"part{number}.safetensors", {name: tensors[name] for name in part})
    index = {"weight_map": {name: f"part{number % 2}.safetensors" for number, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    ids, mask = batch()
    got = session(imported(tmp_path / "hub", folder, "org/split").folder).run(ids, mask)
    assert np.abs((got - reference("bert", "embedding", tensors, ids, mask)) * mask[..., None]).max() < 2e-5


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_vocabulary_alone_becomes_the_same_tokenizer(tmp_path: Path, family: str) -> None:
    folder = tiny(tmp_path / "old", family)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    made = session(imported(tmp_path / "hub", folder, "org/old").folder).tokenizer
    for texts in (("A cow", None), ("a ship, milk", "water!")):
        assert made.encode(*texts).ids == tokenizer_of(family).encode(*texts).ids


def test_a_vocabulary_of_byte_pairs_becomes_a_tokenizer(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "old", "roberta")
    (folder / "tokenizer.json").unlink()
    letters = {letter: number for number, letter in enumerate(["<s>", "<pad>", "</s>", *LETTERS, "co", "cow"])}
    (folder / "vocab.json").write_text(json.dumps(letters))
    (folder / "merges.txt").write_text("#version: 0.2\nc o\nco w\n")
    made = session(imported(tmp_path / "hub", folder, "org/old").folder).tokenizer
    assert made.encode("cow").tokens == ["<s>", "cow", "</s>"]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"model": null}', '{"model": {"type": "BPE", "vocab": {}, "merges": [["a", "b"]]}}',
     '{"version": "1.0", "model": ' + "[" * 100_000, '{"model": {"type": "WordPiece", "vocab": {"a": -1}}}', "\x00"],
    ids=range(9),
)  # fmt: skip
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, text: str) -> None:
    folder = tiny(tmp_path / "source")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(ValidationFailed, match=r"tokenizer\.json"):
        imported(tmp_path / "hub", folder, "org/tiny")


def test_a_folder_without_a_tokenizer_says_what_to_copy(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "source")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValidationFailed, match="save_pretrained"):
        imported(tmp_path / "hub", folder, "org/tiny")


def test_a_cached_model_with_a_link_that_leads_out_is_not_run(tmp_path: Path) -> None:
    folder = put(tmp_path / "hub", "org/tiny").folder
    outside = tmp_path / "outside.json"
    (folder / "config.json").rename(outside)
    (folder / "config.json").symlink_to(outside)
    with pytest.raises(BadRequest, match=r"lacks config\.json"):
        find_graph(HubCache(tmp_path / "hub"), "org/tiny")


def corrupt(folder: Path, what: str) -> None:
    """Make a folder's weights lie in one way."""
    path = folder / "model.safetensors"
    tensors = weights_of("bert", "embedding")
    name = "embeddings.LayerNorm.bias"
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif what == "header beyond the file":
        path.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "deep":
        path.write_bytes(struct.pack("<Q", 200_000) + b'{"a":' + b"[" * 199_995)
    elif what == "nan":
        write_safetensors(path, tensors | {name: np.full(WIDTH, np.nan, dtype=np.float32)})
    elif what == "missing":
        write_safetensors(path, {key: value for key, value in tensors.items() if key != name})
    elif what == "wrong shape":
        write_safetensors(path, tensors | {name: np.zeros(WIDTH + 1, dtype=np.float32)})
    else:
        lying = {"shape lies": [2**40, 2**20], "negative": [-1, -4], "overlap": [1]}[what]
        offsets = [0, 4]
        header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
                  "b": {"dtype": "F32", "shape": lying, "data_offsets": offsets}}  # fmt: skip
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(4))


@pytest.mark.parametrize(
    "what",
    [
        "cut",
        "header beyond the file",
        "empty",
        "deep",
        "nan",
        "missing",
        "wrong shape",
        "shape lies",
        "negative",
        "overlap",
    ],
)
def test_weights_that_lie_are_refused_and_nothing_is_stored(tmp_path: Path, what: str) -> None:
    folder = tiny(tmp_path / "source")
    corrupt(folder, what)
    with pytest.raises(ValidationFailed):
        imported(tmp_path / "hub", folder, "org/tiny")
    assert list((tmp_path / "hub").iterdir()) == []


def test_weights_as_a_pickle_are_never_opened(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "source")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValidationFailed, match="pickle"):
        imported(tmp_path / "hub", folder, "org/tiny")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"num_attention_heads": 5, "n_heads": 5}, "do not fit"),
        ({"hidden_act": "swish"}, "swish"),
        ({"position_embedding_type": "relative_key"}, "relative positions"),
        ({"num_hidden_layers": 10**9}, "do not fit"),
        ({"num_hidden_layers": 5}, "lacks the tensor"),
    ],
)
def test_a_config_that_does_not_fit_says_what(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationFailed, match=words):
        imported(tmp_path / "hub", tiny(tmp_path / "source", **change), "org/tiny")


def test_labels_must_be_as_many_as_the_weights_have(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "source", task="classification", id2label={"0": "a", "1": "b"})
    with pytest.raises(ValidationFailed, match="2 labels, the weights have 3"):
        imported(tmp_path / "hub", folder, "org/tiny")


@pytest.mark.parametrize("name", ["../up", "a/b/c", "/etc", "a--b", "", "a\0b", "x" * 200, "org/..", "ä/b"])
def test_a_name_that_is_no_models_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PaddockError) as caught:
        imported(tmp_path / "hub", tiny(tmp_path / "tiny"), name or "/")
    assert isinstance(caught.value, BadName)


def test_a_folder_names_its_model(tmp_path: Path) -> None:
    assert imported(tmp_path / "hub", tiny(tmp_path / "My Model--1_")).model == "My-Model-1"


def test_what_is_no_folder_says_so(tmp_path: Path) -> None:
    for folder in (tmp_path / "nothing", Path("org/nothing")):
        with pytest.raises(ValidationFailed, match="no folder"):
            imported(tmp_path / "hub", folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValidationFailed, match=r"config\.json is missing"):
        imported(tmp_path / "hub", tmp_path / "empty")


def test_a_model_over_the_limit_is_refused_by_the_settings_name(tmp_path: Path) -> None:
    folder = tiny(tmp_path / "source")
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(2 * 1024 * 1024)
    with pytest.raises(ValidationFailed, match="max_model_mb"):
        imported(tmp_path / "hub", folder, "org/tiny", settings=OnnxSettings(max_model_mb=1))


def test_an_unknown_model_names_near_ones_and_the_command(tmp_path: Path) -> None:
    put(tmp_path / "hub", "org/tiny-model")
    with pytest.raises(ModelNotFound, match=r"near: org/tiny-model.*paddock models download org/tiny-modle"):
        find_graph(HubCache(tmp_path / "hub"), "org/tiny-modle")
