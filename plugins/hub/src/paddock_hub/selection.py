"""Which files of a repository are fetched, and what is checked before the first byte: names, hashes, sizes."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from paddock.builtin.model_names import ModelName, Quantization, choose, quantizations
from paddock.errors import BadRequest, ModelNotFound, TooLarge, UpstreamError
from paddock_hub.settings import HubSettings
from paddock_hub.wire import RepoInfo, Sibling

MAX_FILES = 10_000
WEIGHTS = (".safetensors", ".onnx", ".gguf")
_VARIANT = re.compile(r"((?:onnx/)?model)_[^/]+\.onnx(?:_data[^/]*)?")  # the same graph at another precision
_SHA1 = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A file to fetch: its name with slashes, the hash that names its bytes and how it is made, size in bytes."""

    name: str
    etag: str
    algorithm: Literal["sha256", "git"]
    size: int


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What is fetched of a repository's commit."""

    repo: str
    commit: str
    files: list[Wanted]

    @property
    def size(self) -> int:
        """In bytes, files of the same bytes once."""
        return sum({file.etag: file.size for file in self.files}.values())


def select(info: RepoInfo, model: ModelName, settings: HubSettings) -> Selection:
    """Choose and check. Raises ModelNotFound (no such quantization), BadRequest (nothing that paddock reads), TooLarge (the
    setting ``hub.max_bytes``), UpstreamError (a description that lies or walks the file tree)."""
    if not _SHA1.fullmatch(info.sha) or len(info.siblings) > MAX_FILES:
        raise UpstreamError(f"the hub's description of {model.repo} is not valid: check hub.endpoint", 502)
    files = [wanted(sibling) for sibling in info.siblings]
    _check_tree(files)
    chosen = Selection(repo=model.repo, commit=info.sha, files=_chosen(files, model, settings))
    if chosen.size > settings.max_bytes:
        raise TooLarge(
            f"{model} has {chosen.size} bytes; at most {settings.max_bytes} are fetched: the setting hub.max_bytes"
        )
    return chosen


def offered(info: RepoInfo) -> list[Quantization]:
    """The GGUF quantizations of a repository."""
    return quantizations({file.name: file.size for file in map(wanted, info.siblings)})


def wanted(sibling: Sibling) -> Wanted:
    """A file as the hub describes it, checked. Raises UpstreamError."""
    name = checked_name(sibling.rfilename)
    if sibling.lfs is not None and _SHA256.fullmatch(sibling.lfs.sha256) and sibling.lfs.size >= 0:
        return Wanted(name=name, etag=sibling.lfs.sha256, algorithm="sha256", size=sibling.lfs.size)
    if (
        sibling.lfs is None
        and sibling.size is not None
        and sibling.size >= 0
        and _SHA1.fullmatch(sibling.blob_id or "")
    ):
        return Wanted(name=name, etag=sibling.blob_id or "", algorithm="git", size=sibling.size)
    raise UpstreamError(f"the hub does not tell the size and hash of {name!r}: check hub.endpoint", 502)


def checked_name(name: str) -> str:
    """A file's name with slashes, if it can't leave its folder. Raises UpstreamError."""
    parts = name.split("/")
    fine = len(name) <= 1000 and len(parts) <= 16 and name.isprintable() and "\\" not in name
    if not fine or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise UpstreamError(f"the hub names a file {name[:100]!a}, which is not allowed: nothing was fetched", 502)
    return name


def _check_tree(files: list[Wanted]) -> None:
    """Raise UpstreamError when a name is both a file and a folder, or stands twice."""
    names = [file.name for file in files]
    folders = {
        "/".join(parts[:depth]) for name in names for parts in [name.split("/")] for depth in range(1, len(parts))
    }
    if len(set(names)) != len(names) or folders & set(names):
        raise UpstreamError("the hub names the same file twice: nothing was fetched", 502)


def _chosen(files: list[Wanted], model: ModelName, settings: HubSettings) -> list[Wanted]:
    ggufs = quantizations({file.name: file.size for file in files})
    if ggufs or model.quantization:
        one = choose(ggufs, model.quantization)
        if one is None:
            known = ", ".join(dict.fromkeys(found.quantization for found in ggufs)) or "none: it has no GGUF files"
            raise ModelNotFound(f"{model.repo} has no quantization {model.quantization}; it has {known}")
        return [file for file in files if file.name in one.files]
    names = {file.name for file in files}
    kept = [file for file in files if not _is_skipped(file.name, names, settings)]
    if len(kept) < len(files) and not any(file.name.endswith(WEIGHTS) for file in kept):
        raise BadRequest(
            f"{model.repo} has no weights as safetensors, ONNX or GGUF, the formats that are read; hub.skip leaves out the rest"
        )
    if not kept:
        raise BadRequest(f"{model.repo} is empty: nothing to fetch")
    return kept


def _is_skipped(name: str, names: set[str], settings: HubSettings) -> bool:
    variant = _VARIANT.fullmatch(name)
    twice = variant is not None and f"{variant[1]}.onnx" in names  # the plain one is what is run
    return twice or any(fnmatchcase(name.lower(), pattern) for pattern in settings.skip)
