"""ONNX files that lie are refused before ONNX Runtime sees them."""

import random
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_kit import put
from paddock_onnx.probe import probe

from paddock.errors import ValidationFailed

MANY = 1 << 40


def saved(path: Path, *tensors: TensorProto) -> Path:
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", [tensors[0].name if tensors else "x"], ["y"])
    graph = helper.make_graph([node], "g", [], [out], list(tensors))
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def tensor(**fields: object) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2], raw_data=bytes(16))
    for name, value in fields.items():
        if name == "dims":
            del made.dims[:]
            made.dims.extend(value)
        else:
            setattr(made, name, value)
    return made


def test_a_sound_file_is_measured(tmp_path: Path) -> None:
    assert probe(saved(tmp_path / "a.onnx", tensor()), MANY).weights == 16
    model = put(tmp_path / "hub", "org/tiny").folder / "onnx" / "model.onnx"
    assert probe(model, MANY).weights < model.stat().st_size


@pytest.mark.parametrize(
    "fields",
    [
        {"dims": [2**31, 2**31]},
        {"dims": [-1, -4]},
        {"dims": [2, 3]},
        {"raw_data": b""},
        {"data_type": 99},
        {"dims": [1] * 99},
    ],
    ids=str,
)
def test_a_tensor_whose_shape_is_not_that_of_its_bytes_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(ValidationFailed, match="no sound ONNX file"):
        probe(saved(tmp_path / "a.onnx", tensor(**fields)), MANY)


def test_a_constant_in_a_node_is_looked_at_too(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["y"], value=tensor(dims=[2**31, 2**31]))
    graph = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    (tmp_path / "a.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(ValidationFailed, match="shape"):
        probe(tmp_path / "a.onnx", MANY)


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "missing", "", "a/b"])
def test_weights_in_another_file_are_beside_the_model_only(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "model").mkdir()
    made = tensor(data_location=TensorProto.EXTERNAL)
    made.ClearField("raw_data")
    made.external_data.add(key="location", value=location)
    with pytest.raises(ValidationFailed, match="not beside it"):
        probe(saved(tmp_path / "model" / "a.onnx", made), MANY)


def test_a_link_to_weights_elsewhere_is_not_followed_but_those_of_the_hubs_cache_are(tmp_path: Path) -> None:
    made = tensor(data_location=TensorProto.EXTERNAL)
    made.ClearField("raw_data")
    made.external_data.add(key="location", value="data")
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    for one in (blobs, folder):
        one.mkdir()
    (blobs / "2").write_bytes(bytes(16))
    (folder / "data").symlink_to(blobs / "2")
    with pytest.raises(ValidationFailed, match="not beside it"):
        probe(saved(folder / "a.onnx", made), MANY)
    (folder / "a.onnx").rename(blobs / "1")
    (folder / "a.onnx").symlink_to(blobs / "1")
    assert probe(folder / "a.onnx", MANY).external == {"data"}


@pytest.mark.parametrize(
    ("offset", "length"), [("0", "999"), ("60", "16"), ("-4", "16"), ("x", "16"), ("9" * 50, "16")]
)
def test_weights_in_another_file_must_be_there(tmp_path: Path, offset: str, length: str) -> None:
    (tmp_path / "data").write_bytes(bytes(64))
    made = tensor(data_location=TensorProto.EXTERNAL)
    made.ClearField("raw_data")
    for key, value in (("location", "data"), ("offset", offset), ("length", length)):
        made.external_data.add(key=key, value=value)
    with pytest.raises(ValidationFailed, match="no sound ONNX file"):
        probe(saved(tmp_path / "a.onnx", made), MANY)


def test_more_weights_than_the_limit_are_refused_by_the_settings_name(tmp_path: Path) -> None:
    with pytest.raises(ValidationFailed, match="max_model_mb"):
        probe(saved(tmp_path / "a.onnx", tensor()), 15)


def part(number: int, content: bytes) -> bytes:
    """A field of bytes as protobuf writes it."""
    length = len(content)
    sizes = []
    while length > 127:
        sizes.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *sizes, length]) + content


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(5000):  # more than onnx itself can write
        graph = part(1, part(5, part(6, graph)))
    (tmp_path / "a.onnx").write_bytes(part(7, graph))
    with pytest.raises(ValidationFailed, match="nested"):
        probe(tmp_path / "a.onnx", MANY)


def test_any_bytes_are_measured_or_refused(tmp_path: Path) -> None:
    sound = saved(tmp_path / "a.onnx", tensor()).read_bytes()
    rng = random.Random(5)
    for _ in range(2000):
        bad = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        (tmp_path / "b.onnx").write_bytes(bad[: rng.randint(0, len(bad))])
        try:
            probe(tmp_path / "b.onnx", MANY)
        except ValidationFailed:
            continue
    (tmp_path / "b.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ValidationFailed):
        probe(tmp_path / "b.onnx", MANY)
    assert onnx.load_from_string(sound)
