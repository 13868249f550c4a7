"""Tiny models as Hugging Face folders: random weights, real tokenizers; and the same mathematics in plain numpy."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paddock_onnx.importing.importer import OnnxImporter
from paddock_onnx.settings import OnnxSettings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from paddock.builtin.hub_cache import HubCache
from paddock.contracts.base import Json
from paddock.contracts.providers import Imported

Array = NDArray[Any]
FAMILIES = ("bert", "roberta", "distilbert", "mpnet")
WIDTH, LAYERS, HEADS, INNER, POSITIONS = 32, 2, 4, 64, 80
SPECIAL = ["<s>", "<pad>", "</s>", "[UNK]", "[PAD]", "[CLS]", "[SEP]"]
LETTERS = [chr(code) for code in range(33, 127)]
WORDS = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), "cow", "ship", "milk", "water", "harbour", "drink"]
LAYER_NAMES = {
    "bert": ("encoder.layer.{}.", "attention.self.query", "attention.self.key", "attention.self.value",
             "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    "mpnet": ("encoder.layer.{}.", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
              "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
    "distilbert": ("transformer.layer.{}.", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
                   "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm"),
}  # fmt: skip
LAYER_NAMES["roberta"] = LAYER_NAMES["bert"]


def config_of(family: str, task: str, labels: Sequence[str] = ("one", "two", "three")) -> dict[str, Json]:
    """``config.json`` of a tiny model."""
    architecture = {"classification": "ForSequenceClassification", "rerank": "ForSequenceClassification",
                    "ner": "ForTokenClassification", "embedding": "Model"}[task]  # fmt: skip
    config: dict[str, Json] = {
        "model_type": family,
        "architectures": [f"Any{architecture}"],
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER,
        "dim": WIDTH, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": POSITIONS,
        "pad_token_id": 1 if family in ("roberta", "mpnet") else 4,
    }  # fmt: skip
    if task != "embedding":
        config["id2label"] = {str(number): label for number, label in enumerate(labels)}
    return config


def weights_of(family: str, task: str, labels: int = 3, seed: int = 7) -> dict[str, Array]:
    """Random tensors under the names that the family has."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {}
    prefix = "" if task == "embedding" else f"{family}."
    shapes[f"{prefix}embeddings.word_embeddings.weight"] = (len(WORDS), WIDTH)
    shapes[f"{prefix}embeddings.position_embeddings.weight"] = (POSITIONS, WIDTH)
    if family in ("bert", "roberta"):
        shapes[f"{prefix}embeddings.token_type_embeddings.weight"] = (2 if family == "bert" else 1, WIDTH)
    if family == "mpnet":
        shapes[f"{prefix}encoder.relative_attention_bias.weight"] = (32, HEADS)
    at, *parts = LAYER_NAMES[family]
    sizes = [(WIDTH, WIDTH)] * 4 + [(WIDTH,), (INNER, WIDTH), (WIDTH, INNER), (WIDTH,)]
    for number in range(LAYERS):
        for part, size in zip(parts, sizes, strict=True):
            name = prefix + at.format(number) + part
            shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    shapes |= {f"{prefix}embeddings.LayerNorm.{one}": (WIDTH,) for one in ("weight", "bias")}
    for name, size in _head_shapes(family, task, labels).items():
        shapes |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    return {
        name: (rng.normal(scale=0.3, size=size) + (1 if len(size) == 1 and "Norm" in name else 0)).astype(np.float32)
        for name, size in shapes.items()
    }


def _head_shapes(family: str, task: str, labels: int) -> dict[str, tuple[int, int]]:
    if task == "embedding":
        return {}
    if task == "ner":
        return {"classifier": (labels, WIDTH)}
    if family == "bert":
        return {"bert.pooler.dense": (WIDTH, WIDTH), "classifier": (labels, WIDTH)}
    if family == "distilbert":
        return {"pre_classifier": (WIDTH, WIDTH), "classifier": (labels, WIDTH)}
    return {"classifier.dense": (WIDTH, WIDTH), "classifier.out_proj": (labels, WIDTH)}


def reference(family: str, task: str, tensors: Mapping[str, Array], ids: Array, mask: Array) -> Array:
    """What the model has to give, written down once more without any graph."""
    prefix = "" if task == "embedding" else f"{family}."

    def get(name: str) -> Array:
        return tensors[prefix + name]

    def linear(x: Array, name: str) -> Array:
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * get(f"{name}.weight") + get(f"{name}.bias")

    length = ids.shape[1]
    places = np.arange(length)[None] if family in ("bert", "distilbert") else np.cumsum(mask, 1) * mask + 1
    hidden = get("embeddings.word_embeddings.weight")[ids] + get("embeddings.position_embeddings.weight")[places]
    if family in ("bert", "roberta"):
        hidden = hidden + get("embeddings.token_type_embeddings.weight")[0]
    hidden = norm(hidden, "embeddings.LayerNorm")
    bias = np.where(mask[:, None, None, :] == 1, 0.0, -1e4)
    if family == "mpnet":
        table = get("encoder.relative_attention_bias.weight")
        near = np.array([[_bucket(key - query) for key in range(length)] for query in range(length)])
        bias = bias + table[near].transpose(2, 0, 1)[None]
    at, *names = LAYER_NAMES[family]
    for number in range(LAYERS):
        query, key, value, out, first, up, down, last = (at.format(number) + name for name in names)
        q, k, v = (_heads(linear(hidden, prefix + name)) for name in (query, key, value))
        weights = np.exp(q @ k.transpose(0, 1, 3, 2) / math.sqrt(WIDTH // HEADS) + bias)
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        mixed = mixed.transpose(0, 2, 1, 3).reshape(hidden.shape)
        hidden = norm(linear(mixed, prefix + out) + hidden, first)
        inner = linear(hidden, prefix + up)
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        hidden = norm(linear(inner, prefix + down) + hidden, last)
    return np.asarray(_head(family, task, hidden, linear), dtype=np.float32)


def _head(family: str, task: str, hidden: Array, linear: Any) -> Any:
    if task == "embedding":
        return hidden
    if task == "ner":
        return linear(hidden, "classifier")
    if family == "bert":
        return linear(np.tanh(linear(hidden[:, 0], "bert.pooler.dense")), "classifier")
    if family == "distilbert":
        return linear(np.maximum(linear(hidden[:, 0], "pre_classifier"), 0), "classifier")
    return linear(np.tanh(linear(hidden[:, 0], "classifier.dense")), "classifier.out_proj")


def _heads(x: Array) -> Any:
    return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)


def _bucket(distance: int) -> int:
    size, first = abs(distance), 16 if distance > 0 else 0
    return first + (size if size < 8 else min(15, 8 + int(math.log(size / 8) / math.log(16) * 8)))


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """A safetensors file."""
    header, at = {}, 0
    for name, array in tensors.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in tensors.values()))


def tokenizer_of(family: str) -> Tokenizer:
    """A tokenizer of single letters and a few words, with the family's own special tokens."""
    first, last, pad = ("<s>", "</s>", "<pad>") if family in ("roberta", "mpnet") else ("[CLS]", "[SEP]", "[PAD]")
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pair = f"{first} $A {last} $B:1 {last}:1" if family == "bert" else f"{first} $A {last} {last} $B {last}"
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=pair, special_tokens=[(one, WORDS.index(one)) for one in (first, last)]
    )
    made.add_special_tokens([first, last, pad, "[UNK]"])
    made.enable_padding(pad_id=WORDS.index(pad), pad_token=pad)
    return made


def tiny(
    folder: Path,
    family: str = "bert",
    task: str = "embedding",
    *,
    labels: Sequence[str] = ("one", "two", "three"),
    seed: int = 7,
    files: Mapping[str, Json] | None = None,
    **config: Json,
) -> Path:
    """A model folder as `save_pretrained` leaves it; `files` are further JSON files, `config` further keys of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    if task == "rerank":
        labels = labels[:1]
    write_safetensors(folder / "model.safetensors", weights_of(family, task, len(labels), seed))
    written: dict[str, Json] = {"config.json": config_of(family, task, labels) | config, **(files or {})}
    for name, value in written.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    tokenizer_of(family).save(str(folder / "tokenizer.json"))
    return folder


SENTENCE: Mapping[str, Json] = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "1_Pooling/config.json": {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True},
}


def imported(
    root: Path, folder: Path, name: str | None = None, quantize: str | None = None, settings: OnnxSettings | None = None
) -> Imported:
    """Import a folder into the cache at `root`."""
    importer = OnnxImporter(HubCache(root), settings or OnnxSettings(), apart=False)
    return importer.run(folder, name, quantize, lambda _: None)


def put(root: Path, name: str, family: str = "bert", task: str = "embedding", **given: Any) -> Imported:
    """Build a tiny model and import it under `name`."""
    return imported(root, tiny(root.parent / "sources" / name.replace("/", "-"), family, task, **given), name)


def overlap_reranker(folder: Path) -> Path:
    """A cross-encoder as an exported ONNX file that counts the words which stand in both texts; no weights to learn."""
    from onnx import TensorProto, helper, save

    first_word = len(WORDS) - 6
    whole = {"word": first_word, "one": 1}
    constants = [helper.make_tensor(name, TensorProto.INT64, [], [value]) for name, value in whole.items()]
    constants += [helper.make_tensor(name, TensorProto.INT64, [1], [axis]) for name, axis in (("ax1", 1), ("ax2", 2))]
    constants += [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]), helper.make_tensor("half", 1, [], [1.5])]
    node = helper.make_node
    nodes = [
        node("GreaterOrEqual", ["input_ids", "word"], ["is_word"]),
        node("Equal", ["token_type_ids", "one"], ["in_text"]),
        node("Not", ["in_text"], ["in_query"]),
        node("And", ["is_word", "in_query"], ["asked"]),
        node("And", ["is_word", "in_text"], ["said"]),
        node("Unsqueeze", ["asked", "ax2"], ["rows"]),
        node("Unsqueeze", ["said", "ax1"], ["columns"]),
        node("Unsqueeze", ["input_ids", "ax2"], ["left"]),
        node("Unsqueeze", ["input_ids", "ax1"], ["right"]),
        node("Equal", ["left", "right"], ["same"]),
        node("And", ["rows", "columns"], ["both"]),
        node("And", ["same", "both"], ["shared"]),
        node("Cast", ["shared"], ["number"], to=TensorProto.FLOAT),
        node("ReduceSum", ["number", "axes"], ["count"], keepdims=0),
        node("Sub", ["count", "half"], ["shifted"]),
        node("Unsqueeze", ["shifted", "ax1"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
              for name in ("input_ids", "attention_mask", "token_type_ids")]  # fmt: skip
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])
    graph = helper.make_graph(nodes, "overlap", inputs, [output], constants)
    tiny(folder, "bert", "rerank")
    (folder / "model.safetensors").unlink()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx")
    return folder


def lexicon(folder: Path, task: str, labels: Sequence[str], words: Mapping[str, str], **config: Json) -> Path:
    """An exported model that knows some words: each has a label, all others the first one. For ``ner`` every token has its
    own label, for ``classification`` the words of a text vote."""
    from onnx import TensorProto, helper, numpy_helper, save

    table = np.zeros((len(WORDS), len(labels)), dtype=np.float32)
    if task == "ner":
        table[:, 0] = 4
    for word, label in words.items():
        table[WORDS.index(word)] = 0
        table[WORDS.index(word), labels.index(label)] = 6
    node = helper.make_node
    nodes = [node("Gather", ["table", "input_ids"], ["tokens"])]
    if task == "ner":
        nodes.append(node("Identity", ["tokens"], ["logits"]))
    else:
        nodes.append(node("ReduceMax", ["tokens", "axis"], ["logits"], keepdims=0))
    tensors = [numpy_helper.from_array(table, "table"), helper.make_tensor("axis", TensorProto.INT64, [1], [1])]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
              for name in ("input_ids", "attention_mask")]  # fmt: skip
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "lexicon", inputs, [output], tensors)
    tiny(folder, "distilbert", task, labels=labels, **config)
    (folder / "model.safetensors").unlink()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), folder / "model.onnx")
    return folder
