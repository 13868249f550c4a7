"""Reading safetensors files. A file whose header does not fit its bytes is refused before anything is allocated for it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from paddock.errors import ValidationFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

HEADER = 16 * 1024 * 1024  # bytes that a header may have
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = ("F64", "F32", "F16", "BF16")


class Entry(msgspec.Struct, frozen=True):
    """One tensor of the header: offsets in bytes from the header's end."""

    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class TensorFile:
    """The tensors of one file, read when they are asked for.

    Raises ValidationFailed for a file that is cut, or whose header lies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start, self._entries = read_header(path)

    def names(self) -> Iterator[str]:
        """The names of all tensors."""
        return iter(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._entries[name].shape)

    def array(self, name: str) -> Array:
        """A tensor as float32. Raises ValidationFailed for whole numbers, NaN and infinity."""
        import numpy as np  # noqa: PLC0415  heavy: on first use

        entry = self._entries[name]
        if entry.dtype not in FLOATS:
            raise ValidationFailed(f"{self._path.name}: the tensor {name[:80]} holds {entry.dtype}, no floating point")
        begin, end = entry.data_offsets
        with self._path.open("rb") as file:
            file.seek(self._start + begin)
            data = file.read(end - begin)
        if len(data) != end - begin:
            raise ValidationFailed(f"{self._path.name} was cut while it was read: copy it again")
        found = _as_float32(data, entry.dtype).reshape(entry.shape)
        if not bool(np.isfinite(found).all()):
            raise ValidationFailed(f"{self._path.name}: the tensor {name[:80]} holds NaN or infinity")
        return found


def _as_float32(data: bytes, dtype: str) -> Array:
    import numpy as np  # noqa: PLC0415  heavy: on first use

    if dtype == "BF16":
        return (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    return np.frombuffer(data, dtype=kinds[dtype]).astype(np.float32)


def read_header(path: Path) -> tuple[int, dict[str, Entry]]:
    """Where the data begins, and the tensors. Raises ValidationFailed unless every offset, shape and size fits the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise ValidationFailed(f"{path.name} is no safetensors file: it is too short")
        (length,) = struct.unpack("<Q", first)
        if length > min(HEADER, size - 8):
            raise ValidationFailed(f"{path.name} is no safetensors file: its header claims {length} bytes")
        raw = file.read(length)
    return 8 + length, _checked(path.name, raw, size - 8 - length)


def _checked(name: str, raw: bytes, room: int) -> dict[str, Entry]:
    try:
        header = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        entries = {key: msgspec.json.decode(value, type=Entry) for key, value in header.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValidationFailed(f"{name} is no safetensors file: its header can't be read ({error})") from error
    reached = 0
    for key, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        if problem := _problem(entry, reached, room):
            raise ValidationFailed(f"{name}: the header lies about the tensor {key[:80]!r}: {problem}")
        reached = entry.data_offsets[1]
    return entries


def _problem(entry: Entry, reached: int, room: int) -> str | None:
    begin, end = entry.data_offsets
    if entry.dtype not in SIZES:
        return f"unknown type {entry.dtype[:20]!r}"
    if any(side < 0 for side in entry.shape) or len(entry.shape) > 8:
        return "its shape is no shape"
    if not 0 <= begin <= end <= room:
        return f"bytes {begin} to {end} of {room}"
    if begin < reached:
        return "it overlaps another one"
    if math.prod(entry.shape) * SIZES[entry.dtype] != end - begin:
        return f"shape {entry.shape} does not have {end - begin} bytes"
    return None


class Weights:
    """The tensors of a model that may be split over several files; names without the model's own prefix."""

    def __init__(self, folder: Path) -> None:
        self._by_name = {name: file for file in _files(folder) for name in file.names()}

    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._by_name)

    def array(self, name: str) -> Array:
        """A tensor as float32; older names of layer norms count too. Raises ValidationFailed naming a missing one."""
        file = self._by_name.get(name)
        if file is None:
            raise ValidationFailed(f"the model lacks the tensor {name}: its files do not belong to its config.json")
        return file.array(name)


def _files(folder: Path) -> list[TensorFile]:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [TensorFile(folder / "model.safetensors")]
    try:
        found = msgspec.json.decode(index.read_bytes(), type=Index)
    except msgspec.DecodeError as error:
        raise ValidationFailed(f"{index.name} can't be read: {error}") from error
    names = sorted(set(found.weight_map.values()))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ValidationFailed(f"{index.name} names the file {name[:80]!r}, which is not beside it")
    return [TensorFile(folder / name) for name in names]


class Index(msgspec.Struct):
    """The part of ``model.safetensors.index.json`` that is read: file by tensor."""

    weight_map: Mapping[str, str]
