"""PathExtractor: file paths, the paths of web addresses, and S3 locations. It never looks at a disk."""

from __future__ import annotations

import ntpath
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from paddock.builtin.extractors.common import MAX_VALUE, TextExtractor
from paddock.builtin.extractors.links import blank, counted, urls, without_urls
from paddock.contracts.base import Json
from paddock.contracts.providers import Chunk, Document, TypeName
from paddock.errors import FieldError, ValidationFailed

_S3 = re.compile(
    r"\b(?:s3[an]?://|arn:aws:s3:::)([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/[^\s<>\"'`|]{0,300})?", re.IGNORECASE
)
_WINDOWS = re.compile(r"(?<![\w\\/])(?:[A-Za-z]:[\\/]|\\\\[\w.-]{1,60}\\)(?:[^\s\\/:*?\"<>|,;]{1,100}[\\/]?){1,30}")
_UNIX = re.compile(r"(?<![\w/:.~<-])(?:~|\.{1,2})?/(?:[\w.@+%=-]{1,100}/{1,3}){0,30}[\w.@+%=-]{1,100}/?")
_NAMED = re.compile(r"(?<![\w/\\:.@-])(?:[\w.+-]{1,100}/){1,20}[\w+-]{1,100}\.[A-Za-z][A-Za-z0-9]{0,7}(?![\w/])")


def file_path_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where Unix and Windows paths stand: absolute, relative with ``./`` or ``~/``, or a relative one that ends in ``.ext``."""
    if "/" not in text and "\\" not in text:
        return
    text = without_urls(_S3.sub(blank, text))
    for pattern in (_WINDOWS, _UNIX, _NAMED):
        for match in pattern.finditer(text):
            path = match[0].rstrip(".,;:!?)")
            if len(path) <= MAX_VALUE and any(char.isalpha() for char in path):
                yield match.start(), match.start() + len(path)


class PathConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of PathExtractor."""

    extract_file_paths: bool = True
    extract_urls: bool = True
    extract_s3_paths: bool = True
    validate_paths: bool = False
    normalize_paths: bool = True
    enabled: bool = True


class PathExtractor(TextExtractor):
    """``file_paths``, ``url_paths`` (the part behind the host) and ``s3_paths`` (``s3://bucket/key``), with counts.

    Normalising takes out ``//``, ``/./`` and ``/../`` and writes one form of each S3 location. ``validate_paths`` is
    refused: a file must not be able to ask what is on the server's disk.
    """

    types = (TypeName("PathExtractor", PathConfig),)

    def find(self, text: str, chunk: Chunk, document: Document, config: Any) -> dict[str, Json]:  # noqa: ARG002  the base's signature
        tidy = config.normalize_paths
        found: dict[str, Json] = {}
        if config.extract_file_paths:
            paths = (text[start:end] for start, end in file_path_spans(text))
            found |= counted("file_path", (_normal(path) if tidy else path for path in paths))
        if config.extract_urls:
            behind = (_behind_host(address) for address in urls(text))
            found |= counted("url_path", (posixpath.normpath(path) if tidy else path for path in behind if path))
        if config.extract_s3_paths:
            places = (f"s3://{match[1].lower()}{_key(match[2])}" if tidy else match[0] for match in _S3.finditer(text))
            found |= counted("s3_path", places)
        return found

    def warn(self, type_name: str, config: Any) -> Iterable[str]:  # noqa: ARG002  the contract's signature
        if config.validate_paths:
            reason = "paddock never looks for the paths that a file names: leave it false"
            raise ValidationFailed.of([FieldError("validate_paths", reason)])
        if not (config.extract_file_paths or config.extract_urls or config.extract_s3_paths):
            yield "extract_file_paths, extract_urls, extract_s3_paths: with all three false nothing is extracted"


def _normal(path: str) -> str:
    return ntpath.normpath(path) if "\\" in path or path[1:2] == ":" else posixpath.normpath(path)


def _behind_host(address: str) -> str:
    rest = address.partition("://")[2] or address
    return re.split(r"[?#]", "/" + rest.partition("/")[2], maxsplit=1)[0].rstrip("/")


def _key(path: str | None) -> str:
    return re.sub(r"/{2,}", "/", (path or "").rstrip(".,;:!?)")).rstrip("/")
