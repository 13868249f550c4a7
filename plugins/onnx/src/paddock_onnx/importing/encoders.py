"""The encoders that can be built: BERT, RoBERTa and XLM-R, DistilBERT, MPNet, and their heads.

Each family differs in names, in how positions count, and MPNet in a bias for the distance of two tokens. What they share
is one attention with one feed-forward network behind it, repeated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from paddock.errors import ValidationFailed
from paddock_onnx.facts import Facts, ModelConfig
from paddock_onnx.importing.graph import MICROSOFT, Graph
from paddock_onnx.importing.safetensors import Weights

if TYPE_CHECKING:
    import onnx

LAYERS = 200  # more than any of these models has
DISTANCES = "distances"  # the name of MPNet's table in the graph
DISTANCE = 128  # from here on MPNet's buckets are full


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """How a family calls the parts of layer ``{}``."""

    prefix: str
    layer: str
    query: str
    key: str
    value: str
    out: str
    norm: str
    up: str
    down: str
    last_norm: str


_BERT = Names(
    prefix="bert",
    layer="encoder.layer.{}.",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    norm="attention.output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
    last_norm="output.LayerNorm",
)
_ROBERTA = msgspec.structs.replace(_BERT, prefix="roberta")
_MPNET = msgspec.structs.replace(
    _BERT,
    prefix="mpnet",
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    norm="attention.LayerNorm",
)
_DISTILBERT = Names(
    prefix="distilbert",
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    last_norm="output_layer_norm",
)
FAMILIES = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _DISTILBERT,
    "mpnet": _MPNET,
}


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of ``config.json`` that a graph is built by."""

    layers: int
    heads: int
    width: int
    activation: str
    epsilon: float
    padding: int
    positions: int
    buckets: int


def build(config: ModelConfig, facts: Facts, weights: Weights) -> onnx.ModelProto:
    """The graph: ``last_hidden_state`` for embeddings, ``logits`` with a head. Raises ValidationFailed for a family that
    can't be built, for weights that do not belong to config.json, and for options of it that are not done here."""
    names = FAMILIES.get(config.model_type)
    if names is None:
        raise ValidationFailed(
            f"models of the type {config.model_type[:40]!r} can't be built, only {', '.join(FAMILIES)}: export this one to "
            "ONNX elsewhere (optimum-cli export onnx) and import the exported folder"
        )
    shape = _shape(config)
    graph = Graph(weights, _prefix(names, weights))
    inputs = ["input_ids", "attention_mask"]
    if names is _BERT:
        inputs.append("token_type_ids")
    hidden = _encoder(graph, names, shape)
    if facts.task == "embedding":
        return graph.model(inputs, hidden, "last_hidden_state")
    return graph.model(inputs, _head(graph, names, facts, hidden), "logits")


def _shape(config: ModelConfig) -> Shape:
    layers, heads = config.num_hidden_layers or config.n_layers, config.num_attention_heads or config.n_heads
    width = config.hidden_size or config.dim
    if not (layers and heads and width) or not 0 < layers <= LAYERS or heads < 1 or width % heads:
        raise ValidationFailed("config.json: the numbers of layers, heads and hidden_size do not fit each other")
    if config.is_decoder or (config.position_embedding_type or "absolute") != "absolute":
        raise ValidationFailed(
            "config.json: decoders and relative positions can't be built: import an ONNX export instead"
        )
    return Shape(
        layers=layers,
        heads=heads,
        width=width,
        activation=config.hidden_act or config.activation or "gelu",
        epsilon=config.layer_norm_eps or 1e-12,
        padding=1 if config.pad_token_id is None or config.model_type == "mpnet" else config.pad_token_id,
        positions=config.max_position_embeddings or 512,
        buckets=config.relative_attention_num_buckets,
    )


def _prefix(names: Names, weights: Weights) -> str:
    return f"{names.prefix}." if any(name.startswith(f"{names.prefix}.") for name in weights.names()) else ""


def _encoder(graph: Graph, names: Names, shape: Shape) -> str:
    hidden = _embeddings(graph, names, shape)
    mask = graph.node("Cast", "attention_mask", to=6)  # int32
    bias = _distance_bias(graph, shape) if names is _MPNET else ""
    for number in range(shape.layers):
        at = names.layer.format(number)
        hidden = _feed_forward(graph, names, shape, at, _attention(graph, names, shape, at, (hidden, mask, bias)))
    return hidden


def _embeddings(graph: Graph, names: Names, shape: Shape) -> str:
    words = graph.node("Gather", graph.tensor("embeddings.word_embeddings.weight"), "input_ids")
    table = graph.tensor("embeddings.position_embeddings.weight")
    total = graph.node("Add", words, graph.node("Gather", table, _positions(graph, names, shape)))
    if names is _BERT:
        kinds = graph.tensor("embeddings.token_type_embeddings.weight")
        total = graph.node("Add", total, graph.node("Gather", kinds, "token_type_ids"))
    if names is _ROBERTA:  # one kind of token, which everybody is
        total = graph.node("Add", total, graph.tensor("embeddings.token_type_embeddings.weight"))
    return graph.norm(total, "embeddings.LayerNorm", shape.epsilon)


def _positions(graph: Graph, names: Names, shape: Shape) -> str:
    """BERT counts from 0; RoBERTa and MPNet from behind the padding's own position."""
    if names in (_BERT, _DISTILBERT):
        return _counted(graph)
    running = graph.node("CumSum", "attention_mask", graph.whole("one", 1))
    return graph.node("Add", graph.node("Mul", running, "attention_mask"), graph.whole("padding", shape.padding))


def _counted(graph: Graph) -> str:
    length = graph.node("Gather", graph.node("Shape", "input_ids"), graph.whole("one", 1))
    return graph.node("Range", graph.whole("zero", 0), length, graph.whole("one", 1))


def _attention(graph: Graph, names: Names, shape: Shape, at: str, inputs: tuple[str, str, str]) -> str:
    """What every token takes from the others; `inputs` are the hidden state, the mask, and the bias or nothing."""
    hidden, mask, bias = inputs
    merged = graph.node(
        "Attention",
        hidden,
        *_merged(graph, names, at),
        mask,
        *(["", bias] if bias else []),
        domain=MICROSOFT,
        num_heads=shape.heads,
    )
    return graph.add_norm(graph.linear(merged, graph.prefix + at + names.out), hidden, at + names.norm, shape.epsilon)


def _feed_forward(graph: Graph, names: Names, shape: Shape, at: str, hidden: str) -> str:
    full = graph.prefix + at
    inner = graph.activation(graph.linear(hidden, full + names.up), shape.activation)
    return graph.add_norm(graph.linear(inner, full + names.down), hidden, at + names.last_norm, shape.epsilon)


def _merged(graph: Graph, names: Names, at: str) -> tuple[str, str]:
    """Weight and bias of query, key and value beside each other."""
    import numpy as np  # noqa: PLC0415  heavy: on first use

    parts = [graph.prefix + at + name for name in (names.query, names.key, names.value)]
    weight = np.concatenate([graph.weights.array(f"{part}.weight").T for part in parts], axis=1)
    bias = np.concatenate([graph.weights.array(f"{part}.bias") for part in parts])
    return graph.constant(f"{at}qkv.weight", np.ascontiguousarray(weight)), graph.constant(f"{at}qkv.bias", bias)


def _distance_bias(graph: Graph, shape: Shape) -> str:
    """MPNet's bias of shape (1, heads, length, length): a table over every distance, looked up by place."""
    table = graph.weights.array(f"{graph.prefix}encoder.relative_attention_bias.weight")
    far = shape.positions - 1
    rows = table[[_bucket(distance, shape.buckets) for distance in range(-far, far + 1)]]
    places = _counted(graph)
    columns = graph.node("Unsqueeze", places, graph.whole("front", [0]))
    lines = graph.node("Unsqueeze", places, graph.whole("back", [1]))
    distance = graph.node("Add", graph.node("Sub", columns, lines), graph.whole("far", far))
    found = graph.node("Transpose", graph.node("Gather", graph.constant(DISTANCES, rows), distance), perm=[2, 0, 1])
    return graph.node("Unsqueeze", found, graph.whole("front", [0]))


def _bucket(distance: int, buckets: int) -> int:
    """Half of the buckets for either direction; near distances have one each, far ones share by their logarithm."""
    half = buckets // 2
    first = half if distance > 0 else 0
    near = half // 2
    size = abs(distance)
    if size < near:
        return first + size
    far = near + int(math.log(size / near) / math.log(DISTANCE / near) * (half - near))
    return first + min(far, half - 1)


def _head(graph: Graph, names: Names, facts: Facts, hidden: str) -> str:
    if facts.task == "ner":
        return _checked(graph, graph.linear(hidden, "classifier"), "classifier", facts)
    first = graph.node("Gather", hidden, graph.whole("zero", 0), axis=1)
    if names is _BERT:
        pooled = graph.node("Tanh", graph.linear(first, f"{graph.prefix}pooler.dense"))
        return _checked(graph, graph.linear(pooled, "classifier"), "classifier", facts)
    if names is _DISTILBERT:
        pooled = graph.node("Relu", graph.linear(first, "pre_classifier"))
        return _checked(graph, graph.linear(pooled, "classifier"), "classifier", facts)
    pooled = graph.node("Tanh", graph.linear(first, "classifier.dense"))
    return _checked(graph, graph.linear(pooled, "classifier.out_proj"), "classifier.out_proj", facts)


def _checked(graph: Graph, output: str, layer: str, facts: Facts) -> str:
    rows: Any = graph.weights.array(f"{layer}.weight").shape[0]
    if rows != len(facts.labels):
        raise ValidationFailed(f"config.json names {len(facts.labels)} labels, the weights have {rows}")
    return output
