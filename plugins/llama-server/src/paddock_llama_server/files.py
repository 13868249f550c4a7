"""Which GGUF files there are: in the model folders, and in Hugging Face's cache, where ``repo:QUANT`` names one."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from paddock.builtin.model_names import PREFERRED, UNKNOWN, is_companion, quantization_of
from paddock.contracts.base import Json
from paddock.errors import BadRequest, ModelNotFound
from paddock_llama_server.gguf import NotGguf, probe
from paddock_llama_server.options import file_values
from paddock_llama_server.tools import ModelFileMissing

SETTING = "llama_server.model_dirs"
FRESH = 2.0  # seconds for which a look into the folders holds
DEPTH = 6  # of folders in a model folder

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.gguf", re.IGNORECASE)


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A model's file, its first one when it is in parts; `id` is ``repo:QUANT`` in the hub cache, else the file's name.
    `size` of all parts in bytes, `modified` in seconds since 1970."""

    id: str
    path: Path
    size: int
    modified: float
    repo: str | None = None
    quant: str | None = None


class ModelFiles:
    """The files of the folders that the settings name. All methods may block on a slow disk."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders
        self._found: list[ModelFile] = []
        self._looked = -FRESH
        self._changes = 0

    def all(self) -> list[ModelFile]:
        """Every model, by id; of one id the newest file."""
        if time.monotonic() - self._looked >= FRESH:
            changes = self._changes
            found: dict[str, ModelFile] = {}
            for one in self._walk():
                known = found.get(one.id)
                if known is None or known.modified < one.modified:
                    found[one.id] = one
            self._found = sorted(found.values(), key=lambda one: one.id)
            if changes == self._changes:  # else something came while another thread looked
                self._looked = time.monotonic()
        return self._found

    def forget(self) -> None:
        """Look anew the next time."""
        self._changes += 1
        self._looked = -FRESH

    def _walk(self) -> Iterator[ModelFile]:
        seen: set[Path] = set()
        for folder in self.folders:
            for path in _ggufs(folder, DEPTH):
                if path not in seen:
                    seen.add(path)
                    with contextlib.suppress(OSError):
                        found = _model(path)
                        if found is not None:
                            yield found

    def find(self, name: str, *, closed: bool) -> Path:
        """The file of ``repo:QUANT``, ``repo``, a file's name with or without .gguf, or a path.

        Raises ModelNotFound with near names, BadRequest for a path outside the folders when callers have keys (`closed`).
        """
        if name.endswith(".gguf") and "/" in name and Path(name).is_absolute():
            self.permit(Path(name), closed=closed)
            if Path(name).is_file():
                return Path(name)
        known = self.all()
        fitting = [one for one in known if name in (one.id, one.path.name, one.path.name.removesuffix(".gguf"))]
        fitting = fitting or sorted((one for one in known if one.repo == name), key=_preference)
        if not fitting:
            near = difflib.get_close_matches(name, [one.id for one in known], 3, 0.4)
            hint = f"near names: {', '.join(near)}" if near else "put its GGUF file into a model folder: see " + SETTING
            raise ModelNotFound(f"there is no model {name[:200]!r}; {hint}")
        return fitting[0].path

    def permit(self, path: Path, *, closed: bool) -> None:
        """Raise BadRequest for a path outside the folders when callers have keys. Links count as what they lead to."""
        real = path.resolve()
        if closed and not any(real.is_relative_to(folder.resolve()) for folder in self.folders):
            raise BadRequest(f"{path} is outside the model folders: move it there, or add its folder to {SETTING}")

    def check(self, options: Mapping[str, Json], extra_args: Sequence[str], *, closed: bool) -> None:
        """What can be seen before a start: every file that is named may be named, is there and is readable, and a model's
        header is sound. Raises ModelFileMissing, BadRequest."""
        for option, value in file_values(options, extra_args):
            path = Path(value)
            self.permit(path, closed=closed)
            if option in READ:
                _readable(option, path)
            if option in MODELS:
                _sound(path)
                for part in parts(path):
                    _readable(option, part)


MODELS = frozenset({"model", "model_draft", "model_vocoder", "mmproj"})
READ = MODELS | {"lora", "lora_scaled", "control_vector", "control_vector_scaled", "chat_template_file", "grammar_file"}


def _readable(option: str, path: Path) -> None:
    if not path.is_file():
        raise ModelFileMissing(f"{option}: there is no file {path}")
    if not os.access(path, os.R_OK):
        raise ModelFileMissing(f"{option}: the file {path} can't be read: check its permissions")


def _sound(path: Path) -> None:
    try:
        probe(path)
    except NotGguf as error:
        raise ModelFileMissing(f"{path} is no usable GGUF file: {error}") from error
    except OSError as error:
        raise ModelFileMissing(f"the file {path} can't be read: {error.strerror}") from error


def parts(path: Path) -> list[Path]:
    """All files of a model in parts, by the name of one of them; the file alone when it is whole."""
    shard = _SHARD.fullmatch(path.name)
    if shard is None:
        return [path]
    total = int(shard["total"])
    return [path.with_name(f"{shard['stem']}-{number:05}-of-{shard['total']}.gguf") for number in range(1, total + 1)][
        :1000
    ]


def _ggufs(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if entry.name.lower().endswith(".gguf"):
            yield Path(entry.path)
        elif depth and entry.name not in ("blobs", "refs", ".locks") and entry.is_dir():
            yield from _ggufs(Path(entry.path), depth - 1)


def _model(path: Path) -> ModelFile | None:
    """The model of a file; None for a part that is not the first, a companion, and what is no file."""
    shard = _SHARD.fullmatch(path.name)
    if is_companion(path.name) or (shard and int(shard["number"]) != 1) or not path.is_file():
        return None
    files = [part for part in parts(path) if part.is_file()]
    stem = shard["stem"] if shard else path.name[: -len(".gguf")]
    stated = quantization_of(stem)
    quant = None if stated == UNKNOWN else stated
    repo = _repo(path)
    return ModelFile(
        id=f"{repo}:{quant}" if repo and quant else path.name,
        path=path,
        size=sum(part.stat().st_size for part in files),
        modified=path.stat().st_mtime,
        repo=repo,
        quant=quant,
    )


def _repo(path: Path) -> str | None:
    """``org/name`` of a file in ``models--org--name/snapshots/REVISION/…``."""
    at = list(path.parts)
    for number, part in enumerate(at[:-3]):
        if part.startswith("models--") and at[number + 1] == "snapshots":
            return part.removeprefix("models--").replace("--", "/")
    return None


def preferred(models: Sequence[ModelFile]) -> dict[str, str]:
    """The id of the file that ``repo`` alone means, for each repository."""
    return {one.repo: one.id for one in sorted(models, key=_preference, reverse=True) if one.repo}


def _preference(one: ModelFile) -> tuple[int, str]:
    return PREFERRED.index(one.quant) if one.quant in PREFERRED else len(PREFERRED), one.id
