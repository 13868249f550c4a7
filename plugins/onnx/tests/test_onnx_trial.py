"""Models that would crash, fill or stop the process that loads them: a helper process tries each one first."""

import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import pytest_asyncio
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx_kit import SENTENCE, put
from paddock_onnx.cache import find_graph
from paddock_onnx.settings import OnnxSettings
from paddock_onnx.trial import Trials

from paddock.builtin.hub_cache import HubCache
from paddock.cli import main
from paddock.errors import ProviderUnavailable
from paddock.testing.hub_cache import cache_model
from paddock.testing.server import RunningServer, running_server

GIB = 1024**3


def graph(*nodes: NodeProto, **constants: Any) -> ModelProto:
    """A graph with a text encoder's inputs; `constants` are arrays by name."""
    given = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in ("input_ids", "attention_mask")
    ]
    given_out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, None)
    fixed = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(list(nodes), "g", given, [given_out], fixed)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def node(kind: str, *names: str, out: str = "sentence_embedding", **more: Any) -> NodeProto:
    return helper.make_node(kind, list(names), [out], **more)


def endless(beyond: int = 0) -> ModelProto:
    """A loop of 2^62 rounds for texts of more than so many tokens, of one round for others."""

    def value(name: str, kind: int) -> Any:
        return helper.make_tensor_value_info(name, kind, None if kind == TensorProto.FLOAT else [])

    nodes = [node("Identity", "again", out="go_on"), node("Add", "before", "one", out="after")]
    begin = [value("round", TensorProto.INT64), value("again", TensorProto.BOOL), value("before", TensorProto.FLOAT)]
    end = [value("go_on", TensorProto.BOOL), value("after", TensorProto.FLOAT)]
    body = helper.make_graph(nodes, "body", begin, end, [numpy_helper.from_array(np.float32(1)[None], "one")])
    return graph(
        node("Shape", "input_ids", out="shape"), node("Gather", "shape", "second", out="length"),
        node("Greater", "length", "beyond", out="long"), node("Where", "long", "many", "once", out="rounds"),
        node("Cast", "input_ids", out="f", to=1), node("Loop", "rounds", "yes", "f", body=body),
        second=np.int64(1), beyond=np.int64(beyond), many=np.int64(2**62), once=np.int64(1), yes=np.array(True),
    )  # fmt: skip


GRAPHS: dict[str, Callable[[], ModelProto]] = {  # by why they are refused
    "Failed to allocate memory": lambda: graph(
        node("ConstantOfShape", "shape", out="x"), node("ReduceSum", "x", keepdims=1), shape=np.array([2**17, 2**17])
    ),
    "onnx.timeout_seconds": endless,
    "gives () for two texts": lambda: graph(
        node("Cast", "input_ids", out="f", to=1), node("ReduceMean", "f", keepdims=0)
    ),
    "gives (0,) for two texts": lambda: graph(node("ConstantOfShape", "shape"), shape=np.array([0])),
    "gives (2, 1000000) for two texts": lambda: graph(
        node("Cast", "input_ids", out="f", to=1), node("ReduceMean", "f", out="m", axes=[1]),
        node("Expand", "m", "shape"), shape=np.array([1, 10**6]),
    ),
    "No opset import for domain": lambda: graph(node("Evil", "input_ids", domain="evil.example")),
}  # fmt: skip
TOKENIZERS: dict[str, dict[str, Any]] = {
    "chunk size must be non-zero": {"pre_tokenizer": {"type": "FixedLength", "length": 0}},
    "no entry found for key": {"post_processor.special_tokens": {}},
    "Missing [UNK] token": {"model.unk_token": "[NONE]"},
    "needs more than onnx.memory_mb": {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}] * 4,
        }
    },
    "parts of 126 characters": {"post_processor.single": [{"Sequence": {"id": "A", "type_id": 0}}] * 5000},
}


def evil(root: Path, name: str, model: ModelProto | None = None, tokenizer: dict[str, Any] | None = None) -> str:
    """Put a model into the cache as a download leaves it, a good one but for its graph or tokenizer."""
    good = HubCache(root).snapshot("org/good")
    assert good is not None
    files = {path: (good / path).read_bytes() for path in ("config.json", "tokenizer.json", "onnx/model.onnx")}
    if model is not None:
        files["onnx/model.onnx"] = model.SerializeToString()
    if tokenizer is not None:
        made = json.loads(files["tokenizer.json"])
        for key, value in tokenizer.items():
            *outer, last = key.split(".")
            (made[outer[0]] if outer else made)[last] = value
        files["tokenizer.json"] = json.dumps(made).encode()
    cache_model(root, name, files)
    return name


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[RunningServer]:
    put(tmp_path / "data" / "models" / "hub", "org/good")
    async with running_server(tmp_path / "data", settings={"onnx": {"timeout_seconds": 2}}) as found:
        yield found


async def test_a_hostile_model_is_refused_and_the_server_lives(server: RunningServer, tmp_path: Path) -> None:
    root = tmp_path / "data" / "models" / "hub"
    before = psutil.Process().memory_info().rss
    names = [evil(root, f"evil/graph-{place}", make()) for place, make in enumerate(GRAPHS.values())]
    names += [
        evil(root, f"evil/tokenizer-{place}", tokenizer=change) for place, change in enumerate(TOKENIZERS.values())
    ]
    for name, why in zip(names, [*GRAPHS, *TOKENIZERS], strict=True):
        reply = await server.ask("POST", "/v1/embeddings", {"model": name, "input": "a cow"})
        assert reply.status == 400, (why, reply.body)
        message = reply.json()["error"]["message"]
        assert message.startswith(f"the model {name} can't be used: ")
        assert why in message
    good = await server.ask("POST", "/v1/embeddings", {"model": "org/good", "input": "a cow"})
    assert good.status == 200, good.body
    assert psutil.Process().memory_info().rss < before + GIB / 2


async def test_a_text_that_makes_the_tokenizer_panic_is_told_in_the_apis_shape(
    server: RunningServer, tmp_path: Path
) -> None:
    hard = {"normalizer": {"type": "Replace", "pattern": {"Regex": "(?:(a|aa)+)+b"}, "content": "x"}}
    name = evil(tmp_path / "data" / "models" / "hub", "evil/regex", tokenizer=hard)
    assert (await server.ask("POST", "/v1/embeddings", {"model": name, "input": "a cow"})).status == 200
    reply = await server.ask("POST", "/v1/embeddings", {"model": name, "input": "a" * 60})
    assert reply.status == 503
    assert f"the tokenizer of {name} can't read a text" in reply.json()["error"]["message"]


async def test_a_run_without_an_end_is_ended_and_the_next_text_is_served(server: RunningServer, tmp_path: Path) -> None:
    name = evil(tmp_path / "data" / "models" / "hub", "evil/long", endless(beyond=20))
    statuses = []
    for text in ("a cow", "a cow " * 30, "a cow"):
        reply = await server.ask("POST", "/v1/embeddings", {"model": name, "input": text})
        statuses.append(reply.status)
        assert reply.status == 200 or "onnx.timeout_seconds" in reply.json()["error"]["message"], reply.body
    assert statuses == [200, 503, 200]


async def test_a_damaged_config_is_told_by_its_name(server: RunningServer, tmp_path: Path) -> None:
    name = evil(tmp_path / "data" / "models" / "hub", "evil/config")
    snapshot = HubCache(tmp_path / "data" / "models" / "hub").snapshot(name)
    assert snapshot is not None
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_text("[]")
    reply = await server.ask("POST", "/v1/embeddings", {"model": name, "input": "a cow"})
    assert reply.status == 400
    assert "config.json can't be read" in reply.json()["error"]["message"]


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "onnx/model.onnx"])
async def test_a_pipe_in_the_place_of_a_file_is_waited_for_by_nobody(
    server: RunningServer, tmp_path: Path, name: str
) -> None:
    root = tmp_path / "data" / "models" / "hub"
    snapshot = HubCache(root).snapshot(evil(root, "evil/pipe"))
    assert snapshot is not None
    (snapshot / name).unlink()
    os.mkfifo(snapshot / name)
    reply = await server.ask("POST", "/v1/embeddings", {"model": "evil/pipe", "input": "a cow"})
    assert reply.status in (400, 404), reply.body
    assert (await server.ask("POST", "/v1/embeddings", {"model": "org/good", "input": "a cow"})).status == 200


@pytest.mark.parametrize("changed", ["tokenizer.json", "1_Pooling/config.json"])
async def test_a_model_is_tried_again_only_when_its_files_change(tmp_path: Path, changed: str) -> None:
    put(tmp_path / "hub", "org/good", files=SENTENCE)
    found = find_graph(HubCache(tmp_path / "hub"), "org/good")
    trials = Trials(OnnxSettings())
    await trials.need(found, 1000)
    await trials.close()  # no helper answers any more
    await trials.need(found, 1000)
    (found.folder / changed).write_text("{}")
    with pytest.raises(ProviderUnavailable, match="stopping"):
        await trials.need(found, 1000)


def test_an_import_of_an_endless_graph_ends_with_a_sentence_and_stores_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = put(tmp_path / "hub", "org/good").folder
    (folder / "onnx" / "model.onnx").write_bytes(endless().SerializeToString())
    (tmp_path / "short.toml").write_text("[onnx]\ntimeout_seconds = 2\n")
    data = tmp_path / "data"
    given = ["--config", str(tmp_path / "short.toml"), "--data-dir", str(data)]
    assert main(["models", "import", str(folder), "--name", "org/endless", *given]) == 2
    assert "longer than onnx.timeout_seconds" in capsys.readouterr().err
    assert list((data / "models" / "hub").iterdir()) == []
