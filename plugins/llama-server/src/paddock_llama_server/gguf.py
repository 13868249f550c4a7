"""What a GGUF file says about itself, read without trust: counts, lengths and offsets are held against the file's size."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any

import msgspec

MAGIC = b"GGUF"
VERSIONS = (2, 3)
BLOCK = 1024 * 1024
HEADER_LIMIT = 512 * 1024 * 1024  # large vocabularies take some ten million bytes
ENTRIES = 1_000_000  # metadata entries and tensors; real files have some hundred
DEPTH = 4  # of arrays in arrays
KEPT_TEXT = 64 * 1024

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9


class NotGguf(Exception):
    """The file is no GGUF file, or its header lies; the text says how."""


class Gguf(msgspec.Struct, frozen=True, kw_only=True):
    """A header: scalar and text metadata by name (arrays are left out), the number of tensors, the file's size in bytes."""

    version: int
    metadata: dict[str, Any]
    tensors: int
    size: int

    @property
    def architecture(self) -> str | None:
        """``llama``, ``qwen3``, …"""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else None

    @property
    def context_length(self) -> int | None:
        """The longest context that the model was trained for, in tokens."""
        value = self.metadata.get(f"{self.architecture}.context_length")
        return value if isinstance(value, int) else None


class _Reader:
    """Reads forward in blocks; never past the file's end, never more than `HEADER_LIMIT`."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self.size = size
        self.at = 0
        self._buffer = b""
        self._start = 0

    @property
    def left(self) -> int:
        """Bytes to the end of the file."""
        return self.size - self.at

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > self.left or self.at + count > HEADER_LIMIT:
            raise NotGguf(f"it says that {count} bytes follow at {self.at}, and the file has {self.size}")
        begin = self.at - self._start
        if begin + count > len(self._buffer):
            self._buffer = self._buffer[begin:] + self._file.read(max(BLOCK, count))
            self._start, begin = self.at, 0
            if count > len(self._buffer):
                raise NotGguf("the file became shorter while it was read")
        self.at += count
        return self._buffer[begin : begin + count]

    def number(self, form: str) -> Any:
        """One number."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> bytes:
        """A text: its length, then its bytes."""
        return self.take(self.number("<Q"))


def probe(path: Path) -> Gguf:
    """Read the header. Raises NotGguf for a file that is none or lies, OSError when it can't be read. May block."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        reader = _Reader(file, size)
        if reader.left < 24 or reader.take(4) != MAGIC:
            raise NotGguf("it does not begin like a GGUF file")
        version = reader.number("<I")
        if version not in VERSIONS:
            raise NotGguf(f"it is of version {version}; known are {VERSIONS[0]} and {VERSIONS[1]}")
        tensors, entries = reader.number("<Q"), reader.number("<Q")
        if max(tensors, entries) > ENTRIES:
            raise NotGguf(f"it says that it has {tensors} tensors and {entries} metadata entries")
        metadata = dict(filter(None, (_entry(reader) for _ in range(entries))))
        offsets = [_tensor(reader) for _ in range(tensors)]
        if offsets and reader.at + max(offsets) > size:
            raise NotGguf(
                f"a tensor begins at {reader.at + max(offsets)}, and the file has {size} bytes: it was cut off"
            )
    return Gguf(version=version, metadata=metadata, tensors=tensors, size=size)


def _entry(reader: _Reader) -> tuple[str, Any] | None:
    name = reader.text()[:KEPT_TEXT].decode("utf-8", "replace")
    kind = reader.number("<I")
    if kind == _ARRAY:
        _skip_array(reader, DEPTH)
        return None
    return name, _value(reader, kind)


def _value(reader: _Reader, kind: int) -> Any:
    if kind == _STRING:
        return reader.text()[:KEPT_TEXT].decode("utf-8", "replace")
    if kind not in _SCALARS:
        raise NotGguf(f"it has a value of the unknown type {kind}")
    return reader.number(_SCALARS[kind])


def _skip_array(reader: _Reader, depth: int) -> None:
    kind, count = reader.number("<I"), reader.number("<Q")
    if kind in _SCALARS:
        _skip(reader, struct.calcsize(_SCALARS[kind]) * count)
    elif kind not in (_STRING, _ARRAY) or not depth or count > reader.left // 8:
        raise NotGguf(f"it has an array of {count} values of type {kind}, which the file can't hold")
    else:
        for _ in range(count):
            _skip_array(reader, depth - 1) if kind == _ARRAY else reader.text()


def _skip(reader: _Reader, count: int) -> None:
    if count > reader.left:
        raise NotGguf(f"it says that {count} bytes follow at {reader.at}, and the file has {reader.size}")
    while count:
        count -= len(reader.take(min(count, BLOCK)))


def _tensor(reader: _Reader) -> int:
    """Where a tensor begins behind the header."""
    reader.text()
    dimensions = reader.number("<I")
    if dimensions > 8:
        raise NotGguf(f"a tensor has {dimensions} dimensions")
    reader.take(8 * dimensions + 4)
    return int(reader.number("<Q"))
