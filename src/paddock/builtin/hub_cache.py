"""The model cache on disk: the layout of the Hugging Face hub, so that other tools share it. Reading only.

::

    models--ORG--NAME/refs/main               the commit that `main` was
                      blobs/ETAG              bytes, named by their sha256 (large files) or git sha1
                      snapshots/COMMIT/…      the files of a commit: links into blobs, or files themselves (imported models)

Nothing outside of the cache's folder is ever reached through a link in it. Every method does file I/O: call it in a thread.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from paddock.builtin.model_names import ModelName, Quantization, choose, parse_model, quantizations
from paddock.contracts.base import Json
from paddock.errors import BadName, ModelNotFound

PREFIX = "models--"
PARTIAL = ".incomplete"
RESERVE = 100 * 1024 * 1024  # bytes of free space that no model may take: the state database needs them


class CachedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A repository of which at least one file is whole. Size in bytes, each blob once; modified in seconds since 1970;
    `revisions` are refs (``main``), or commits that no ref names."""

    repo: str
    folder: Path
    size: int
    modified: float
    revisions: tuple[str, ...]

    def details(self) -> dict[str, Json]:
        """The keys of an item of ``GET /v1/models``."""
        moment = datetime.fromtimestamp(int(self.modified), UTC)
        return {
            "model_id": self.repo,
            "size_bytes": self.size,
            "size_human": short_size(self.size),
            "last_modified": moment.isoformat().replace("+00:00", "Z"),
            "revisions": list(self.revisions),
            "path": str(self.folder),
        }


class HubCache:
    """One cache folder, which need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, repo: str) -> Path:
        """Where a repository is, or would be. Raises BadName for what can't be a repository's name."""
        return self.root / (PREFIX + parse_model(repo).repo.replace("/", "--"))

    def resolve(self, name: str) -> ModelName:
        """A model as people write it, short names of sentence-transformers completed unless cached as they are."""
        plain = parse_model(name)
        return plain if self.folder(plain.repo).is_dir() else plain.completed()

    def snapshots(self, repo: str) -> list[Path]:
        """The folders of the revisions of which any file is whole: that of ``main`` first, then the newest first."""
        folder = self.folder(repo)
        main = self._ref(folder, "main")
        found = [path for path in self._snapshots(folder) if any(self._files(path))]
        return sorted(found, key=lambda path: (path.name != main, -path.stat().st_mtime))

    def snapshot(self, repo: str, revision: str = "main") -> Path | None:
        """The folder of a revision's files, or None when none of it is whole; without a ref ``main`` it is the newest."""
        found = self.snapshots(repo)
        if revision == "main":
            return next(iter(found), None)
        commit = self._ref(self.folder(repo), revision) or revision
        return next((path for path in found if path.name == commit), None)

    def holds(self, model: str) -> bool:
        """Whether there is something of a model; of ``repo:QUANT`` whether it is whole."""
        name = self.resolve(model)
        return self.gguf(model) is not None if name.quantization else self.snapshot(name.repo) is not None

    def files(self, snapshot: Path) -> dict[str, Path]:
        """The whole files of a snapshot: name with slashes to path (inside the snapshot)."""
        return dict(sorted(self._files(snapshot)))

    def quantizations(self, snapshot: Path) -> list[Quantization]:
        """The GGUF quantizations of which every shard is here; `files` are names in the snapshot."""
        return quantizations({name: path.stat().st_size for name, path in self._files(snapshot)})

    def gguf(self, model: str) -> Path | None:
        """The GGUF file of ``repo:QUANT`` (the first of its shards; without QUANT the preferred one), or None."""
        name = self.resolve(model)
        for snapshot in self.snapshots(name.repo):
            chosen = choose(self.quantizations(snapshot), name.quantization)
            if chosen:
                return snapshot / chosen.files[0]
        return None

    def models(self) -> list[CachedModel]:
        """Every repository with a whole file, by name."""
        return sorted(filter(None, map(self._model, self._folders())), key=lambda model: model.repo)

    def model(self, repo: str) -> CachedModel | None:
        """One repository, or None when nothing of it is whole."""
        return self._model(self.folder(repo))

    def missing(self, model: str) -> ModelNotFound:
        """The error for a model that is not here: near names, and the command that fetches it."""
        return ModelNotFound(
            f"the model {model[:200]!r} is not in the cache{self.near(model)}: fetch it with `paddock models download "
            f"{model[:200]}`"
        )

    def near(self, model: str) -> str:
        """The cached models of a name like this one, in brackets behind a space; empty without any."""
        names = [found.repo for found in self.models()]
        near = difflib.get_close_matches(model.partition(":")[0], names, 3)
        return f" (near: {', '.join(near)})" if near else ""

    def _folders(self) -> Iterator[Path]:
        if self.root.is_dir():
            yield from (path for path in self.root.iterdir() if path.name.startswith(PREFIX))

    def _model(self, folder: Path) -> CachedModel | None:
        repo = folder.name.removeprefix(PREFIX).replace("--", "/", 1)
        try:
            if parse_model(repo).repo != repo:
                return None
        except BadName:  # somebody else's folder
            return None
        commits: list[str] = []
        sizes: dict[tuple[int, int], int] = {}
        modified = 0.0
        for snapshot in self._snapshots(folder):
            real = [path.stat() for _, path in self._files(snapshot)]
            sizes |= {(stat.st_dev, stat.st_ino): stat.st_size for stat in real}
            modified = max(modified, *(stat.st_mtime for stat in real), 0.0)
            if real:
                commits.append(snapshot.name)
        if not commits:
            return None
        return CachedModel(
            repo=repo,
            folder=folder,
            size=sum(sizes.values()),
            modified=modified,
            revisions=self._revisions(folder, commits),
        )

    def _revisions(self, folder: Path, commits: list[str]) -> tuple[str, ...]:
        named: dict[str, list[str]] = {}
        if self._inside(folder / "refs"):
            for path in sorted((folder / "refs").rglob("*")):
                name = path.relative_to(folder / "refs").as_posix()
                named.setdefault(self._ref(folder, name) or "", []).append(name)
        return tuple(name for commit in sorted(commits) for name in named.get(commit, [commit]))

    def _ref(self, folder: Path, name: str) -> str | None:
        """The commit that a ref names, or None."""
        path = folder / "refs" / name
        if not path.is_file() or not self._inside(path):
            return None
        with path.open(encoding="ascii", errors="replace") as source:
            return source.read(64).strip()

    def _snapshots(self, folder: Path) -> list[Path]:
        parent = folder / "snapshots"
        if not parent.is_dir() or not self._inside(parent):
            return []
        return [path for path in sorted(parent.iterdir()) if path.is_dir() and not path.is_symlink()]

    def _files(self, snapshot: Path) -> Iterator[tuple[str, Path]]:
        for parent, _, names in os.walk(snapshot):
            for name in names:
                path = Path(parent, name)
                if not name.endswith(PARTIAL) and path.is_file() and (not path.is_symlink() or self._inside(path)):
                    yield path.relative_to(snapshot).as_posix(), path

    def _inside(self, path: Path) -> bool:
        """Whether a path, links followed, is in the cache."""
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root))


def short_size(size: int) -> str:
    """As the list of models shows it: ``90MB``, decimal."""
    value, unit = _scaled(size, 1000)
    return f"{value:.1f}".removesuffix(".0") + unit


def long_size(size: int) -> str:
    """As the list of quantizations shows it: ``1.75 GB``, in powers of 1024."""
    value, unit = _scaled(size, 1024)
    return f"{round(value, 2)} {unit}"


def _scaled(size: int, base: int) -> tuple[float, str]:
    units = ("B", "KB", "MB", "GB", "TB")
    power = 0
    while power < len(units) - 1 and size >= base ** (power + 1):
        power += 1
    return size / base**power, units[power]
