"""Making fetched blobs visible as the files of a commit, all at once; taking them away again; sweeping up after crashes.

Everything here does file I/O: call it in a thread.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from paddock.builtin.hub_cache import PARTIAL, PREFIX
from paddock.contracts.providers import Freed
from paddock.errors import Conflict
from paddock.storage.files import fsync_folder, replace_file
from paddock_hub.blobs import own_folder
from paddock_hub.selection import Selection, Wanted

TEMPORARY = ".paddock-"  # folders that are being made or deleted


def publish(folder: Path, chosen: Selection) -> None:
    """Show the files of a commit whose blobs are all here, then let ``main`` be that commit. Raises Conflict for links in
    the place of folders."""
    snapshots = own_folder(folder / "snapshots")
    snapshot = snapshots / chosen.commit
    if snapshot.is_symlink():
        raise Conflict(f"the snapshot {chosen.commit} of {chosen.repo} is a symbolic link: remove it")
    if not snapshot.exists():
        _publish_new(folder, snapshot, chosen.files)
    # The last shard first: a model is found by its first one, and so never with a shard missing.
    for file in sorted(chosen.files, key=lambda one: one.name, reverse=True):
        _link(snapshot, file)
    fsync_folder(snapshot)
    own_folder(folder / "refs")
    replace_file(folder / "refs" / "main", chosen.commit.encode())


def _publish_new(folder: Path, snapshot: Path, files: Iterable[Wanted]) -> None:
    """Make the whole snapshot under another name, and rename it."""
    made = folder / f"{TEMPORARY}{secrets.token_hex(6)}"
    made.mkdir()
    try:
        for file in files:
            _link(made, file)
        made.rename(snapshot)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        if not snapshot.is_dir():  # else another process was quicker
            raise
    fsync_folder(snapshot.parent)


def _link(snapshot: Path, file: Wanted) -> None:
    """The link of a file to its blob, in place of whatever has its name."""
    depth = file.name.count("/")
    text = f"{'../' * (depth + 2)}blobs/{file.etag}"
    link = snapshot / file.name
    parent = snapshot
    for part in file.name.split("/")[:-1]:
        parent = own_folder(parent / part)
    if link.is_symlink() and link.readlink() == Path(text):
        return
    temporary = parent / f"{TEMPORARY}{secrets.token_hex(6)}"
    temporary.symlink_to(text)
    temporary.replace(link)


def remove(folder: Path) -> Freed:
    """Delete a repository with all revisions; links are removed, never followed."""
    revisions = _count(folder / "snapshots")
    if folder.is_symlink():
        folder.unlink()
        return Freed(size=0, revisions=revisions, path=str(folder))
    freed = sum(_sizes(folder))
    hidden = folder.with_name(f"{TEMPORARY}{secrets.token_hex(6)}")
    folder.rename(hidden)  # gone at once, whatever happens now
    shutil.rmtree(hidden)
    locks = folder.parent / ".locks" / folder.name
    if not locks.is_symlink():
        shutil.rmtree(locks, ignore_errors=True)
    return Freed(size=freed, revisions=revisions, path=str(folder))


def remove_files(folder: Path, snapshots: Iterable[tuple[Path, Iterable[str]]]) -> Freed:
    """Delete files of snapshots, and the blobs that no other file needs; the repository too when nothing is left."""
    emptied = 0
    for snapshot, names in snapshots:
        for name in names:
            (snapshot / name).unlink()
        emptied += not any(path for path in snapshot.rglob("*") if path.is_symlink() or path.is_file())
    if emptied == _count(folder / "snapshots"):
        return remove(folder)
    return Freed(size=_sweep_blobs(folder), revisions=emptied, path=str(folder))


def _sweep_blobs(folder: Path) -> int:
    """Delete the blobs to which no link of a snapshot leads; returns the bytes."""
    blobs = folder / "blobs"
    needed = {path.readlink().name for path in (folder / "snapshots").rglob("*") if path.is_symlink()}
    freed = 0
    for blob in blobs.iterdir() if blobs.is_dir() and not blobs.is_symlink() else ():
        if blob.name not in needed and not blob.name.endswith(PARTIAL) and not blob.is_dir():
            freed += blob.lstat().st_size
            blob.unlink()
    return freed


def _count(snapshots: Path) -> int:
    return sum(path.is_dir() for path in snapshots.iterdir()) if snapshots.is_dir() else 0


def _sizes(folder: Path) -> Iterator[int]:
    """The bytes of every file that goes with a folder; links count nothing."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                yield path.lstat().st_size


def sweep(cache: Path, keep_hours: float) -> int:
    """Delete what crashes left: partial blobs and half-made folders older than that. Returns how many."""
    limit = time.time() - keep_hours * 3600
    swept = 0
    for path in leftovers(cache):
        try:
            if path.lstat().st_mtime > limit:
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            swept += 1
        except FileNotFoundError:  # somebody else's, and just finished
            continue
    return swept


def leftovers(cache: Path) -> Iterator[Path]:
    """Partial blobs and folders under a temporary name, not through links."""
    yield from cache.glob(f"{TEMPORARY}*")
    for folder in cache.glob(f"{PREFIX}*"):
        if folder.is_symlink():
            continue
        yield from folder.glob(f"{TEMPORARY}*")
        if not (folder / "blobs").is_symlink():
            yield from (folder / "blobs").glob(f"*{PARTIAL}")
