"""From stored bytes to clean text: limits, encodings, and the refusal of binary files.

Everything here is given bytes by strangers. A refusal is a ValidationFailed whose sentence never names a path.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from paddock.contracts.base import Json
from paddock.contracts.providers import Source
from paddock.errors import FieldError, ValidationFailed

MAX_BYTES = 256 * 1024 * 1024  # a text file is held in memory whole, with its chunks beside it
MAX_VALUE = 1000  # characters of one metadata value
MAX_VALUES = 100  # items of one metadata list

ChunkSize = Annotated[int, msgspec.Meta(ge=100, le=50_000, description="characters of a chunk")]
ChunkOverlap = Annotated[int, msgspec.Meta(ge=0, le=5_000, description="characters repeated from the chunk before")]
Encoding = Annotated[str, msgspec.Meta(max_length=40, description="a codec name, or auto")]

# Control characters other than tab, line ends and form feed; lone surrogates, which no database takes.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
_UNTRUSTED_CODECS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"})
_BOMS = (  # UTF-32's begins with UTF-16's: longest first
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (
    (b"%PDF-", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive or Office document"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"GGUF", "a GGUF model"),
)


def refuse(reason: str) -> ValidationFailed:
    """The error for a file that can't be read; the caller names the file."""
    return ValidationFailed(f"the file {reason}")


def read_bytes(source: Source) -> bytes:
    """All bytes. Raises ValidationFailed for an empty file and for one over 256 MiB."""
    if source.path.stat().st_size > MAX_BYTES:
        raise refuse(f"is larger than {MAX_BYTES // 1024**2} MiB of text: split it")
    data = source.path.read_bytes()
    if not data.strip(b" \t\r\n\x0b\x0c"):
        raise refuse("is empty")
    return data


def read_text(source: Source, encoding: str) -> tuple[str, str]:
    """The text and the name of the encoding that fitted. Raises ValidationFailed: empty, binary, not in `encoding`."""
    data = read_bytes(source)
    text, used = decode(data, encoding)
    text = clean(text)
    if not text.strip():
        raise refuse("is empty")
    return text, used


def decode(data: bytes, encoding: str) -> tuple[str, str]:
    """Decode; ``auto`` looks for a BOM, then UTF-16 without one, then UTF-8, then the western single-byte encodings."""
    kind = next((name for magic, name in _MAGIC if data.startswith(magic)), None)
    if kind:
        raise refuse(f"is {kind}, not text: use a parser for that type")
    used = _guess(data) if encoding.lower() == "auto" else encoding
    bom = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if bom == "utf-8-sig" and codecs.lookup(used).name == "utf-8":
        used = bom
    try:
        text = data.decode(used)
    except (UnicodeError, LookupError) as error:
        hint = f"; it looks like {_guess(data)}" if encoding.lower() != "auto" else ""
        where = f" at byte {error.start}" if isinstance(error, UnicodeDecodeError) else ""
        raise refuse(f"is not valid {encoding}{where}{hint}: set encoding, or encoding: auto") from error
    _refuse_binary(text)
    return text, "utf-8" if used == "utf-8-sig" else used


def _guess(data: bytes) -> str:
    bom = next((name for mark, name in _BOMS if data.startswith(mark)), None)
    if bom:
        return bom
    head = data[:4096]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) >= 4 and max(even, odd) > len(head) // 5 and min(even, odd) <= len(head) // 50:
        return "utf-16-le" if odd > even else "utf-16-be"
    for name in ("utf-8", "cp1252"):
        try:
            data.decode(name)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def _refuse_binary(text: str) -> None:
    head = text[:65_536]
    if "\x00" in head:
        raise refuse("holds NUL bytes: it is binary, not text")
    if len(_UNPRINTABLE.findall(head)) > max(2, len(head) // 20):
        raise refuse("is mostly control characters: it is binary, not text")


def clean(text: str) -> str:
    """Without control characters, and with U+FFFD for lone surrogates: text that every store takes."""
    if not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub(lambda match: "\ufffd" if match[0] >= "\ud800" else "", text)


def value(thing: Any) -> Json:
    """A metadata value: a scalar, or a list of scalars, of bounded length; None for anything else."""
    if isinstance(thing, (list, tuple)):  # never lists of lists: YAML's aliases can nest them without end
        return [item for item in map(_scalar, thing[:MAX_VALUES]) if item is not None]
    return _scalar(thing)


def _scalar(thing: Any) -> Json:
    if thing is None or isinstance(thing, bool):
        return thing
    if isinstance(thing, (int, float)):
        return thing if abs(thing) < 2**53 else (hex(thing) if isinstance(thing, int) else repr(thing))[:MAX_VALUE]
    if isinstance(thing, str):
        return clean(thing[:MAX_VALUE])
    return thing.isoformat() if hasattr(thing, "isoformat") else None


def check_encoding(name: str, field: str = "encoding") -> None:
    """Raises ValidationFailed for a codec that does not exist or does not decode text."""
    if name.lower() == "auto":
        return
    try:
        known = codecs.lookup(name).name
        with suppress(UnicodeError):  # one byte is no UTF-16, but only a codec that is not for text raises LookupError
            b"0".decode(name)
    except (LookupError, ValueError) as error:
        raise ValidationFailed.of(
            [FieldError(field, f"unknown encoding {name!r}: use auto, utf-8, latin-1 …")]
        ) from error
    if known.replace("_", "-") in _UNTRUSTED_CODECS:
        raise ValidationFailed.of(
            [FieldError(field, f"{name} is not an encoding of files: use auto, utf-8, latin-1 …")]
        )


def check_overlap(config: Any) -> None:
    """Raises ValidationFailed when the overlap leaves no room for new text."""
    if config.chunk_overlap >= config.chunk_size:
        reason = f"must be smaller than chunk_size ({config.chunk_size})"
        raise ValidationFailed.of([FieldError("chunk_overlap", reason)])


def idle(config: Any, only_with: str, fields: Iterable[str], strategies: Iterable[str]) -> list[str]:
    """Warnings for `fields` that differ from their default although the chunk strategy makes no use of them."""
    if config.chunk_strategy in strategies:
        return []
    fresh = type(config)()
    return [
        f"{name}: has an effect only with chunk_strategy {only_with}"
        for name in fields
        if getattr(config, name) != getattr(fresh, name)
    ]
