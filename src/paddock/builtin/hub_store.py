"""Writing into the model cache: a model of this machine is put together aside, and is then there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paddock.errors import BadRequest, ProviderUnavailable
from paddock.storage import replace_file
from paddock.storage.files import fsync_folder

MARKER = "paddock.json"  # beside the files of an imported model
WORK = ".import-"  # before the name of a folder under construction
LEFT = 24 * 3600.0  # seconds after which one was left by a crash


@contextmanager
def working_folder(root: Path) -> Iterator[Path]:
    """A folder on the cache's own disk to put a model together in, gone at the end. Raises ProviderUnavailable."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        _forget_leftovers(root)
        work = Path(tempfile.mkdtemp(prefix=WORK, dir=root))
    except OSError as error:
        raise ProviderUnavailable(f"the model cache can't be written: {error.strerror}") from error
    try:
        yield work
    except OSError as error:
        raise ProviderUnavailable(
            f"the model can't be stored ({error.strerror}): free some space in the model cache"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _forget_leftovers(root: Path) -> None:
    for folder in root.glob(f"{WORK}*"):
        if folder.stat().st_mtime < time.time() - LEFT:
            shutil.rmtree(folder, ignore_errors=True)


def default_name(folder: Path, source: Path) -> str:
    """The id of a snapshot of a hub cache, else the folder's own name."""
    parent = source.parent.parent.name
    if source.parent.name == "snapshots" and parent.startswith("models--"):
        return parent.removeprefix("models--").replace("--", "/")
    name = re.sub(r"[^A-Za-z0-9]+$|^[^A-Za-z0-9]+", "", re.sub(r"[^A-Za-z0-9._]+|-+", "-", folder.resolve().name))
    if not name:
        raise BadRequest("name the model with --name ORG/NAME: the folder's own name can't be one")
    return name[:96]


def digest_of(work: Path) -> str:
    """The sha256 of all files by their names."""
    digest = hashlib.sha256()
    for path in sorted(path for path in work.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(work)}\0".encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def store(folder: Path, work: Path, revision: str) -> tuple[Path, int]:
    """Move finished files into a model's folder of the cache as its current revision; returns where it is, and its bytes.
    An imported revision that it replaces is deleted; one that was downloaded stays."""
    size = 0
    for path in work.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
            size += path.stat().st_size
        else:
            fsync_folder(path)
    snapshots = folder / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    target = snapshots / revision
    if target.is_dir():  # the same import again
        shutil.rmtree(target)
    work.chmod(0o755)
    work.rename(target)
    fsync_folder(snapshots)
    replace_file(folder / "refs" / "main", revision.encode())
    for older in snapshots.iterdir():
        if older != target and (older / MARKER).is_file():
            shutil.rmtree(older, ignore_errors=True)
    return target, size
