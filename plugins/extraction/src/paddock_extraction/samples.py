"""Tiny models for tests, in the form of Optimum's exports: real graphs and real tokenizers. Needs the package onnx.

The Donut looks at how bright a page is and writes one of two texts, a token at each place; which place it is at, it knows from
its cache alone, as the page from the cache of its first step. So a wrong cache shows as a wrong text. The LayoutLMv3 models know
words by heart, and the upper half of a page from the lower one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RECEIPT = (
    "<s_menu><s_nm>Tea</s_nm><s_price>2.50</s_price><sep/><s_nm>Bread</s_nm><s_price>3.10</s_price></s_menu>"
    "<s_total>5.60</s_total>"
)
NIGHT = "<s_total>0.00</s_total>"
MEMO = "<s_class><memo/></s_class>"
TAGS = ("menu", "nm", "price", "total", "question", "answer", "class")
LONGEST = 96  # tokens
HEIGHT, WIDTH = 64, 48
WORDS = (
    "Tea",
    "Bread",
    "2.50",
    "3.10",
    "5.60",
    "0.00",
    "Total",
    "Invoice",
    "Harbour",
    "Museum",
    "What",
    "is",
    "the",
    "total",
)


def tokenizer(extra: Iterable[str] = ()) -> Any:
    """A byte-level BPE as RoBERTa has it, with Donut's tags."""
    import tokenizers  # noqa: PLC0415  heavy
    from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: PLC0415  heavy

    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106  no password
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tags = [f"<{slash}s_{tag}>" for tag in TAGS for slash in ("", "/")]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<sep/>", "<memo/>", "<letter/>", *tags, *extra]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([f" {word} {word}" for word in WORDS], trainer)
    return made


def donut(
    folder: Path,
    *,
    start: str = "<s_cord-v2>",
    texts: tuple[str, str] = (NIGHT, RECEIPT),
    prompt: str | None = None,
    merged: bool = True,
) -> Path:
    """A Donut that writes the first text for dark pages, the second for bright ones, behind a prompt as long as `prompt` (`start`
    unless told); `merged` or two decoders."""
    import numpy as np  # noqa: PLC0415  heavy

    folder.mkdir(parents=True)
    made = tokenizer([start])
    ids = [made.encode(text, add_special_tokens=False).ids for text in texts]
    begin = made.encode(start, add_special_tokens=False).ids
    behind = len(made.encode(prompt or start, add_special_tokens=False).ids)
    size, end = made.get_vocab_size(), made.token_to_id("</s>")
    script = np.full((2, LONGEST), end, dtype=np.int64)
    for row, written in enumerate(ids):
        script[row, behind : behind + len(written)] = written
    _save(folder, made, {"model_type": "vision-encoder-decoder", "decoder_start_token_id": begin[0], "decoder": {
        "model_type": "mbart", "max_position_embeddings": LONGEST, "eos_token_id": end}})  # fmt: skip
    sizes = {"size": {"height": HEIGHT, "width": WIDTH}, "do_align_long_axis": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(sizes))
    write(folder / "encoder_model.onnx", _encoder())
    if merged:
        write(folder / "decoder_model_merged.onnx", _merged(script, size))
    else:
        write(folder / "decoder_model.onnx", _decoder(script, size, cached=False))
        write(folder / "decoder_with_past_model.onnx", _decoder(script, size, cached=True))
    return folder


def layout(folder: Path, head: str, labels: Sequence[str] = (), known: Mapping[str, str] | None = None) -> Path:
    """A LayoutLMv3 with a head (TokenClassification, QuestionAnswering, SequenceClassification). `known` gives words their label;
    for answers, it gives words a mark: start, end or both. A word in the upper half of the page counts double."""
    import numpy as np  # noqa: PLC0415  heavy

    folder.mkdir(parents=True)
    made = tokenizer()
    columns = ["start", "end"] if head == "QuestionAnswering" else list(labels)
    table = np.zeros((made.get_vocab_size(), len(columns)), dtype=np.float32)
    for word, label in (known or {}).items():
        for id_ in made.encode(f" {word}", add_special_tokens=False).ids:
            for at, column in enumerate(columns):
                table[id_, at] += 6.0 if label in (column, "both") else 0.0
    config = {
        "model_type": "layoutlmv3",
        "architectures": [f"LayoutLMv3For{head}"],
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "max_position_embeddings": LONGEST,
    }
    _save(folder, made, config)
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    write(folder / "model.onnx", _layout(head, table))
    return folder


def _save(folder: Path, made: Any, config: Mapping[str, Any]) -> None:
    made.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))


def write(path: Path, graph: Any) -> None:
    """Write a graph as a model."""
    import onnx  # noqa: PLC0415  heavy

    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


class _Graph:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        import onnx  # noqa: PLC0415  heavy

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, name: str, value: Any, kind: str = "int64") -> str:
        import numpy as np  # noqa: PLC0415  heavy

        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def finish(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        return self.onnx.helper.make_graph(self.nodes, name, inputs, outputs, self.constants)


def _value(name: str, kind: str, shape: Sequence[int | str]) -> Any:
    import onnx  # noqa: PLC0415  heavy

    return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)


def _encoder() -> Any:
    """(1, 1, 2): how dark and how bright the page is."""
    made = _Graph()
    light = made.node("ReduceMean", ["pixel_values"], "light", axes=[1, 2, 3], keepdims=1)  # -1 to 1
    dark = made.node("Neg", [light], "dark")
    both = made.node("Concat", [dark, light], "both", axis=3)
    made.node("Reshape", [both, made.constant("shape", [1, 1, 2])], "last_hidden_state")
    given = [_value("pixel_values", "FLOAT", [1, 3, "height", "width"])]
    return made.finish("encoder", given, [_value("last_hidden_state", "FLOAT", [1, 1, 2])])


def _step(made: _Graph, script: Any, size: int, page: str, keys: str) -> None:
    """Logits for what stands at the place behind `keys` (1, 1, places, 1), for the brighter side of `page` (1, 1, 1, 2)."""
    sides = made.node("Reshape", [page, made.constant("two", [2])], "sides")
    side = made.node("ArgMax", [sides], "side", axis=0, keepdims=1)
    row = made.node("Gather", [made.constant("script", script), side], "row", axis=0)
    places = made.node("Gather", [made.node("Shape", [keys], "sizes"), made.constant("third", [2])], "places", axis=0)
    token = made.node("Gather", [row, places], "token", axis=1)
    values = made.constant("values", [0.0, 8.0], "float32")
    made.node("OneHot", [token, made.constant("size", size), values], "logits")


def _as_keys(made: _Graph, ids: str) -> str:
    """A place in the cache for each token."""
    numbers = made.node("Cast", [ids], "numbers", to=1)
    return made.node("Reshape", [numbers, made.constant("keyed", [1, 1, -1, 1])], "new_keys")


def _decoder(script: Any, size: int, *, cached: bool) -> Any:
    """One of the two decoders: for the first step, or for the others."""
    made = _Graph()
    keys = _as_keys(made, "input_ids")
    inputs = [_value("input_ids", "INT64", [1, "tokens"]), _value("encoder_hidden_states", "FLOAT", [1, 1, 2])]
    outputs = [_value("logits", "FLOAT", [1, 1, size]), _value("present.0.decoder.key", "FLOAT", [1, 1, "all", 1])]
    if cached:
        past = _value("past_key_values.0.decoder.key", "FLOAT", [1, 1, "past", 1])
        inputs = [inputs[0], past, _value("past_key_values.0.encoder.key", "FLOAT", [1, 1, "states", 2])]
        made.node("Concat", ["past_key_values.0.decoder.key", keys], "present.0.decoder.key", axis=2)
        page = "past_key_values.0.encoder.key"
    else:
        made.node("Identity", [keys], "present.0.decoder.key")
        page = made.node(
            "Reshape", ["encoder_hidden_states", made.constant("paged", [1, 1, 1, 2])], "present.0.encoder.key"
        )
        outputs.append(_value(page, "FLOAT", [1, 1, 1, 2]))
    _step(made, script, size, page, "present.0.decoder.key")
    return made.finish("decoder", inputs, outputs)


def _merged(script: Any, size: int) -> Any:
    """Both in one graph, as Optimum merges them: the cached branch leaves the page's part of the cache empty."""
    with_past, without = (_branch(script, size, cached=cached) for cached in (True, False))
    made = _Graph()
    outputs = [
        _value("logits", "FLOAT", [1, 1, size]),
        _value("present.0.decoder.key", "FLOAT", [1, 1, "all", 1]),
        _value("present.0.encoder.key", "FLOAT", [1, 1, "states", 2]),
    ]
    names = [item.name for item in outputs]
    made.nodes.append(made.onnx.helper.make_node("If", ["branch"], names, then_branch=with_past, else_branch=without))
    made.nodes.insert(
        0, made.onnx.helper.make_node("Reshape", ["use_cache_branch", made.constant("one", [1])], ["branch"])
    )
    inputs = [
        _value("input_ids", "INT64", [1, "tokens"]),
        _value("encoder_hidden_states", "FLOAT", [1, 1, 2]),
        _value("past_key_values.0.decoder.key", "FLOAT", [1, 1, "past", 1]),
        _value("past_key_values.0.encoder.key", "FLOAT", [1, 1, "states", 2]),
        _value("use_cache_branch", "BOOL", [1]),
    ]
    return made.finish("decoder", inputs, outputs)


def _branch(script: Any, size: int, *, cached: bool) -> Any:
    made = _Graph()
    keys = _as_keys(made, "input_ids")
    if cached:
        made.node("Concat", ["past_key_values.0.decoder.key", keys], "branch_keys", axis=2)
        page = "past_key_values.0.encoder.key"
        made.node("ConstantOfShape", [made.constant("none", [1, 1, 0, 2])], "branch_page")
    else:
        made.node("Identity", [keys], "branch_keys")
        page = made.node("Reshape", ["encoder_hidden_states", made.constant("paged", [1, 1, 1, 2])], "branch_page")
    _step(made, script, size, page, "branch_keys")
    outputs = [
        _value("logits", "FLOAT", [1, 1, size]),
        _value("branch_keys", "FLOAT", [1, 1, "all", 1]),
        _value("branch_page", "FLOAT", [1, 1, "states", 2]),
    ]
    return made.finish("cached" if cached else "first", [], outputs)


def _layout(head: str, table: Any) -> Any:
    """Scores of tokens by heart, doubled in the upper half of the page; the picture adds nothing but must be there."""
    made = _Graph()
    scores = made.node("Gather", [made.constant("table", table, "float32"), "input_ids"], "scores", axis=0)
    tops = made.node("Gather", ["bbox", made.constant("top", 1)], "tops", axis=2)
    upper = made.node("Cast", [made.node("Less", [tops, made.constant("half", 500)], "above")], "upper", to=1)
    factor = made.node("Add", [upper, made.constant("unit", 1.0, "float32")], "factor")
    wide = made.node("Unsqueeze", [factor, made.constant("last", [2])], "wide")
    light = made.node("ReduceMean", ["pixel_values"], "light", keepdims=0)
    nothing = made.node("Mul", [light, made.constant("zero", 0.0, "float32")], "nothing")
    weighed = made.node("Add", [made.node("Mul", [scores, wide], "product"), nothing], "weighed")
    inputs = [
        _value("input_ids", "INT64", [1, "tokens"]),
        _value("attention_mask", "INT64", [1, "tokens"]),
        _value("bbox", "INT64", [1, "tokens", 4]),
        _value("pixel_values", "FLOAT", [1, 3, "height", "width"]),
    ]
    made.node("Identity", ["attention_mask"], "unused")
    if head == "QuestionAnswering":
        for at, name in enumerate(("start_logits", "end_logits")):
            made.node("Gather", [weighed, made.constant(f"column{at}", at)], name, axis=2)
        outputs = [_value(name, "FLOAT", [1, "tokens"]) for name in ("start_logits", "end_logits")]
    elif head == "SequenceClassification":
        made.node("ReduceMean", [weighed], "logits", axes=[1], keepdims=0)
        outputs = [_value("logits", "FLOAT", [1, table.shape[1]])]
    else:
        made.node("Identity", [weighed], "logits")
        outputs = [_value("logits", "FLOAT", [1, "tokens", table.shape[1]])]
    return made.finish("layout", inputs, outputs)
