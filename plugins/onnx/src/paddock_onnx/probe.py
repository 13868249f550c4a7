"""A look at an ONNX file before ONNX Runtime sees it: lengths that leave the file and tensors whose shape does not fit their
bytes are refused. It walks the protobuf fields that it knows and jumps over the rest; nothing is allocated by what they claim.

Field numbers are those of onnx.proto: ModelProto.graph 7; GraphProto.node 1, initializer 5; NodeProto.attribute 5;
AttributeProto.t 5, g 6, tensors 10, graphs 11; TensorProto.dims 1, data_type 2, raw_data 9, external_data 13,
data_location 14; StringStringEntryProto.key 1, value 2.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

import msgspec

from paddock.errors import ValidationFailed

DEPTH = 16  # graphs within graphs
NODES = 200_000
BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}
EXTERNAL = 1

_Field = tuple[int, int, int]  # number, and begin and end of the content; of a number: its value, and -1


class Probe(msgspec.Struct, kw_only=True):
    """What was seen: bytes of weights, and the names of files beside the model that hold some of them."""

    weights: int = 0
    external: set[str] = set()
    nodes: int = 0


def probe(path: Path, limit: int) -> Probe:
    """Look at a file. Raises ValidationFailed when it is no ONNX file, lies, or holds more than `limit` bytes of weights."""
    found = Probe()
    if path.stat().st_size < 8:
        raise ValidationFailed(f"{path.name} is no ONNX file: it is too short")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            _Walk(data, path, found, limit).model()
        except _Lie as error:
            raise ValidationFailed(f"{path.name} is no sound ONNX file: {error}") from error
    return found


class _Lie(Exception):
    """What is wrong, in a few words."""


class _Walk:
    def __init__(self, data: mmap.mmap, path: Path, found: Probe, limit: int) -> None:
        self._data = data
        self._path = path
        self._found = found
        self._limit = limit

    def model(self) -> None:
        graphs = [(begin, end) for number, begin, end in self._fields(0, len(self._data)) if number == 7 and end >= 0]
        if len(graphs) != 1:
            raise _Lie("it holds no graph")
        self._graph(*graphs[0], 0)

    def _graph(self, start: int, stop: int, depth: int) -> None:
        if depth > DEPTH:
            raise _Lie("its graphs are nested too deeply")
        for number, begin, end in self._fields(start, stop):
            if number == 1 and end >= 0:
                self._node(begin, end, depth)
            elif number == 5 and end >= 0:
                self._tensor(begin, end)

    def _node(self, start: int, stop: int, depth: int) -> None:
        self._found.nodes += 1
        if self._found.nodes > NODES:
            raise _Lie("it has too many nodes")
        for number, begin, end in self._fields(start, stop):
            if number == 5 and end >= 0:
                self._attribute(begin, end, depth)

    def _attribute(self, start: int, stop: int, depth: int) -> None:
        for number, begin, end in self._fields(start, stop):
            if number in (5, 10) and end >= 0:
                self._tensor(begin, end)
            elif number in (6, 11) and end >= 0:
                self._graph(begin, end, depth + 1)

    def _tensor(self, start: int, stop: int) -> None:
        dims: list[int] = []
        kind, raw, outside = 0, None, False
        entries: dict[bytes, bytes] = {}
        for number, begin, end in self._fields(start, stop):
            if number == 1:
                dims += [begin] if end < 0 else self._packed(begin, end)
            elif number == 2:
                kind = begin
            elif number == 9 and end >= 0:
                raw = end - begin
            elif number == 13 and end >= 0:
                entries.update([self._entry(begin, end)])
            elif number == 14:
                outside = begin == EXTERNAL
        self._check(dims, kind, raw if not outside else self._outside(entries), stop - start)

    def _check(self, dims: list[int], kind: int, raw: int | None, length: int) -> None:
        if len(dims) > 16 or any(not 0 <= side < 2**40 for side in dims):
            raise _Lie("a tensor's shape is no shape")
        count = math.prod(dims)
        if raw is None:  # numbers one by one, of at least a byte each
            if kind != 8 and count > length * 8:
                raise _Lie(f"a tensor of the shape {dims} has {length} bytes")
        elif kind not in BITS or (count * BITS[kind] + 7) // 8 != raw:
            raise _Lie(f"a tensor of the shape {dims} has {raw} bytes")
        self._found.weights += raw or length
        if self._found.weights > self._limit:
            raise _Lie(f"its weights have more than {self._limit} bytes, the setting onnx.max_model_mb")

    def _outside(self, entries: dict[bytes, bytes]) -> int:
        """The bytes of a tensor in another file; that must lie beside this one and be long enough."""
        name = entries.get(b"location", b"").decode("utf-8", "replace")
        file = self._path.parent / name
        beside = (
            self._path.parent.resolve(),
            self._path.resolve().parent,
        )  # in the hub's cache both are links to blobs
        if not name or Path(name).name != name or not file.is_file() or file.resolve().parent not in beside:
            raise _Lie(f"the file {name[:80]!r} with some of its weights is not beside it")
        size = file.stat().st_size
        offset, length = (entries.get(key, default) for key, default in ((b"offset", b"0"), (b"length", b"")))
        if not (offset.isdigit() and (length.isdigit() or not length)) or len(offset) + len(length) > 40:
            raise _Lie("the place of a tensor in another file is no place")
        start = int(offset)
        count = int(length) if length else size - start
        if start + count > size or count < 0:
            raise _Lie(f"{name[:80]} is too short")
        self._found.external.add(name)
        return count

    def _entry(self, start: int, stop: int) -> tuple[bytes, bytes]:
        found = {number: self._data[begin : min(end, begin + 4096)] for number, begin, end in self._fields(start, stop)}
        return found.get(1, b""), found.get(2, b"")

    def _fields(self, at: int, stop: int) -> Iterator[_Field]:
        while at < stop:
            tag, at = self._varint(at, stop)
            number, wire = tag >> 3, tag & 7
            if wire == 0:
                value, at = self._varint(at, stop)
                yield number, value, -1
                continue
            if wire == 2:
                length, at = self._varint(at, stop)
            elif wire in (1, 5):
                length = 8 if wire == 1 else 4
            else:
                raise _Lie("it is no protobuf")
            if length > stop - at:
                raise _Lie(f"a part claims {length} bytes, {stop - at} are there")
            if wire == 2:
                yield number, at, at + length
            at += length

    def _packed(self, at: int, stop: int) -> list[int]:
        found = []
        while at < stop:
            value, at = self._varint(at, stop)
            found.append(value)
            if len(found) > 16:
                raise _Lie("a tensor has too many dimensions")
        return found

    def _varint(self, at: int, stop: int) -> tuple[int, int]:
        value = shift = 0
        while at < stop and shift < 70:
            byte = self._data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise _Lie("it is cut")
