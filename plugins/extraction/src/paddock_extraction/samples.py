"""Tiny LayoutLMv3 models for tests, in the form of Optimum's exports: hand-made graphs, real tokenizers. Needs the package onnx.

They know words by heart, and the upper half of a page from the lower one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LONGEST = 96  # tokens
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


def _tokenizer() -> Any:
    """A byte-level BPE as RoBERTa has it."""
    import tokenizers  # noqa: PLC0415  heavy
    from tokenizers import decoders, models, pre_tokenizers, trainers  # noqa: PLC0415  heavy

    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))  # noqa: S106  no password
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([f" {word} {word}" for word in WORDS], trainer)
    return made


def layout(folder: Path, head: str, labels: Sequence[str] = (), known: Mapping[str, str] | None = None) -> Path:
    """A LayoutLMv3 with a head (TokenClassification, QuestionAnswering, SequenceClassification). `known` gives words their label;
    for answers, it gives words a mark: start, end or both. A word in the upper half of the page counts double."""
    import numpy as np  # noqa: PLC0415  heavy

    folder.mkdir(parents=True)
    made = _tokenizer()
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
    made.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 32, "width": 32}}))
    (folder / "model.onnx").write_bytes(_layout(head, table))
    return folder


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

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
        """All of it as a file."""
        graph = self.onnx.helper.make_graph(self.nodes, "layout", inputs, outputs, self.constants)
        opset = self.onnx.helper.make_opsetid("", 17)
        model = self.onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
        self.onnx.checker.check_model(model)
        return bytes(model.SerializeToString())


def _value(name: str, kind: str, shape: Sequence[int | str]) -> Any:
    import onnx  # noqa: PLC0415  heavy

    return onnx.helper.make_tensor_value_info(name, getattr(onnx.TensorProto, kind), shape)


def _layout(head: str, table: Any) -> bytes:
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
    return made.model(inputs, outputs)
